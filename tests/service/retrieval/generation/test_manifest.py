import json
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import current_name, generations_directory
from service.retrieval.generation.manifest import generation_name, parse_manifest, read_manifest


@pytest.fixture
def content(tiny_index: Path) -> dict[str, Any]:
    directory = generations_directory(tiny_index) / current_name(tiny_index)
    loaded: dict[str, Any] = json.loads((directory / "manifest.json").read_bytes())
    return loaded


def test_a_manifest_read_and_written_again_has_the_same_bytes_and_name(tiny_index: Path) -> None:
    directory = generations_directory(tiny_index) / current_name(tiny_index)

    written = read_manifest(directory).to_bytes()

    assert written == (directory / "manifest.json").read_bytes()
    assert generation_name(written) == directory.name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": "12"}, "`count` is not a whole number"),
        ({"encoder": {"name": "x"}}, "`encoder.fingerprint` is missing"),
        ({"encoder": {"name": "x", "fingerprint": "y", "max_tokens": "64"}}, "max_tokens` is not"),
        ({"fields": {"year": "day"}}, "`fields.year` .*'string', 'number'"),
        ({"canaries": [{"query": "x"}]}, r"`canaries\[0\].passage_ids` is missing"),
        ({"files": {}}, "`files` has no record of vectors.faiss"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_fix(
    tmp_path: Path, content: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content | changes))

    with pytest.raises(GenerationError, match=f"manifest.json: .*{words}.*: build again"):
        parse_manifest(path)


def test_fields_of_a_later_program_are_kept(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content | {"added": [1.5]}))

    assert json.loads(parse_manifest(path).to_bytes()) == content | {"added": [1.5]}
