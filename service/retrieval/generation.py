"""An index generation: immutable, checksummed, named by its manifest's hash, published by a rename.

INDEX/CURRENT                     the name of the live generation
INDEX/generations/<name>/         manifest.json, vectors.faiss, passages.arrow
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.retrieval import artifact
from service.retrieval.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.faiss import open_faiss_index
from service.retrieval.index.torch_flat import open_torch_flat
from service.retrieval.passage_table import PassageTable

FORMAT_VERSION = 1
MANIFEST, VECTORS, PASSAGES = "manifest.json", "vectors.faiss", "passages.arrow"
NAME = re.compile(r"[0-9a-f]{32}")


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
        name = (index / "CURRENT").read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise GenerationError(
            f"there is no index in {index}: build one with "
            f"`clear-service index build PASSAGES --index {index}`"
        ) from None
    if not NAME.fullmatch(name):
        raise GenerationError(
            f"{index / 'CURRENT'} does not hold the name of a generation: write one of the names "
            f"in {generations_directory(index)} into it, or build again"
        )
    return name


def verify_generation(directory: Path) -> dict[str, Any]:
    """Hold every file of a generation against its manifest, and the manifest against its name.

    Returns:
        The manifest.

    Raises:
        GenerationError: naming the file that is missing or altered.
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
    artifact.verify_files(directory, manifest["files"], GenerationError)
    return manifest


def open_generation(directory: Path, device: str = "cpu") -> Generation:
    """Verify a generation, then open it.

    Args:
        directory: the generation's folder.
        device: where the vectors are searched: `cpu`, `cuda`, `cuda:N`.

    Raises:
        GenerationError: it is altered, or its parts do not belong together.
        DeviceError: the device cannot be used.
    """
    return assemble(directory, verify_generation(directory), device)


def assemble(directory: Path, manifest: dict[str, Any], device: str = "cpu") -> Generation:
    """Open a generation's files, which must have been verified.

    Raises:
        GenerationError: its parts do not belong together.
        DeviceError: the device cannot be used.
    """
    vectors = _open_vectors(directory / VECTORS, str(manifest["factory"]), device)
    passages = PassageTable(directory / PASSAGES)
    expected = (manifest["count"], manifest["dimension"])
    if (vectors.count, vectors.embedding_dim) != expected or len(passages) != vectors.count:
        raise GenerationError(
            f"{directory} holds {vectors.count} vectors of {vectors.embedding_dim} and "
            f"{len(passages)} passages, its manifest says {expected[0]} of {expected[1]}: "
            "build again"
        )
    created = datetime.fromtimestamp((directory / VECTORS).stat().st_mtime, tz=UTC)
    return Generation(directory.name, created, manifest, vectors, passages)


def _open_vectors(path: Path, factory: str, device: str) -> VectorIndex:
    if factory == "Flat":
        # As exact as FAISS and quicker for a batch of queries; on a GPU embeddings stay there.
        return open_torch_flat(path, device)
    return open_faiss_index(path, device)


def open_current(index: Path, device: str = "cpu") -> Generation:
    """Open the live generation of an index."""
    return open_generation(generations_directory(index) / current_name(index), device)


def name_of(manifest: bytes) -> str:
    """Name a generation by its manifest, which holds the hash of all else."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def publish(directory: Path, index: Path) -> Path:
    """Make a finished, verified generation the live one.

    Args:
        directory: the finished folder, beside the generations.
        index: the index.

    Returns:
        The folder under its final name; where an equal, whole generation is there, that one.
    """
    name = name_of((directory / MANIFEST).read_bytes())
    target = generations_directory(index) / name
    if target.is_dir():
        try:
            verify_generation(target)
        except GenerationError:
            shutil.rmtree(target)
    if not target.is_dir():
        artifact.publish_directory(directory, target)
    artifact.replace_file(index / "CURRENT", f"{name}\n".encode())
    return target
