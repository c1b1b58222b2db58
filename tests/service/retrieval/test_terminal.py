"""Width of what is printed: without a limit in a file or a pipe."""

import pytest
from rich.table import Table

from service.retrieval.terminal import open_console, print_table

LONG = "/a/path/that/is/longer/than/a/line " * 8


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_table_in_a_file_has_whole_cells_and_no_trailing_spaces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("what", "found")
    table.add_row("short", LONG)
    table.add_row(LONG, "short")

    print_table(table)

    lines = capsys.readouterr().out.splitlines()
    assert sum(LONG.strip() in line for line in lines) == 2
    assert lines == [line.rstrip() for line in lines]


def test_a_message_in_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    open_console(stderr=True).print(LONG.strip())

    assert capsys.readouterr().err == f"{LONG.strip()}\n"


def test_columns_sets_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    open_console().print(LONG.strip())

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
