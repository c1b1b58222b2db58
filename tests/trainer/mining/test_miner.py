import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder
from tests.support.training_rows import ROWS, WINDOW, row
from trainer.data.rows import Row
from trainer.errors import DataError
from trainer.mining.candidates import CandidateTable
from trainer.mining.miner import Miner, MiningOptions

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


def test_each_negative_has_its_text_and_a_query_that_it_answers(
    tiny_encoder: Encoder,
) -> None:
    mining, _ = miner(tiny_encoder, ROWS, WINDOW)

    for after in mining.mine(ROWS):
        asked = {each.passage_id: each for each in ROWS}
        for number, passage_id in enumerate(after.hard_negative_ids):
            assert after.hard_negatives[number] == asked[passage_id].positive
            assert after.hard_negative_queries[number] == asked[passage_id].translated_query


def test_the_best_of_the_window_are_taken_on_request(tiny_encoder: Encoder) -> None:
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


def test_paired_negatives_have_queries_in_the_rows_language(tiny_encoder: Encoder) -> None:
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
def test_an_impossible_window_is_refused(first: int, last: int, count: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        MiningOptions(count, first_rank=first, last_rank=last)
