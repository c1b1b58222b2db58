import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.retrieval.generation.generation import current_name
from tests.support.builds import republish


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_an_upload_says_what_it_sent_and_a_second_one_that_all_was_there(
    index_copy: Path, tmp_path: Path
) -> None:
    url, name = f"file://{tmp_path}/share", current_name(index_copy)

    first = run("index", "upload", url, "--index", index_copy)
    second = run("index", "upload", url + "/", "--index", index_copy, "--json")

    assert first.exit_code == 0, first.output
    assert f"generation {name} is live at {url}: 5 files sent" in first.output
    facts = json.loads(second.stdout)
    assert facts.pop("kept")[-1] == "manifest.json"
    assert facts == {"generation": name, "sent": [], "bytes": 0, "removed": []}


def test_an_upload_removes_old_generations_when_asked(index_copy: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/share"
    run("index", "upload", url, "--index", index_copy)
    republish(index_copy)

    assert (
        "1 old generation removed"
        in run(*("index", "upload", url, "--index", index_copy, "--keep", 0)).output
    )


def test_a_wrong_url_is_refused_in_one_line(index_copy: Path) -> None:
    result = run("index", "upload", "ftp://host/a", "--index", index_copy)

    assert result.exit_code == 1
    assert result.output.startswith("error: a URL of an index begins with one of s3://")


def test_an_index_at_a_url_can_be_verified(index_copy: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/share"
    run("index", "upload", url, "--index", index_copy)

    result = CliRunner(env={"CLEAR_CACHE": str(tmp_path / "cache")}).invoke(
        app, ["index", "verify", "--index", url]
    )

    assert result.exit_code == 0, result.output
    assert f"generation {current_name(index_copy)} is whole: 12 passages" in result.output
    [copy] = (tmp_path / "cache" / "indexes").iterdir()
    assert current_name(copy) == current_name(index_copy)


@pytest.mark.parametrize(
    "command", [["rollback"], ["gc"], ["list"], ["build", "-"], ["upload", "s3://bucket/b"]]
)
def test_commands_that_need_the_folder_refuse_a_url(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAR_INDEX", "s3://bucket/a")

    result = run("index", *command)

    assert result.exit_code == 1
    assert "s3://bucket/a is a URL, which this command cannot use: give --index DIR" in (
        result.output
    )
