"""An index generation: an immutable folder, named by the hash of its manifest.

INDEX/CURRENT                     the name of the live generation
INDEX/calibration.json            the relevance of hits, if `index calibrate` made it
INDEX/generations/<name>/         manifest.json, vectors.faiss, passages.arrow, texts.arrow,
                                  identifiers.u64 and, where the index is not flat,
                                  embeddings.f32; evidence.arrow, if it was built with evidence
"""

import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from service.retrieval.checkpoint.checkpoint import Checkpoint
from service.retrieval.checkpoint.prompts.prompts import quoted_prompt
from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.evidence.table import EvidenceTable
from service.retrieval.generation.manifest import (
    PASSAGES,
    VECTORS,
    EncoderRecord,
    GenerationManifest,
    read_manifest,
)
from service.retrieval.generation.optional_files import (
    check_optional_files,
    open_evidence,
    open_identifiers,
)
from service.retrieval.generation.vectors import check_vectors
from service.retrieval.identifiers.index import IdentifierIndex, NoIdentifiers
from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.open import choose_backend, open_vectors
from service.retrieval.index.options import Backend, IndexOptions
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.choice import CALIBRATION, read_own_calibration
from service.retrieval.storage import checksums

CURRENT = "CURRENT"
NAME = re.compile(r"[0-9a-f]{32}")
ON_CPU = IndexOptions()


@dataclass(frozen=True)
class Generation:
    """An open generation: row i of `passages` belongs to vector i of `vectors`.

    `backend` is the one that searches the vectors; the manifest names the one that built them.
    `calibration` is that of the index, or the reason why it cannot be read, if it has one.
    `identifiers` finds passages by identifiers, or says why it cannot.
    """

    name: str
    created: datetime
    manifest: GenerationManifest
    backend: Backend
    vectors: VectorIndex
    passages: PassageTable
    calibration: Calibration | str | None = None
    evidence: EvidenceTable | None = None
    identifiers: IdentifierIndex | NoIdentifiers = field(default_factory=NoIdentifiers)

    def check_encoder(self, encoder: Encoder) -> None:
        """Check that an encoder's passage side embedded this index; raises as the function."""
        check_passage_side(self.manifest.encoder, encoder.checkpoint)


def check_passage_side(built_by: EncoderRecord, checkpoint: Checkpoint) -> None:
    """Check that an encoder's passage side embedded an index; only its files are needed.

    Raises:
        EncoderMismatchError: another passage side did: one with another prompt, with other files
            or settings, or of another encoder.
    """
    found = checkpoint.passage_fingerprint
    if built_by.fingerprint == found:
        return
    if difference := _prompt_difference(built_by, checkpoint):
        raise EncoderMismatchError(f"{difference}, or build again")
    if Path(built_by.name).absolute() == Path(checkpoint.name).absolute():
        raise EncoderMismatchError(
            f"the index was embedded by the encoder {built_by.name} as it was (fingerprint "
            f"{built_by.fingerprint[:16]}, now {found[:16]}): its files, CLEAR_POOLING or its "
            "truncation have changed since; restore them, or build again"
        )
    raise EncoderMismatchError(
        f"the index was embedded by the encoder {built_by.name} (fingerprint "
        f"{built_by.fingerprint[:16]}), not by {checkpoint.name} (passage side {found[:16]}): set "
        "CLEAR_ENCODER to an encoder of that passage side, or build again with this one"
    )


def query_prompt_warning(built_by: EncoderRecord, checkpoint: Checkpoint) -> str:
    """Return a line if an index records another prompt of queries, else an empty string."""
    setting, in_force = _query_setting(built_by, checkpoint), checkpoint.prompts.query
    return setting and (
        f"the index was built with another query prompt than the encoder {checkpoint.name} has, "
        f"{in_force}: set {setting} to search as it was built"
    )


def _query_setting(built_by: EncoderRecord, checkpoint: Checkpoint) -> str:
    """Return the setting of the recorded prompt of queries, if it is not the one in force."""
    built_with = (built_by.prompts or checkpoint.prompts.texts).get("query", "")
    is_other = built_with != checkpoint.prompts.query.text
    return f"CLEAR_QUERY_PROMPT='{quoted_prompt(built_with)}'" if is_other else ""


def _prompt_difference(built_by: EncoderRecord, checkpoint: Checkpoint) -> str | None:
    """Return which prompt of passages embedded an index and how to set it.

    It is None where more than the prompt differs.
    """
    built_with = (built_by.prompts or checkpoint.passage.prompts).get("passage", "")
    if checkpoint.passage_fingerprint_with(built_with) != built_by.fingerprint:
        return None
    settings = (
        _query_setting(built_by, checkpoint),
        f"CLEAR_PASSAGE_PROMPT='{quoted_prompt(built_with)}'",
    )
    return (
        f"the index was embedded with the passage prompt {quoted_prompt(built_with)}, the encoder "
        f"{checkpoint.name} has {checkpoint.prompts.passage}: "
        f"set {' and '.join(filter(None, settings))}"
    )


def generations_directory(index: Path) -> Path:
    """Return the folder of an index's generations."""
    return index / "generations"


def current_name(index: Path) -> str:
    """Read the name of the live generation.

    Raises:
        GenerationError: there is no index, or CURRENT does not hold a generation's name.
    """
    try:
        name = (index / CURRENT).read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise GenerationError(
            f"there is no index in {index}: build one with "
            f"`clear-service index build PASSAGES --index {shlex.quote(str(index))}`"
        ) from None
    if not NAME.fullmatch(name):
        raise GenerationError(
            f"{index / CURRENT} does not hold the name of a generation: write one of the names "
            f"in {generations_directory(index)} into it, or build again"
        )
    return name


def runtime_of(directory: Path) -> str | None:
    """Return the runtime that embedded a generation; None if its files do not say it."""
    try:
        return read_manifest(directory).encoder.runtime
    except GenerationError:
        return None


def verify_hashes(directory: Path) -> GenerationManifest:
    """Verify the manifest by the generation's name, and every file by its hash in the manifest.

    Returns:
        The manifest.

    Raises:
        GenerationError: a file is missing or altered; it is named.
    """
    manifest = read_manifest(directory)
    checksums.verify_files(directory, manifest.files, GenerationError)
    return manifest


def verify_generation(directory: Path) -> GenerationManifest:
    """Verify the hashes, that every vector is finite and of length 1, and the optional files.

    Returns:
        The manifest.

    Raises:
        GenerationError: as in `verify_hashes`, `check_vectors` and `check_optional_files`.
    """
    manifest = verify_hashes(directory)
    check_vectors(directory, manifest)
    PassageTable(directory / PASSAGES, manifest.fields).check()
    check_optional_files(directory, manifest)
    return manifest


def open_current(index: Path, options: IndexOptions = ON_CPU) -> Generation:
    """Verify and open the live generation of an index; errors as `open_generation` raises them."""
    return open_generation(generations_directory(index) / current_name(index), options)


def open_generation(directory: Path, options: IndexOptions = ON_CPU) -> Generation:
    """Verify a generation, then open it.

    Args:
        directory: the generation's folder.
        options: the backend that searches the vectors, and its device.

    Raises:
        GenerationError: a file is altered, a vector is invalid, or the files do not belong
            together.
        DeviceError: the device cannot be used.
    """
    return open_verified(directory, verify_generation(directory), options)


def open_verified(
    directory: Path, manifest: GenerationManifest, options: IndexOptions = ON_CPU
) -> Generation:
    """Open the files of a generation that was verified.

    Raises:
        GenerationError: the files do not belong together.
        DeviceError: the device cannot be used.
    """
    vectors = open_vectors(
        directory / VECTORS,
        options,
        factory=manifest.factory,
        count=manifest.count,
        embedding_dim=manifest.dimension,
        fields=manifest.fields,
    )
    passages = PassageTable(directory / PASSAGES, manifest.fields)
    expected = (manifest.count, manifest.dimension)
    if (vectors.count, vectors.embedding_dim) != expected or len(passages) != vectors.count:
        raise GenerationError(
            f"{directory} holds {vectors.count} vectors of {vectors.embedding_dim} and "
            f"{len(passages)} passages, its manifest says {expected[0]} of {expected[1]}: "
            "build again"
        )
    created = datetime.fromtimestamp((directory / VECTORS).stat().st_mtime, tz=UTC)
    backend = choose_backend(manifest.factory, options)
    calibration = read_own_calibration(directory.parent.parent / CALIBRATION)
    return Generation(
        *(directory.name, created, manifest, backend, vectors, passages, calibration),
        open_evidence(directory, manifest),
        open_identifiers(directory, manifest, passages),
    )
