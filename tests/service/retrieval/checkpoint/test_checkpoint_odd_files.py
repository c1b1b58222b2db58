"""Odd values in every field of every JSON file: read as they are, or refused in one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import RetrievalError
from tests.conftest import make_checkpoint

ODD: list[Any] = [None, "x", -1, 10**30, 1.5, True, [1], {"a": 1}]
FILES = (
    *("config.json", "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
    *("sentence_bert_config.json", "tokenizer_config.json"),
)


def edited(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield a document with each entry replaced by each odd value, or left out."""
    entries = list(content) if isinstance(content, dict) else range(len(content))
    for key in entries:
        for odd in ODD:
            copy = json.loads(json.dumps(content))
            copy[key] = odd
            yield f"{key}={odd!r}", copy
        if isinstance(content[key], dict):
            for place, inner in edited(content[key]):
                copy = json.loads(json.dumps(content))
                copy[key] = inner
                yield f"{key}.{place}", copy
        copy = json.loads(json.dumps(content))
        del copy[key]
        yield f"{key} left out", copy
    yield from ((f"{odd!r}", odd) for odd in ODD)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_an_odd_value_is_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    base = make_checkpoint(tmp_path / "base", with_manifest=False)
    content = json.loads((base / name).read_text())
    broken, refused = {}, 0
    for place, odd in edited(content):
        folder = shutil.copytree(base, tmp_path / "case")
        (folder / name).write_text(json.dumps(odd))
        try:
            encoder = load_encoder(str(folder), device="cpu", cache=tmp_path / "cache")
            encoder.encode(["Lima", "long " * 99], "query")
        except RetrievalError as error:
            refused += 1
            if "\n" in str(error) or str(folder) not in str(error):
                broken[place] = str(error)
        except Exception as error:  # noqa: BLE001  any other is the fault that is looked for
            broken[place] = repr(error)
        shutil.rmtree(folder)

    assert broken == {}
    assert refused > 10
