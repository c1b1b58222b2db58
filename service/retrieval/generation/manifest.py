"""The manifest of a generation: what it holds, what embedded it, and the hash of each file.

A generation is named by the hash of its manifest, so that its name stands for all its bytes.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.fields import FieldKind
from service.retrieval.errors import GenerationError, quoted
from service.retrieval.relevance.background import Background
from service.retrieval.storage import artifact
from service.retrieval.storage.checksums import FileRecord
from service.retrieval.storage.schema import Document, JsonText, parse_document

FORMAT_VERSION = 2
# Far above what a machine holds; numbers of 20 digits do not fit into those of numpy.
MAX_ROWS, MAX_DIMENSION = 10**12, 10**6
MANIFEST, VECTORS, PASSAGES = "manifest.json", "vectors.faiss", "passages.arrow"
TEXTS, EMBEDDINGS = "texts.arrow", "embeddings.f32"  # read by the next update only
EVIDENCE = "evidence.arrow"  # only of an index that was built with it
IDENTIFIERS = "identifiers.u64"  # older generations have none


class EncoderRecord(Document):
    """The encoder that embedded a generation.

    `query_fingerprint` is that of the query side which answered the canary queries, where it is
    not the passage side's. Only an update needs `max_tokens` and `runtime`. `prompts` are those in
    force, by role, where they are not those of the encoder's folder.
    """

    fingerprint: JsonText
    max_tokens: int | None = None
    name: JsonText
    prompts: dict[JsonText, JsonText] | None = None
    query_fingerprint: JsonText | None = None
    runtime: JsonText | None = None

    @property
    def canary_fingerprint(self) -> str:
        """Return the fingerprint of the side that answered the canary queries."""
        return self.query_fingerprint or self.fingerprint


class ChunkingRecord(Document):
    """How long documents were split, as `Chunking` has it."""

    longest: int
    overlap: int
    tokens: int
    window: int | None = None

    @classmethod
    def of(cls, chunking: Chunking) -> "ChunkingRecord":
        """Return the record of how documents were split."""
        return cls(**asdict(chunking) | {"window": chunking.window or None})


class Canary(Document):
    """A query and the ids of the passages that the build found for it, best first."""

    query: JsonText
    passage_ids: list[JsonText]


def _check_required(files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    for name in (VECTORS, PASSAGES):
        if name not in files:
            raise ValueError(f"has no record of {name}")
    return files


class GenerationManifest(Document):
    """The content of `manifest.json`; `files` maps a file's name to its size and hash.

    `num_unembedded` counts passages that were left out, as the encoder gave no unit vector.
    `background` holds the scores of general questions; older generations have none.
    `chunking` is recorded if a document was split, or others would be than by default;
    `deduplicate` says that searches fold documents with equal texts.
    `num_documents` is recorded if one was split: `count` counts its chunks.
    """

    format_version: int
    encoder: EncoderRecord
    chunking: ChunkingRecord | None = None
    count: Annotated[int, Field(ge=0, le=MAX_ROWS)]
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
    metric: JsonText | None = None
    backend: JsonText
    factory: JsonText
    faiss_version: JsonText | None = None
    fields: dict[JsonText, FieldKind] = {}
    deduplicate: bool | None = None
    num_documents: Annotated[int, Field(ge=0, le=MAX_ROWS)] | None = None
    num_truncated: int | None = None
    num_unembedded: int | None = None
    canaries: list[Canary]
    background: Background | None = None
    files: Annotated[dict[JsonText, FileRecord], AfterValidator(_check_required)]

    def to_bytes(self) -> bytes:
        """Serialize the manifest: equal manifests give equal bytes."""
        return artifact.canonical_json(self.model_dump(mode="json", exclude_none=True))


def chunking_of(manifest: GenerationManifest, limit: int) -> Chunking:
    """Return how documents are split for a generation, by an encoder that reads `limit` tokens."""
    if manifest.chunking is None:
        return Chunking.of(limit)
    found = Chunking(**manifest.chunking.model_dump(exclude_none=True))
    is_late = found.window > 0
    if found == Chunking.of(manifest.encoder.max_tokens or limit, is_late=is_late):
        return Chunking.of(limit, is_late=is_late)
    return Chunking(
        min(found.tokens, limit), found.overlap, min(found.longest, limit), limit if is_late else 0
    )


def generation_name(manifest: bytes) -> str:
    """Return the name of a generation: the hash of its manifest, which holds all other hashes."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def parse_manifest(path: Path) -> GenerationManifest:
    """Read a manifest without comparing it with the generation's name.

    Raises:
        GenerationError: the file is missing, is not a manifest, or has another format version.
    """
    content = artifact.read_json_object(path, GenerationError)
    if content.get("format_version") != FORMAT_VERSION:
        raise GenerationError(
            f"{path} has format version {quoted(content.get('format_version'))}, this program "
            f"reads version {FORMAT_VERSION}: use the program that wrote it, or build again"
        )
    return parse_document(GenerationManifest, content, path, GenerationError, "build again")


def read_manifest(directory: Path) -> GenerationManifest:
    """Read the manifest of a generation and compare its hash with the generation's name.

    Raises:
        GenerationError: it is missing or altered, or has another format version.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise GenerationError(f"the generation {directory} is missing: build the index again")
    if not path.is_file():
        raise GenerationError(f"{path} is missing: restore it from a copy or build again")
    if generation_name(path.read_bytes()) != directory.name:
        raise GenerationError(f"{path} was altered: restore it from a copy or build again")
    return parse_manifest(path)
