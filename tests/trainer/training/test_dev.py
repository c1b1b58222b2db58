import pytest

from trainer.training.dev import summary, worst_loss

BASE = {"tea": {"en": 0.9, "sw": 0.5, "yo": 0.7}, "salt": {"sw": 0.4}}
NOW = {"tea": {"en": 0.85, "sw": 0.8, "yo": 0.6}, "salt": {"sw": 0.38}}


def test_the_worst_loss_is_of_any_set_and_language_but_english() -> None:
    assert worst_loss(BASE, NOW) == pytest.approx(0.1)
    assert worst_loss(BASE, BASE) == 0.0
    assert worst_loss(BASE, {"tea": {"sw": 0.6, "yo": 0.8}}) == 0.0


@pytest.mark.parametrize(
    ("margin", "weight", "expected"),
    [(0.06, 0.0, 0.54), (0.06, 0.5, 0.49), (0.04, 0.0, -0.46), (0.04, 2.0, -0.66)],
)
def test_the_score_is_the_macro_mean_less_a_share_of_the_worst_loss_and_the_gate(
    margin: float, weight: float, expected: float
) -> None:
    found = summary(BASE, NOW, margin, weight)

    assert found["ndcg@10"] == pytest.approx(0.54)  # of .70 and .38
    assert (found["english_drop"], found["worst_loss"]) == pytest.approx((0.05, 0.1))
    assert found["gated"] == pytest.approx(expected)
    assert found["tea_yo"] == 0.6
