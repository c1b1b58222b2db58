import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.fields import FieldKind
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError, PassageError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.indexing import assembly
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.indexing.manifest import spread_rows
from tests.conftest import flip_bit
from tests.support.builds import (
    CUT,
    MANY_WORDS,
    Origins,
    corpus,
    files_of,
    live_directory,
    rewrite_manifest,
)

pytestmark = pytest.mark.usefixtures("one_thread")
Changes = list[tuple[str, Change]]
FIELDS: dict[str, FieldKind] = {
    "day": "date",
    "is_new": "boolean",
    "kind": "string",
    "page": "number",
    "tags": "strings",
}
WORDS = ["tea", "Nairobi", "mountain", "1707", "café", "AA-1720", "日本", "NASA"]
NUM_BATCHES = int(os.environ.get("CHANGE_BATCHES", "8"))  # 1000: by hand, some minutes a factory
IDS = [*(f"{number:02}" for number in range(60)), "é", "z", "日本", "𝄞", "Z", "0", "~"]
SLOW_FACTORIES = ["Flat", "SQ8", "HNSW8", "IVF2,SQ8"]


def put(passage_id: str, text: str, **others: Any) -> tuple[str, Change]:
    return ("c", Change(passage_id, Passage(passage_id, text, **others)))


def delete(passage_id: str) -> tuple[str, Change]:
    return ("c", Change(passage_id))


def origins(passages: dict[str, Passage]) -> Origins:
    return [("f", passage) for passage in passages.values()]


def random_passage(dice: random.Random) -> Passage:
    values: dict[str, Any] = {
        "day": "2024-02-29",
        "is_new": dice.random() < 0.5,
        "kind": dice.choice(WORDS),
        "page": dice.randint(-5, 5),
        "tags": dice.choices(WORDS, k=dice.randint(0, 3)),
        "other": {"nested": dice.random()},
    }
    kept = {name: value for name, value in values.items() if dice.random() < 0.7}
    text = " ".join(dice.choices(WORDS, k=dice.randint(1, 12)))
    return Passage(dice.choice(IDS), text, dice.choice(["", "A title"]), kept)


def random_changes(dice: random.Random, most: int = 12) -> Changes:
    changes: Changes = []
    for _ in range(dice.randint(1, most)):
        passage = random_passage(dice)
        document = passage if dice.random() < 0.6 else None
        changes.append(("c", Change(passage.passage_id, document)))
    return changes


def changed(passages: dict[str, Passage], changes: Changes) -> dict[str, Passage]:
    """Return the corpus after some changes: the reference, one change after another."""
    after = dict(passages)
    for _, change in changes:
        after.pop(change.document_id, None)
        if change.document:
            after[change.document_id] = change.document
    return after


def check_batches(folder: Path, encoder: Encoder, factory: str, seed: int, count: int) -> None:
    """Apply random batches one after another; compare ten times, or always, with a fresh build."""
    dice = random.Random(seed)
    passages = {each.passage_id: each for each in (random_passage(dice) for _ in range(40))}
    index = folder / "changed"
    build_index(origins(passages), index, encoder, factory=factory, fields=FIELDS)
    for number in range(count):
        changes = random_changes(dice)
        if not (after := changed(passages, changes)):
            continue
        apply_changes(changes, index, encoder)
        passages = after
        if (number + 1) % max(1, count // 10):
            continue
        fresh = folder / f"fresh{number % 2}"
        build_index(origins(passages), fresh, encoder, factory=factory, fields=FIELDS)
        assert current_name(index) == current_name(fresh), (seed, number)
    assert files_of(index) == files_of(fresh)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.retrieval.indexing.assembly.WINDOW_ROWS", 4)
    monkeypatch.setattr("service.retrieval.indexing.rows.WINDOW_ROWS", 8)


@pytest.mark.usefixtures("small_windows")
def test_random_changes_give_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    check_batches(tmp_path, tiny_encoder, "Flat", seed=1, count=5)


@pytest.mark.slow
@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("factory", SLOW_FACTORIES)
def test_many_random_changes_give_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    check_batches(tmp_path, tiny_encoder, factory, seed=2, count=NUM_BATCHES)


@pytest.mark.parametrize("factory", ["Flat", "IVF2,SQ8"])
def test_changes_of_every_kind_give_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    passages = {each.passage_id: each for _, each in corpus(1, most_words=MANY_WORDS)}
    changes = [
        put("0005", passages["0006"].text),
        put("0007", passages["0007"].text, metadata={"page": 1}),
        put("0030", "changed"),
        put("", "before all"),
        put("00055", "between"),
        put("zzz", "after all, and rather a long one " * 2),
        delete("0000"),
        delete("0059"),
        delete("unknown"),
    ]
    before = origins(passages)
    build_index(before, tmp_path / "changed", tiny_encoder, factory=factory, chunking=CUT)
    fresh = origins(changed(passages, changes))
    build_index(fresh, tmp_path / "fresh", tiny_encoder, factory=factory, chunking=CUT)

    report = apply_changes(changes, tmp_path / "changed", tiny_encoder)

    assert files_of(tmp_path / "changed") == files_of(tmp_path / "fresh")
    assert report.counts.num_truncated > 9
    assert report.counts.num_passages == 61
    assert report.counts.num_encoded == 4
    assert report.counts.num_reused == 57


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([put("a", "one"), put("a", "two")], {"a": "two", "x": "kept"}),
        ([put("a", "one"), delete("a")], {"x": "kept"}),
        ([delete("a"), put("a", "two")], {"a": "two", "x": "kept"}),
        ([delete("x"), put("x", "two"), delete("x"), put("b", "t")], {"b": "t"}),
    ],
)
def test_the_last_of_several_changes_of_a_document_counts(
    tmp_path: Path, tiny_encoder: Encoder, changes: Changes, expected: dict[str, str]
) -> None:
    build_index([("f", Passage("x", "kept"))], tmp_path, tiny_encoder)

    apply_changes(changes, tmp_path, tiny_encoder)

    table = open_current(tmp_path).passages
    assert {each.passage_id: each.text for each in table.read(range(len(table)))} == expected


def test_changes_that_change_nothing_keep_the_generation(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    before = build_index(corpus(1), tmp_path, tiny_encoder).directory
    [(_, first), *_] = corpus(1)

    nothing = [("c", Change(first.passage_id, first)), delete("unknown")]

    assert apply_changes(nothing, tmp_path, tiny_encoder).directory == before
    assert apply_changes([], tmp_path, tiny_encoder).directory == before


def test_an_invalid_change_leaves_its_document_as_it_was(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    build_index(
        [("f", Passage("a", "tea", metadata={"page": 1}))],
        tmp_path,
        tiny_encoder,
        fields={"page": "number"},
    )
    errors: list[PassageError] = []
    changes = [put("a", "changed", metadata={"page": "two"}), put("b", "new")]

    apply_changes(changes, tmp_path, tiny_encoder, on_invalid=errors.append)

    assert open_current(tmp_path).passages.read([0])[0].text == "tea"
    assert [str(error)[:40] for error in errors] == ["c has a `page` that is not a number (who"]


def test_a_document_without_a_unit_vector_is_left_as_it_was(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(corpus(1), tmp_path, tiny_encoder)
    before = open_current(tmp_path).passages.read([0])
    embed = tiny_encoder.embed
    monkeypatch.setattr(tiny_encoder, "embed", lambda batch: embed(batch) * float("nan"))
    errors: list[PassageError] = []
    changes = [put("0000", "new text"), delete("0001")]
    monkeypatch.setattr(assembly, "add_findings", lambda manifest, *_: manifest)

    report = apply_changes(changes, tmp_path, tiny_encoder, on_invalid=errors.append)

    assert open_current(tmp_path).passages.read([0]) == before
    assert (report.counts.num_passages, report.counts.num_unembedded) == (59, 1)
    assert len(errors) == 1


def test_the_last_passage_cannot_be_deleted(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index([("f", Passage("a", "tea"))], tmp_path, tiny_encoder)
    live = current_name(tmp_path)

    with pytest.raises(
        PassageError, match="^no document would be left: an index needs at least one"
    ):
        apply_changes([delete("a")], tmp_path, tiny_encoder)

    assert current_name(tmp_path) == live


def test_an_error_among_the_changes_leaves_the_index_as_it_was(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    live = build_index(corpus(1), tmp_path, tiny_encoder).directory

    def changes() -> Iterator[tuple[str, Change]]:
        yield put("a", "tea")
        raise PassageError("c:2 is broken")

    with pytest.raises(PassageError, match="c:2 is broken"):
        apply_changes(changes(), tmp_path, tiny_encoder)

    assert live_directory(tmp_path) == live
    assert [path.name for path in live.parent.iterdir()] == [live.name]


def test_a_damaged_generation_is_not_copied(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index(corpus(1), tmp_path, tiny_encoder)
    flip_bit(live_directory(tmp_path) / "passages.arrow")

    with pytest.raises(GenerationError, match=r"passages\.arrow was altered"):
        apply_changes([put("a", "tea")], tmp_path, tiny_encoder)


def test_damaged_identifiers_are_made_again(tmp_path: Path, tiny_encoder: Encoder) -> None:
    for index in ("damaged", "whole"):
        build_index(corpus(1), tmp_path / index, tiny_encoder)
    flip_bit(live_directory(tmp_path / "damaged") / "identifiers.u64")

    for index in ("damaged", "whole"):
        apply_changes([put("a", "tea AA-1720")], tmp_path / index, tiny_encoder)

    assert live_directory(tmp_path / "damaged").name == live_directory(tmp_path / "whole").name


def test_damaged_evidence_names_the_command_that_makes_it_again(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    build_index(corpus(1, 3), tmp_path, tiny_encoder, evidence=True)
    flip_bit(live_directory(tmp_path) / "evidence.arrow")

    with pytest.raises(GenerationError, match=r"evidence\.arrow was altered.*index update"):
        apply_changes([put("a", "tea")], tmp_path, tiny_encoder)


def test_vectors_of_an_earlier_version_are_embedded_again_by_an_update_and_never_mixed(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(corpus(1, 3), tmp_path, tiny_encoder)
    monkeypatch.setattr(tiny_encoder.runtime, "name", f"{tiny_encoder.runtime.name}-fixed")

    with pytest.raises(EncoderMismatchError, match="torch-fp32 of an earlier version.*index updat"):
        apply_changes([put("a", "tea")], tmp_path, tiny_encoder)
    report = update_index(corpus(1, 3), tmp_path, tiny_encoder)

    assert report.counts.num_encoded == 3
    assert apply_changes([put("a", "tea")], tmp_path, tiny_encoder).counts.num_reused == 3


def test_another_encoder_is_refused(
    tmp_path: Path, tiny_encoder: Encoder, other_encoder: Encoder
) -> None:
    build_index(corpus(1), tmp_path, tiny_encoder)

    with pytest.raises(EncoderMismatchError, match="not by"):
        apply_changes([put("a", "tea")], tmp_path, other_encoder)


def test_an_encoder_with_another_token_limit_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    build_index(corpus(1), tmp_path, tiny_encoder)
    shorter = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=8)

    with pytest.raises(EncoderMismatchError, match=r"8 tokens at the most: changes .* update"):
        apply_changes([put("a", "tea")], tmp_path, shorter)


def test_a_generation_that_does_not_say_what_embedded_it_is_refused(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    build_index(corpus(1), tmp_path, tiny_encoder)
    encoder = open_current(tmp_path).manifest.encoder.model_dump(exclude_none=True)
    renamed = rewrite_manifest(tmp_path, encoder={**encoder, "runtime": None})
    (tmp_path / "CURRENT").write_text(renamed.name)

    with pytest.raises(GenerationError, match=r"`encoder\.runtime` is missing"):
        apply_changes([put("a", "tea")], tmp_path, tiny_encoder)


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 3, []), (1, 3, [0]), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (10, 4, [0, 2, 5, 7])],
)
def test_spread_rows_are_evenly_spread_and_repeat_nothing(
    count: int, size: int, expected: list[int]
) -> None:
    assert spread_rows(count, size) == expected


def test_an_index_folder_that_was_removed_is_not_made_again(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with pytest.raises(GenerationError, match="there is no index in"):
        apply_changes([put("a", "tea")], tmp_path / "removed", tiny_encoder)

    assert not (tmp_path / "removed").exists()
