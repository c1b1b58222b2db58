"""Every layout of an encoder has sentence-transformers' vectors on each engine, or is refused."""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.support.layout_catalog import LAYOUTS
from tests.support.layouts import DIM, MAX_TOKENS, Layout

MIN_COSINE = 0.9999
WORDS = ["tea", "Lima", "kora", "Nairobi", "beans", "peru", "coast", "string", "boils", "sun"]
NUM_WORDS = (1, 2, 3, 5, 8, 13, 21, 34, 200)
ROLES: tuple[Role, ...] = ("query", "passage")
SERVED = [layout for layout in LAYOUTS if not layout.refusal]
REFUSED = [layout for layout in LAYOUTS if layout.refusal]

Folders = Callable[[Layout], Path]
Vectors = Mapping[Role, NDArray[np.float32]]
References = Callable[[Layout], Vectors]


def texts() -> list[str]:
    """Return texts of one token to more than any tiny encoder's limit, in no order of length."""
    chosen = random.Random(0)
    made = [" ".join(chosen.choices(WORDS, k=count)) for count in NUM_WORDS]
    chosen.shuffle(made)
    return ["a", *made]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Make each layout's folder once."""
    made: dict[str, Path] = {}

    def make(layout: Layout) -> Path:
        if layout.name not in made:
            folder = tmp_path_factory.mktemp("layout") / "encoder"
            made[layout.name] = layout.make(folder)
        return made[layout.name]

    return make


def served(layout: Layout, folder: Path, cpu_engine: str) -> Encoder:
    return load_encoder(
        str(folder),
        cache=folder.parent / "cache",
        device="cpu",
        cpu_engine=cpu_engine,
        precision="fp32",
        pooling=layout.pooling,
    )


@pytest.fixture(scope="module")
def reference_of(folder_of: Folders) -> References:
    """Embed the texts by sentence-transformers, once a layout; the vectors are of unit length."""
    made: dict[str, Vectors] = {}

    def embed(layout: Layout) -> Vectors:
        if layout.name not in made:
            model = by_sentence_transformers(layout, folder_of(layout))
            made[layout.name] = {
                "query": unit(model.encode_query(texts())),
                "passage": unit(model.encode_document(texts())),
            }
        return made[layout.name]

    return embed


def by_sentence_transformers(layout: Layout, folder: Path) -> SentenceTransformer:
    if layout.pooling is None:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    modules = [Transformer(str(folder)), Pooling(DIM, layout.pooling)]  # type: ignore[arg-type]
    return SentenceTransformer(modules=modules, device="cpu")


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    normalized: NDArray[np.float32] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return normalized


def check_equal(encoder: Encoder, expected: Vectors) -> None:
    """Hold an encoder to sentence-transformers, and a batch's vectors to those of lone texts."""
    lengths = set()
    for role in ROLES:
        lengths |= {len(text.token_ids) for text in encoder.tokenize(texts(), role)}
        together = encoder.encode(texts(), role).embeddings
        alone = np.concatenate([encoder.encode([text], role).embeddings for text in texts()])
        for found in (together, alone):
            assert found.shape == expected[role].shape
            assert np.einsum("ij,ij->i", found, expected[role]).min() >= MIN_COSINE
    if encoder.max_tokens <= MAX_TOKENS:  # a StaticEmbedding has no limit of its own
        assert max(lengths) == encoder.max_tokens


def check_layout(layout: Layout, folder: Path, expected: Vectors, engine: str) -> None:
    """Check one layout on one engine; `auto` chooses OpenVINO where it has a graph."""
    encoder = served(layout, folder, "torch" if engine == "torch" else "auto")
    used = "openvino" if engine == "openvino" and layout.openvino else "torch"
    assert encoder.side("passage").runtime.name.startswith(used)
    check_equal(encoder, expected)


def cases() -> list[Any]:
    """Return each layout with each engine; the ordinary run has the quick ones, on torch alone."""
    return [
        pytest.param(
            layout,
            engine,
            id=f"{layout.name.replace(' ', '_')}-{engine}",
            marks=() if layout.is_quick and engine == "torch" else pytest.mark.slow,
        )
        for layout in SERVED
        for engine in ("torch", "openvino")
    ]


@pytest.mark.parametrize(("layout", "engine"), cases())
def test_a_layout_has_the_vectors_of_sentence_transformers(
    layout: Layout, engine: str, folder_of: Folders, reference_of: References
) -> None:
    check_layout(layout, folder_of(layout), reference_of(layout), engine)


@pytest.mark.parametrize("layout", REFUSED, ids=lambda layout: layout.name.replace(" ", "_"))
def test_a_layout_that_is_not_supported_is_refused_in_words(
    layout: Layout, folder_of: Folders
) -> None:
    words = ".*".join(map(re.escape, layout.refusal.split("…")))

    with pytest.raises(CheckpointError, match=words):
        served(layout, folder_of(layout), "torch")


def test_there_are_forty_layouts_or_more() -> None:
    assert len(SERVED) >= 40
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
