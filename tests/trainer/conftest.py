import json
from pathlib import Path

import pytest


@pytest.fixture
def xquad(tmp_path: Path) -> Path:
    """A folder of one question in two languages."""
    for language, question in {"en": "Where does tea grow?", "de": "Wo wächst Tee?"}.items():
        qas = [{"id": "q1", "question": question, "answers": []}]
        content = {"data": [{"paragraphs": [{"context": "Tea grows on hills.", "qas": qas}]}]}
        (tmp_path / f"xquad.{language}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> list[str]:
    """The flags that name the tiny encoder."""
    return ["--encoder", str(tiny_checkpoint), "--max-tokens", "64", "--device", "cpu"]
