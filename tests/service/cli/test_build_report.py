from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.build_report import what_is_kept
from service.cli.main import app


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


def test_a_build_says_what_it_replaces_and_an_update_how_much_it_removed(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAR_ENCODER", str(tiny_checkpoint))
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")
    files = tmp_path / "all.jsonl", tmp_path / "one.jsonl"
    lines = [f'{{"id": "{name}", "text": "{name} tea"}}\n' for name in "abc"]
    for file, count in zip(files, (3, 1), strict=True):
        file.write_text("".join(lines[:count]))

    def run(command: str, file: Path, *options: str) -> str:
        arguments = ["index", command, str(file), "--index", str(tmp_path / "i"), *options]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.stderr
        return done.stderr

    replaced, lost = "it replaces a generation of 1 passage:", "had evidence: give --evidence"
    told = [
        run("build", files[0], "--evidence"),
        run("update", files[1]),
        run("build", files[1]),
        run("build", files[1]),
    ]

    assert [replaced in each for each in told] == [False, False, True, False]
    assert [lost in each for each in told] == [False, False, True, False]
    removed = "2 passages of the generation before were removed"
    assert [removed in each for each in told] == [False, True, False, False]
