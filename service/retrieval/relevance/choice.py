"""Which calibration and background are in force, or why hits have no relevance."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.calibration import (
    Calibration,
    CalibrationError,
    calibration_of,
    checked,
    read_calibration,
)
from service.retrieval.relevance.model import relevances

CALIBRATION = "calibration.json"
DIGITS = 4
NO_BACKGROUND = "the index records no background of this query side: build or update it"


@dataclass(frozen=True, slots=True)
class Relevance:
    """The relevance of the hits of one encoder and index; `reason` says why there is none.

    `source` says whose calibration is in force.
    """

    calibration: Calibration | None
    background: Background | None
    source: Literal["index", "encoder"] | None
    reason: str = ""

    def of(self, scores: Sequence[float]) -> list[float] | None:
        """Return the relevance of each hit of a ranking; None if there is none."""
        if self.calibration is None or self.background is None:
            return None
        found = relevances(scores, self.background, self.calibration)
        return [round(value, DIGITS) for value in found]

    def describe(self) -> dict[str, object]:
        """Return what `/info` says of it."""
        return {"calibration": self.source, "reason": self.reason or None}


def choose_relevance(
    own: Calibration | str | None,
    facts: Mapping[str, Any],
    background: Background | None,
    fingerprint: str,
) -> Relevance:
    """Return the relevance in force: by the index's own calibration, if it has one.

    Else it is by the encoder's.

    Args:
        own: of the index, or the reason why it cannot be read; None if it has none.
        facts: of the manifest of the encoder's query side.
        background: of the index; one of another query side does not count.
        fingerprint: of the query side in force.
    """
    if isinstance(own, Calibration):
        own = checked(own, fingerprint, "the index's calibration")
    # One that cannot be used is not replaced by another: relevance would change unnoticed.
    found = calibration_of(facts, fingerprint) if own is None else own
    if isinstance(found, str):
        return Relevance(None, None, None, found)
    if background is None or background.fingerprint != fingerprint:
        return Relevance(found, None, None, NO_BACKGROUND)
    return Relevance(found, background, "encoder" if own is None else "index")


def read_own_calibration(path: Path) -> Calibration | str | None:
    """Read the calibration of an index; return the reason if it is damaged, None if missing."""
    if not os.path.lexists(path):
        return None
    try:
        return read_calibration(path)
    except CalibrationError as error:
        return str(error).replace(f"{path.parent}/", "")  # `/info` names no folder
