from pathlib import Path

import pytest

GRID = """
base = "base.toml"
seeds = [0, 1]
[variants.clear]
[variants.no-kl.objective]
kl_weight = 0.0
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of two variants with two seeds."""
    (tmp_path / "base.toml").write_text('[data]\nrows = ["r"]\n[objective]\ntemperature = 0.02\n')
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path
