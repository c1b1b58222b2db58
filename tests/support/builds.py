"""Corpora, indexes and workers for tests of builds; workers import it, so it imports no pytest."""

import json
import os
import random
import shutil
from pathlib import Path

import faiss
import numpy as np

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.generation.generation import current_name, generations_directory
from service.retrieval.generation.manifest import generation_name
from service.retrieval.storage.artifact import canonical_json

Origins = list[tuple[str, Passage]]


# Splits nothing: the encoder cuts passages over its 64 tokens.
CUT = Chunking.of(64, 0)
MANY_WORDS = 60  # are more than the encoder reads


def corpus(seed: int, count: int = 60, most_words: int = 28) -> Origins:
    """Return passages of 1 to `most_words` words, some of them equal; those of 28 words fit."""
    dice = random.Random(seed)
    words = ["tea", "Nairobi", "mountain", "1707", "protein", "harp", "sun", "coast"]
    texts = [" ".join(dice.choices(words, k=dice.randint(1, most_words))) for _ in range(count)]
    return [(f"f:{row}", Passage(f"{row:04}", text)) for row, text in enumerate(texts)]


def live_directory(index: Path) -> Path:
    """Return the folder of the live generation."""
    return generations_directory(index) / current_name(index)


def files_of(index: Path) -> dict[str, bytes]:
    """Return the bytes of each file of the live generation."""
    return {path.name: path.read_bytes() for path in live_directory(index).iterdir()}


def write_manifest(index: Path, manifest: dict[str, object]) -> Path:
    """Replace the live manifest and rename the folder accordingly; CURRENT stays."""
    directory, content = live_directory(index), canonical_json(manifest)
    (directory / "manifest.json").write_bytes(content)
    return directory.rename(directory.with_name(generation_name(content)))


def rewrite_manifest(index: Path, **changes: object) -> Path:
    """Change fields of the live manifest and rename the folder accordingly; CURRENT stays."""
    manifest = json.loads((live_directory(index) / "manifest.json").read_text())
    return write_manifest(index, manifest | changes)


def republish(index: Path, mark: str = "new") -> str:
    """Publish the live generation under another name, by a mark in its manifest; return it."""
    live = live_directory(index)
    manifest = json.loads((live / "manifest.json").read_text()) | {"faiss_version": mark}
    name = generation_name(canonical_json(manifest))
    directory = live.with_name(name)
    shutil.copytree(live, directory, dirs_exist_ok=True)
    (directory / "manifest.json").write_bytes(canonical_json(manifest))
    (index / "CURRENT").write_text(f"{name}\n")
    return name


def assert_alike(first: Path, second: Path) -> None:
    """Compare bytes, but vectors to 1e-6: the number of threads changes the order of sums."""
    ours, theirs = files_of(first), files_of(second)
    one, two = (
        faiss.deserialize_index(np.frombuffer(files.pop("vectors.faiss"), np.uint8))
        for files in (ours, theirs)
    )
    np.testing.assert_allclose(
        one.reconstruct_n(0, one.ntotal), two.reconstruct_n(0, two.ntotal), rtol=0, atol=1e-6
    )
    manifest, other = (json.loads(files.pop("manifest.json")) for files in (ours, theirs))
    for each in (manifest, other):
        del each["files"]["vectors.faiss"]["sha256"]
    assert manifest == other
    assert ours == theirs


def load(checkpoint: Path, device: str) -> Encoder:
    """Load the encoder; runs in the workers."""
    return load_encoder(str(checkpoint), device=device)


def die(device: str) -> Encoder:
    """Die as if killed by the kernel; runs in the workers."""
    os._exit(9)
