"""Files of a generation that it may lack: evidence and identifiers."""

import logging
from collections.abc import Sequence
from pathlib import Path

from service.retrieval.corpus.table import PassageTable
from service.retrieval.errors import GenerationError
from service.retrieval.evidence.table import EvidenceTable
from service.retrieval.generation.manifest import (
    EVIDENCE,
    IDENTIFIERS,
    GenerationManifest,
    read_manifest,
)
from service.retrieval.generation.vectors import map_vectors
from service.retrieval.identifiers.index import IdentifierIndex, NoIdentifiers
from service.retrieval.identifiers.postings import Postings
from service.retrieval.storage.checksums import verify_files

logger = logging.getLogger(__name__)


def check_optional_files(directory: Path, manifest: GenerationManifest) -> None:
    """Check the evidence and the identifiers of a generation whose hashes were verified.

    Raises:
        GenerationError: as in `open_evidence` and `open_postings`.
    """
    open_evidence(directory, manifest)
    open_postings(directory, manifest)


def open_evidence(directory: Path, manifest: GenerationManifest) -> EvidenceTable | None:
    """Open the evidence of a generation whose hashes were verified; None if it has none.

    Raises:
        GenerationError: the file does not belong to the generation.
    """
    if EVIDENCE not in manifest.files:
        return None
    return EvidenceTable(directory / EVIDENCE, manifest.count, manifest.dimension)


def open_postings(directory: Path, manifest: GenerationManifest) -> Postings | None:
    """Open the postings of a generation whose hashes were verified; None if it has none.

    Raises:
        GenerationError: the file does not hold postings of the generation's passages.
    """
    if IDENTIFIERS not in manifest.files:
        return None
    return Postings(directory / IDENTIFIERS, manifest.count)


def open_identifiers(
    directory: Path, manifest: GenerationManifest, passages: PassageTable
) -> IdentifierIndex | NoIdentifiers:
    """Open the identifiers of a generation whose hashes were verified.

    They need its vectors as they were computed, and the background that is their unit.

    Raises:
        GenerationError: the file does not hold postings of the generation's passages.
    """
    postings, vectors = open_postings(directory, manifest), map_vectors(directory, manifest)
    if postings is None or vectors is None or manifest.background is None:
        return NoIdentifiers()
    return IdentifierIndex(postings, passages, vectors, manifest.background.spread)


def verify_but(
    directory: Path, replaceable: Sequence[str]
) -> tuple[GenerationManifest, GenerationManifest]:
    """Verify a generation's files; leave out damaged ones that the caller makes again.

    Args:
        directory: the generation's folder.
        replaceable: evidence, identifiers or both; one that is damaged is named in the log.

    Returns:
        The manifest, and the same without the records of the damaged files.

    Raises:
        GenerationError: another file is missing or damaged; it is named.
    """
    manifest = read_manifest(directory)
    files = dict(manifest.files)
    for name in replaceable:
        open_file = open_evidence if name == EVIDENCE else open_postings
        try:
            verify_files(directory, {name: files[name]} if name in files else {}, GenerationError)
            open_file(directory, manifest)
        except GenerationError as error:
            logger.warning("it is made again: %s", error)
            del files[name]
    others = {name: record for name, record in files.items() if name not in replaceable}
    verify_files(directory, others, GenerationError)
    usable = manifest.model_copy(update={"files": files})
    check_optional_files(directory, usable)
    return manifest, usable
