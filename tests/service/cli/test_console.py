"""Text logs of the command line."""

import logging

import pytest

from service.cli.console import start_logging


def test_a_text_log_in_a_file_has_one_line_for_a_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    message = "/a/path/that/is/longer/than/a/line " * 8

    start_logging("warning")
    logging.getLogger("service.test").warning(message.strip())

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f" WARNING  {message.strip()}")
