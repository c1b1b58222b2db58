"""Every layout of an encoder has sentence-transformers' vectors on each engine, or is refused."""

import random
import re
from collections.abc import Callable
from pathlib import Path

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


def reference(layout: Layout, folder: Path) -> SentenceTransformer:
    if layout.pooling is None:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    modules = [Transformer(str(folder)), Pooling(DIM, layout.pooling)]  # type: ignore[arg-type]
    return SentenceTransformer(modules=modules, device="cpu")


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    normalized: NDArray[np.float32] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return normalized


def check_equal(encoder: Encoder, model: SentenceTransformer) -> None:
    """Hold an encoder to sentence-transformers, and a batch's vectors to those of lone texts."""
    lengths = set()
    for role in ROLES:
        lengths |= {len(text.token_ids) for text in encoder.tokenize(texts(), role)}
        expected = (model.encode_query if role == "query" else model.encode_document)(texts())
        together = encoder.encode(texts(), role).embeddings
        alone = np.concatenate([encoder.encode([text], role).embeddings for text in texts()])
        for found in (together, alone):
            assert found.shape == expected.shape
            assert np.einsum("ij,ij->i", found, unit(expected)).min() >= MIN_COSINE
    if encoder.max_tokens <= MAX_TOKENS:  # a StaticEmbedding has no limit of its own
        assert max(lengths) == encoder.max_tokens


def check_layout(layout: Layout, folder: Path, engine: str) -> None:
    """Check one layout on one engine; `auto` chooses OpenVINO where it has a graph."""
    encoder = served(layout, folder, "torch" if engine == "torch" else "auto")
    used = "openvino" if engine == "openvino" and layout.openvino else "torch"
    assert encoder.side("passage").runtime.name.startswith(used)
    check_equal(encoder, reference(layout, folder))


def names(layouts: list[Layout]) -> list[str]:
    return [layout.name.replace(" ", "_") for layout in layouts]


QUICK = [layout for layout in SERVED if layout.is_quick]


@pytest.mark.parametrize("layout", QUICK, ids=names(QUICK))
def test_a_layout_has_the_vectors_of_sentence_transformers(
    layout: Layout, folder_of: Folders
) -> None:
    check_layout(layout, folder_of(layout), "torch")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("layout", SERVED, ids=names(SERVED))
def test_every_layout_has_the_vectors_of_sentence_transformers(
    layout: Layout, engine: str, folder_of: Folders
) -> None:
    check_layout(layout, folder_of(layout), engine)


@pytest.mark.parametrize("layout", REFUSED, ids=names(REFUSED))
def test_a_layout_that_is_not_supported_is_refused_in_words(
    layout: Layout, folder_of: Folders
) -> None:
    words = ".*".join(map(re.escape, layout.refusal.split("…")))

    with pytest.raises(CheckpointError, match=words):
        served(layout, folder_of(layout), "torch")


def test_there_are_forty_layouts_or_more() -> None:
    assert len(SERVED) >= 40
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
