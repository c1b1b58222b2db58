import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder
from trainer.data.rows import Row, read_rows, write_rows
from trainer.errors import DataError, OutputError
from trainer.mining import run as mining_run
from trainer.mining.candidates import CandidateTable, read_candidates
from trainer.mining.miner import Miner, MiningOptions
from trainer.mining.run import MiningReport, mine_rows

WORDS = ["tea", "salt", "rice", "rain", "gold", "iron", "corn", "milk", "wool", "silk", "fish"]


def row(number: int, language: str = "sw", **changes: object) -> Row:
    word = WORDS[number % len(WORDS)]
    made = Row(
        query=f"Where is {word} {number}?",
        translated_query=f"{word} {number} wapi?",
        language=language,
        passage_id=f"p{number}",
        positive=f"{word} number {number} is in the {WORDS[number // 3 % len(WORDS)]} house.",
        query_id=f"q{number}",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


ROWS = [row(number) for number in range(30)]
WINDOW = MiningOptions(num_negatives=3, first_rank=2, last_rank=8)
Ranked = Callable[[Row], list[str]]


def miner(encoder: Encoder, rows: list[Row], options: MiningOptions) -> tuple[Miner, Ranked]:
    """Make a miner, and the ranking of a row's passages by a plain matrix product."""
    candidates = CandidateTable()
    for each in rows:
        candidates.add(each)
    passage_ids = list(candidates.texts)
    vectors = encoder.encode(list(candidates.texts.values()), "passage").embeddings

    def ranked(wanted: Row) -> list[str]:
        (query,) = encoder.encode([wanted.query], "query").embeddings
        return [passage_ids[place] for place in np.argsort(-(vectors @ query), kind="stable")]

    return Miner(encoder, candidates, passage_ids, vectors, options), ranked


def test_negatives_are_drawn_from_the_window_of_ranks_the_positive_not_counted(
    tiny_encoder: Encoder,
) -> None:
    mining, ranked = miner(tiny_encoder, ROWS, WINDOW)

    for before, after in zip(ROWS, mining.mine(ROWS), strict=True):
        others = [each for each in ranked(before) if each != before.passage_id]
        assert set(after.hard_negative_ids) <= set(others[1:8])
        assert len(set(after.hard_negative_ids)) == 3
        by_rank = sorted(after.hard_negative_ids, key=others.index)
        assert list(after.hard_negative_ids) == by_rank


def test_each_negative_comes_with_its_text_and_with_a_query_that_asks_for_it(
    tiny_encoder: Encoder,
) -> None:
    mining, _ = miner(tiny_encoder, ROWS, WINDOW)

    for after in mining.mine(ROWS):
        asked = {each.passage_id: each for each in ROWS}
        for number, passage_id in enumerate(after.hard_negative_ids):
            assert after.hard_negatives[number] == asked[passage_id].positive
            assert after.hard_negative_queries[number] == asked[passage_id].translated_query


def test_the_best_of_the_window_are_taken_where_that_is_asked(tiny_encoder: Encoder) -> None:
    options = dataclasses.replace(WINDOW, is_random=False)
    mining, ranked = miner(tiny_encoder, ROWS, options)

    (after,) = mining.mine(ROWS[:1])

    others = [each for each in ranked(ROWS[0]) if each != "p0"]
    assert list(after.hard_negative_ids) == others[1:4]


def test_no_negative_scores_above_the_bound(tiny_encoder: Encoder) -> None:
    bound = 0.999
    options = MiningOptions(3, first_rank=1, last_rank=20, max_relative_score=bound)
    mining, _ = miner(tiny_encoder, ROWS, options)

    num_found = 0
    for after in mining.mine(ROWS):
        (query,) = tiny_encoder.encode([after.query], "query").embeddings
        texts = [after.positive, *after.hard_negatives]
        scores = tiny_encoder.encode(texts, "passage").embeddings @ query
        assert all(score <= bound * scores[0] + 1e-6 for score in scores[1:])
        num_found += len(after.hard_negatives)
    assert num_found > 0


@pytest.mark.parametrize(
    "other",
    [
        row(40, query_id="q0"),  # a second positive of the same query
        row(40, group_id="p0"),  # cut from the same document
        row(40, positive=ROWS[0].positive.upper()),  # the same text under another id
        row(40, translated_query=ROWS[0].translated_query),  # the same question
    ],
)
def test_another_answer_is_never_a_negative(tiny_encoder: Encoder, other: Row) -> None:
    options = MiningOptions(num_negatives=30, first_rank=1, last_rank=100)
    mining, _ = miner(tiny_encoder, [*ROWS, other], options)

    (after,) = mining.mine(ROWS[:1])

    assert len(after.hard_negatives) == 29
    assert not {"p0", "p40"} & set(after.hard_negative_ids)


def test_one_text_under_two_ids_is_one_negative(tiny_encoder: Encoder) -> None:
    twin = row(41, positive=ROWS[5].positive)
    options = MiningOptions(num_negatives=30, first_rank=1, last_rank=100)
    mining, _ = miner(tiny_encoder, [*ROWS, twin], options)

    (after,) = mining.mine(ROWS[:1])

    assert len(set(after.hard_negatives)) == len(after.hard_negatives) == 29


def test_paired_negatives_are_asked_for_in_the_rows_language(tiny_encoder: Encoder) -> None:
    rows = ROWS[:12] + [row(number, "ha") for number in range(12, 24)]
    options = MiningOptions(num_negatives=20, first_rank=1, last_rank=100)

    paired, _ = miner(tiny_encoder, rows, options)
    unpaired, _ = miner(tiny_encoder, rows, dataclasses.replace(options, is_paired=False))

    (after,) = paired.mine(rows[:1])
    assert set(after.hard_negative_ids) == {f"p{number}" for number in range(1, 12)}
    (after,) = unpaired.mine(rows[:1])
    assert len(after.hard_negative_ids) == 20
    assert after.hard_negative_queries == ()


def test_a_rows_negatives_do_not_depend_on_the_rows_beside_it(tiny_encoder: Encoder) -> None:
    mining, _ = miner(tiny_encoder, ROWS, WINDOW)

    assert mining.mine(ROWS)[7].hard_negative_ids == mining.mine(ROWS[7:8])[0].hard_negative_ids


@pytest.mark.parametrize(
    ("first", "last", "count", "reason"),
    [
        (10, 5, 1, "are not a window"),
        (1, 1001, 1, "are not a window"),
        (50, 52, 5, "cannot give 5 negatives"),
    ],
)
def test_a_window_that_cannot_be_is_refused(first: int, last: int, count: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        MiningOptions(count, first_rank=first, last_rank=last)


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """`ROWS` on disk."""
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def mine(
    rows: Path,
    output: Path,
    encoder: Encoder,
    options: MiningOptions,
    corpora: Sequence[Path] = (),
    **settings: Any,
) -> MiningReport:
    candidates = read_candidates(rows, corpora, is_paired=options.is_paired)
    return mine_rows(rows, candidates, output, encoder, options, **settings)


def test_the_file_written_is_valid_rows_in_the_same_order(
    tiny_encoder: Encoder, rows_file: Path
) -> None:
    output = rows_file.with_name("mined.jsonl")

    report = mine(rows_file, output, tiny_encoder, WINDOW)

    mined = [each for _, each in read_rows(output)]
    assert [each.query_id for each in mined] == [each.query_id for each in ROWS]
    assert {len(each.hard_negatives) for each in mined} == {3}
    assert (report.num_rows, report.num_left_out, report.num_resumed) == (30, 0, 0)
    assert sorted(path.name for path in rows_file.parent.iterdir()) == ["mined.jsonl", "rows.jsonl"]


def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    tiny_encoder: Encoder, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining_run, "WINDOW_ROWS", 8)
    whole, resumed = rows_file.with_name("whole.jsonl"), rows_file.with_name("resumed.jsonl")
    mine(rows_file, whole, tiny_encoder, WINDOW)

    def kill(stage: str, done: int, total: int | None) -> None:
        if (stage, done) == ("mine", 16):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(rows_file, resumed, tiny_encoder, WINDOW, on_progress=kill)
    assert not resumed.exists()
    part = rows_file.with_name(".resumed.jsonl.part")
    part.write_bytes(part.read_bytes() + b'{"query": "cut of')  # killed amid a line
    stages = []
    report = mine(
        rows_file,
        resumed,
        tiny_encoder,
        WINDOW,
        on_progress=lambda stage, done, total: stages.append(stage),
    )

    assert report.num_resumed == 16
    assert set(stages) == {"mine"}  # nothing embedded twice
    assert resumed.read_bytes() == whole.read_bytes()


def test_the_part_of_another_run_is_not_taken_up(tiny_encoder: Encoder, rows_file: Path) -> None:
    output = rows_file.with_name("mined.jsonl")
    part = rows_file.with_name(".mined.jsonl.part")
    part.write_text(json.dumps({"digest": "of other rows"}) + "\n{}\n")

    assert mine(rows_file, output, tiny_encoder, WINDOW).num_resumed == 0


def test_rows_with_too_few_candidates_are_left_out_or_kept(
    tiny_encoder: Encoder, rows_file: Path
) -> None:
    lonely = [row(number, "ha") for number in (50, 51)]
    write_rows(rows_file, [*ROWS, *lonely])
    output = rows_file.with_name("mined.jsonl")

    report = mine(rows_file, output, tiny_encoder, WINDOW)
    assert (report.num_rows, report.num_left_out) == (32, 2)
    assert {each.language for _, each in read_rows(output)} == {"sw"}

    report = mine(rows_file, output, tiny_encoder, WINDOW, keep_incomplete=True)
    assert report.num_left_out == 0


def test_a_pool_that_is_too_small_is_told(tiny_encoder: Encoder, rows_file: Path) -> None:
    with pytest.raises(DataError, match="no row of .* has 5 negatives at the ranks 50 to 100"):
        mine(rows_file, rows_file.with_name("mined.jsonl"), tiny_encoder, MiningOptions())


def test_a_corpus_widens_the_pool_of_unpaired_negatives(
    tiny_encoder: Encoder, rows_file: Path, passages_file: Path
) -> None:
    output = rows_file.with_name("mined.jsonl")
    options = MiningOptions(num_negatives=41, first_rank=1, last_rank=100, is_paired=False)

    mine(rows_file, output, tiny_encoder, options, corpora=[passages_file])

    first = next(read_rows(output))[1]
    assert "kenya.1" in first.hard_negative_ids
    with pytest.raises(DataError, match="have no queries"):
        mine(rows_file, output, tiny_encoder, WINDOW, corpora=[passages_file])


def test_an_output_that_cannot_be_written_is_named(tiny_encoder: Encoder, rows_file: Path) -> None:
    with pytest.raises(OutputError, match=r"mined\.jsonl cannot be written"):
        mine(rows_file, rows_file / "mined.jsonl", tiny_encoder, WINDOW)


@pytest.fixture(autouse=True)
def _no_index_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob(".*.index")) or list(tmp_path.glob(".*.part"))
