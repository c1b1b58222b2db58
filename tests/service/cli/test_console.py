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


@pytest.mark.parametrize(("level", "num_lines"), [("info", 1), ("debug", 2)])
def test_modules_that_faiss_has_not_for_this_cpu_are_logged_to_who_looks_for_errors(
    level: str,
    num_lines: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = logging.getLogger("faiss.loader")
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)

    start_logging(level)
    loader.info("Could not load library with AVX512 support")
    loader.warning("a warning")
    loader.setLevel(logging.NOTSET)

    assert len(capsys.readouterr().err.splitlines()) == num_lines
