import pytest

from trainer.blend.curve import Curve, Gates, Point
from trainer.blend.plot import trade_off


def test_the_plot_is_one_svg_and_the_same_each_time() -> None:
    pytest.importorskip("matplotlib")
    scores = {0: (0.9, 0.5), 0.5: (0.896, 0.6), 1: (0.89, 0.7)}
    points = [Point(share, {"dev": {"en": en, "sw": sw}}) for share, (en, sw) in scores.items()]
    curve = Curve("base", "tuned", points, Gates())

    first, second = trade_off(curve), trade_off(curve)

    assert first.startswith("<svg")
    assert "share 0.5 chosen" in first
    assert first == second
