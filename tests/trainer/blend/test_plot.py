import pytest

from tests.trainer.blend.test_curve import curve, point
from trainer.blend.plot import trade_off


def test_the_plot_is_one_svg_and_the_same_each_time() -> None:
    pytest.importorskip("matplotlib")
    found = curve(point(0, 0.9, 0.5), point(0.5, 0.896, 0.6), point(1, 0.89, 0.7))

    first, second = trade_off(found), trade_off(found)

    assert first.startswith("<svg")
    assert "share 0.5 chosen" in first
    assert first == second
