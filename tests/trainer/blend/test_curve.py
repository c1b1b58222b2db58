import pytest

from trainer.blend.curve import Curve, Gates, Point, curve_content
from trainer.evaluation.measures import macro


def point(share: float, en: float, sw: float, yo: float = 0.5) -> Point:
    return Point(share, {"dev": {"en": en, "sw": sw, "yo": yo}})


def curve(*points: Point, gates: Gates = Gates()) -> Curve:  # noqa: B008  frozen
    return Curve("base", "tuned", points, gates)


def test_the_best_mean_that_passes_the_english_gate_is_chosen() -> None:
    found = curve(point(0, 0.9, 0.5), point(0.5, 0.896, 0.6), point(1, 0.89, 0.7))

    assert found.chosen.share == 0.5
    assert found.broken(found.points[2]) == ["dev en -> en -0.0100"]


def test_a_loss_of_exactly_the_margin_is_kept() -> None:
    assert Gates(0.25).broken({"dev": {"en": 0.75}}, {"dev": {"en": 0.5}}) == []


def test_the_base_is_chosen_if_nothing_passes_the_gate() -> None:
    assert curve(point(0, 0.9, 0.5), point(1, 0.5, 0.9)).chosen.share == 0


def test_of_equal_points_the_one_nearest_to_the_base_is_chosen() -> None:
    found = curve(point(0, 0.9, 0.5), point(0.4, 0.9, 0.6), point(0.8, 0.9, 0.6))

    assert found.chosen.share == 0.4


def test_every_set_holds_its_own_english_gate() -> None:
    base = Point(0, {"a": {"en": 0.9, "sw": 0.5}, "b": {"en": 0.9, "de": 0.8}})
    tuned = Point(1, {"a": {"en": 0.9, "sw": 0.9}, "b": {"en": 0.8, "de": 0.9}})

    assert curve(base, tuned).broken(tuned) == ["b en -> en -0.1000"]


def test_other_languages_are_held_to_their_margin_where_one_is_set() -> None:
    base, tuned = point(0, 0.9, 0.5, 0.5), point(1, 0.9, 0.6, 0.49)

    assert curve(base, tuned).chosen.share == 1
    strict = curve(base, tuned, gates=Gates(0.005, language_margin=0.003))
    assert strict.broken(tuned) == ["dev yo -> en -0.0100"]
    assert strict.chosen.share == 0


def test_the_mean_counts_sets_and_languages_alike() -> None:
    found = Point(1, {"a": {"en": 0.9, "sw": 0.2, "yo": 0.4}, "b": {"de": 0.7}, "c": {"en": 0.8}})

    assert found.mean == pytest.approx((0.3 + 0.7 + 0.8) / 3)
    assert macro({"en": 0.9}) == 0.9


def test_the_content_names_the_broken_gates() -> None:
    content = curve_content(curve(point(0, 0.9, 0.5), point(1, 0.8, 0.7)))

    assert content["chosen_share"] == 0
    assert content["points"][1]["broken_gates"] == ["dev en -> en -0.1000"]  # type: ignore[index]
