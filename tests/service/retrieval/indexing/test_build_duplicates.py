"""Exact duplicates: reported by a build, folded by searches where the build was asked to."""

from pathlib import Path

import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.duplicates import MAX_NAMED, Duplicate, Duplicates
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from tests.support.builds import files_of

pytestmark = pytest.mark.usefixtures("one_thread")
LONG = "".join(f"Sentence {row} is about tea. " for row in range(20))
DOCUMENTS = [
    ("f:1", Passage("b", "Tea  grows here.")),
    ("f:2", Passage("long/2", LONG)),
    ("f:3", Passage("a", "tea grows\nHERE.")),
    ("f:4", Passage("c", "Tea grows here.", "Kenya")),
    ("f:5", Passage("long/1", LONG.upper())),
    ("f:6", Passage("d", "TEA grows here.")),
]
NAMED = [
    Duplicate("b", "f:1", "a", "f:3"),
    Duplicate("d", "f:6", "a", "f:3"),
    Duplicate("long/2", "f:2", "long/1", "f:5"),
]


@pytest.mark.parametrize("tokens", [0, 24])
def test_a_build_names_duplicates_and_the_first_one_with_their_origins(
    tmp_path: Path, tiny_encoder: Encoder, tokens: int
) -> None:
    found: list[Duplicates] = []

    for order in (1, -1):
        build_index(
            DOCUMENTS[::order],
            tmp_path,
            tiny_encoder,
            chunking=Chunking.of(64, tokens),
            on_duplicates=found.append,
        )

    assert found == [Duplicates(3, NAMED)] * 2


def test_only_the_first_duplicates_are_named(tmp_path: Path, tiny_encoder: Encoder) -> None:
    found: list[Duplicates] = []
    many = [(f"f:{row}", Passage(f"{row:03}", "tea")) for row in range(MAX_NAMED + 9)]

    build_index(many, tmp_path, tiny_encoder, on_duplicates=found.append)

    assert (found[0].count, len(found[0].named)) == (MAX_NAMED + 8, MAX_NAMED)
    assert found[0].named[-1] == Duplicate("020", "f:20", "000", "f:0")


def test_folding_is_recorded_and_kept_by_updates_and_changes(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    new = Passage("e", "tea grows here.")
    after = [*DOCUMENTS, ("f:7", new)]
    for name, documents in (("updated", DOCUMENTS), ("applied", DOCUMENTS), ("fresh", after)):
        build_index(documents, tmp_path / name, tiny_encoder, deduplicate=True)

    update_index(after, tmp_path / "updated", tiny_encoder)
    apply_changes([("c", Change("e", new))], tmp_path / "applied", tiny_encoder)

    assert open_current(tmp_path / "fresh").manifest.deduplicate
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")
    assert files_of(tmp_path / "applied") == files_of(tmp_path / "fresh")


def test_an_update_can_end_the_folding(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index(DOCUMENTS, tmp_path / "a", tiny_encoder, deduplicate=True)
    build_index(DOCUMENTS, tmp_path / "b", tiny_encoder)

    update_index(DOCUMENTS, tmp_path / "a", tiny_encoder, deduplicate=False)

    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
