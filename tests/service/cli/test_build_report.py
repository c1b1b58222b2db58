from pathlib import Path

import pytest

from service.cli.build_report import what_is_kept


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([], "interrupted: no index was written"),
        (["unfinished/.part"], "interrupted: no index was written"),
        (["unfinished/a"], "interrupted: no index was written, the encoded shards are kept"),
        (["CURRENT"], "interrupted: the live generation is unchanged"),
        (
            ["CURRENT", "unfinished/a"],
            "interrupted: the live generation is unchanged, the encoded shards are kept",
        ),
    ],
)
def test_an_interrupted_build_says_what_it_keeps(
    tmp_path: Path, files: list[str], line: str
) -> None:
    say = what_is_kept(tmp_path / "index")

    for name in files:
        (tmp_path / "index" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "index" / name).touch()

    assert say() == line
