"""How `tests.bench.evidence` judges the evidence of a question."""

import pytest

from tests.bench.evidence import Judged, judge

SPANS = [(0, 10), (11, 31), (32, 42), (43, 53)]


@pytest.mark.parametrize(
    ("scores", "answer", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.7], (2, 5), Judged(True, True, 1 / 4, 0.2, True)),
        ([0.9, 0.8, 0.7, 0.7], (40, 45), Judged(False, False, 0, 0.2, True)),  # in no segment
        ([0.9, 0.89, 0.7, 0.7], (12, 31), Judged(False, True, 2 / 3, 0.6, True)),  # two segments
        ([0.9, 0.7, 0.899, 0.7], (12, 31), Judged(False, False, 1 / 4, 0.2, False)),  # no lead
    ],
)
def test_evidence_is_right_where_it_holds_the_whole_answer(
    scores: list[float], answer: tuple[int, int], expected: Judged
) -> None:
    assert judge(scores, SPANS, answer) == expected
