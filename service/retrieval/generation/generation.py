"""An index generation: immutable, checksummed, named by its manifest's hash; opened to be read.

INDEX/CURRENT                     the name of the live generation
INDEX/generations/<name>/         manifest.json, vectors.faiss, passages.arrow, texts.arrow and,
                                  where the index is not flat, embeddings.f32
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.retrieval.corpus.fields import NO_FIELDS
from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.open import open_vectors
from service.retrieval.index.options import IndexOptions
from service.retrieval.storage import artifact
from service.retrieval.storage.shape import Each, Maybe, misfit

FORMAT_VERSION = 2
CURRENT = "CURRENT"
MANIFEST, VECTORS, PASSAGES = "manifest.json", "vectors.faiss", "passages.arrow"
TEXTS, EMBEDDINGS = "texts.arrow", "embeddings.f32"  # for the next update
NAME = re.compile(r"[0-9a-f]{32}")
ON_CPU = IndexOptions()
# What is read of a manifest; a name that is its hash says nothing of who wrote it.
SHAPE = {
    "encoder": {"name": str, "fingerprint": str},
    "count": int,
    "dimension": int,
    "backend": str,
    "factory": str,
    "fields": Maybe(Each(str)),
    "canaries": [{"query": str, "passage_ids": [str]}],
    "files": Each({"size_bytes": int, "sha256": str}, required=(VECTORS, PASSAGES)),
}


@dataclass(frozen=True)
class Generation:
    """An open generation: row i of `passages` belongs to vector i of `vectors`."""

    name: str
    created: datetime
    manifest: dict[str, Any]
    vectors: VectorIndex
    passages: PassageTable

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder that did not embed this index.

        Raises:
            EncoderMismatchError: naming both fingerprints.
        """
        built_by = self.manifest["encoder"]
        if built_by["fingerprint"] != encoder.passage_fingerprint:
            raise EncoderMismatchError(
                f"the index was embedded by the encoder {built_by['name']} "
                f"(fingerprint {built_by['fingerprint'][:16]}), not by {encoder.name} "
                f"(passage side {encoder.passage_fingerprint[:16]}): set CLEAR_ENCODER to an "
                "encoder of that passage side, or build again with this one"
            )


def generations_directory(index: Path) -> Path:
    """Name the folder of an index's generations."""
    return index / "generations"


def current_name(index: Path) -> str:
    """Read which generation is live.

    Raises:
        GenerationError: there is no index, or CURRENT does not hold a generation's name.
    """
    try:
        name = (index / CURRENT).read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise GenerationError(
            f"there is no index in {index}: build one with "
            f"`clear-service index build PASSAGES --index {index}`"
        ) from None
    if not NAME.fullmatch(name):
        raise GenerationError(
            f"{index / CURRENT} does not hold the name of a generation: write one of the names "
            f"in {generations_directory(index)} into it, or build again"
        )
    return name


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read a generation's manifest and hold it against the generation's name.

    Raises:
        GenerationError: it is missing or altered, or of a format that this program can't read.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise GenerationError(f"the generation {directory} is missing: build the index again")
    if not path.is_file():
        raise GenerationError(f"{path} is missing: restore it from a copy or build again")
    if name_of(path.read_bytes()) != directory.name:
        raise GenerationError(f"{path} was altered: restore it from a copy or build again")
    manifest = artifact.read_json_object(path, GenerationError)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise GenerationError(
            f"{path} has format version {manifest.get('format_version')}, this program reads "
            f"version {FORMAT_VERSION}: use the program that wrote it, or build again"
        )
    if fault := misfit(manifest, SHAPE):
        raise GenerationError(f"{path}: {fault}: build again")
    return manifest


def verify_generation(directory: Path) -> dict[str, Any]:
    """Hold every file of a generation against its manifest, and the manifest against its name.

    Returns:
        The manifest.

    Raises:
        GenerationError: naming the file that is missing or altered.
    """
    manifest = read_manifest(directory)
    artifact.verify_files(directory, manifest["files"], GenerationError)
    return manifest


def open_generation(directory: Path, options: IndexOptions = ON_CPU) -> Generation:
    """Verify a generation, then open it.

    Args:
        directory: the generation's folder.
        options: which backend searches the vectors, and where.

    Raises:
        GenerationError: it is altered, or its parts do not belong together.
        DeviceError: the device cannot be used.
    """
    return assemble(directory, verify_generation(directory), options)


def assemble(
    directory: Path, manifest: dict[str, Any], options: IndexOptions = ON_CPU
) -> Generation:
    """Open a generation's files, which must have been verified.

    Raises:
        GenerationError: its parts do not belong together.
        DeviceError: the device cannot be used.
    """
    vectors = open_vectors(directory / VECTORS, manifest, options)
    passages = PassageTable(directory / PASSAGES, manifest.get("fields", NO_FIELDS))
    expected = (manifest["count"], manifest["dimension"])
    if (vectors.count, vectors.embedding_dim) != expected or len(passages) != vectors.count:
        raise GenerationError(
            f"{directory} holds {vectors.count} vectors of {vectors.embedding_dim} and "
            f"{len(passages)} passages, its manifest says {expected[0]} of {expected[1]}: "
            "build again"
        )
    created = datetime.fromtimestamp((directory / VECTORS).stat().st_mtime, tz=UTC)
    return Generation(directory.name, created, manifest, vectors, passages)


def open_current(index: Path, options: IndexOptions = ON_CPU) -> Generation:
    """Open the live generation of an index."""
    return open_generation(generations_directory(index) / current_name(index), options)


def name_of(manifest: bytes) -> str:
    """Name a generation by its manifest, which holds the hash of all else."""
    return hashlib.sha256(manifest).hexdigest()[:32]
