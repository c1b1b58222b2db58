"""A calibration: the weights that turn the scores of a ranking into probabilities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from service.retrieval.errors import ArtifactError
from service.retrieval.storage import artifact
from service.retrieval.storage.schema import Document, JsonText, parse_document, schema_violation

FIX = "fit it again with `clear-trainer calibrate`, or `clear-service index calibrate`"
PACKAGED = Path(__file__).parent / "calibrations"
# A fit gives weights up to 20; beyond these limits a logit could overflow.
MAX_WEIGHT = 1e6
MIN_SCALE = 1e-6
Number = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]
Five = Annotated[list[Number], Field(min_length=5, max_length=5)]
Two = Annotated[list[Number], Field(min_length=2, max_length=2)]


class CalibrationError(ArtifactError):
    """A calibration is missing or has another form."""

    how_to_restore = FIX


class Calibration(Document):
    """Weights of three logistic functions, for the queries of one encoder.

    `best` is for the best hit, `other` for the hits after it, `short` for rankings with too few
    hits. Scores are divided by `scale`, the spread of the scores of unrelated queries. What the
    calibration was fitted on and what it is worth are kept beside them.
    """

    format_version: Literal[1] = 1
    fingerprint: JsonText
    scale: Annotated[float, Field(ge=MIN_SCALE, le=2, allow_inf_nan=False)]
    best: Five
    other: Five
    short: Two


def read_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        CalibrationError: the file is missing or not a calibration.
    """
    content = artifact.read_json(path, CalibrationError)
    return parse_document(Calibration, content, path, CalibrationError, FIX)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration; an earlier one is replaced at once."""
    artifact.replace_file(path, artifact.canonical_json(calibration.model_dump(mode="json")))


def calibration_of(facts: Mapping[str, Any], fingerprint: str) -> Calibration | str:
    """Return an encoder's calibration, or the reason that it has none.

    Args:
        facts: of the manifest of the encoder's query side; `calibration` is the one it carries.
        fingerprint: of the query side in force.
    """
    if "calibration" not in facts:
        return packaged_calibration(fingerprint)
    try:
        found = Calibration.model_validate(facts["calibration"])
    except ValidationError as error:
        return f"`calibration` of the encoder's manifest: {schema_violation(error)}: {FIX}"
    return checked(found, fingerprint, "the encoder's calibration")


def packaged_calibration(fingerprint: str) -> Calibration | str:
    """Return the calibration that this program carries for a query side, or why there is none."""
    for path in sorted(PACKAGED.glob("*.json")):
        try:
            found = read_calibration(path)
        except CalibrationError as error:
            return str(error)
        if found.fingerprint == fingerprint:
            return found
    return (
        "the encoder has no calibration: fit one with `clear-trainer calibrate`, or for this "
        "index with `clear-service index calibrate`"
    )


def checked(found: Calibration, fingerprint: str, name: str) -> Calibration | str:
    """Return a calibration if it was fitted for a query side, else the reason against it."""
    if found.fingerprint == fingerprint:
        return found
    return (
        f"{name} was fitted for the query side {found.fingerprint[:16]}, the one in force is "
        f"{fingerprint[:16]}: {FIX}"
    )
