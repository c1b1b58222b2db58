"""Malicious indexes and checkpoints: complete, with forged values."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError, RetrievalError
from service.retrieval.generation.generation import generations_directory, open_current
from service.retrieval.generation.manifest import generation_name
from service.retrieval.searcher import Searcher
from tests.conftest import make_checkpoint

LIES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../../CURRENT", "/etc/passwd", "", "\x00", "\ud800", "0" * 64, "__class__"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
A_FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# The same forged values in each run, so that unrelated changes do not fail; others with EXPLORE=1.
MANY = settings(A_FEW, max_examples=400, derandomize="EXPLORE" not in os.environ)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of every value of a JSON document."""
    if path:
        yield path
    pairs: Any = ()
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list):
        pairs = enumerate(content[:2])
    for key, value in pairs:
        yield from places(value, (*path, key))


def with_lie(content: Any, path: tuple[Any, ...], lie: object) -> Any:
    """Return a copy of a document with one value replaced."""
    forged = copy.deepcopy(content)
    place = forged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = lie
    return forged


def lying_index(honest: Path, to: Path, data: st.DataObject) -> Path:
    """Copy an index with a forged manifest, and name and hash it consistently."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(honest, to)
    [directory] = generations_directory(to).iterdir()
    manifest = json.loads((directory / "manifest.json").read_text())
    path = data.draw(st.sampled_from(list(places(manifest))))
    content = json.dumps(with_lie(manifest, path, data.draw(LIES))).encode()
    (directory / "manifest.json").write_bytes(content)
    directory.rename(directory.with_name(generation_name(content)))
    (to / "CURRENT").write_text(generation_name(content))
    return to


def open_lying_index(honest: Path, to: Path, encoder: Encoder, data: st.DataObject) -> None:
    index = lying_index(honest, to, data)
    try:
        searcher = Searcher(encoder, open_current(index))
        searcher.check_canaries()
    except RetrievalError as error:
        assert str(error)


@A_FEW
@given(data=st.data())
def test_a_forged_manifest_opens_or_is_refused_with_a_message(
    tmp_path: Path, tiny_index: Path, tiny_encoder: Encoder, data: st.DataObject
) -> None:
    open_lying_index(tiny_index, tmp_path / "index", tiny_encoder, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@MANY
@given(data=st.data())
def test_many_forged_manifests_open_or_are_refused_with_a_message(
    tmp_path: Path, tiny_index: Path, tiny_encoder: Encoder, data: st.DataObject
) -> None:
    open_lying_index(tiny_index, tmp_path / "index", tiny_encoder, data)


FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
)


@pytest.fixture(scope="module")
def foreign_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a manifest, as others publish them."""
    return make_checkpoint(tmp_path_factory.mktemp("foreign") / "tiny", with_manifest=False)


def load_lying_checkpoint(honest: Path, to: Path, data: st.DataObject) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(honest, to)
    path = to / data.draw(st.sampled_from(FILES))
    content = json.loads(path.read_text())
    place = data.draw(st.sampled_from(list(places(content))))
    path.write_text(json.dumps(with_lie(content, place, data.draw(LIES))))
    try:
        load_encoder(str(to), device="cpu").encode(["tea"], "query")
    except RetrievalError as error:
        assert str(error)


@settings(A_FEW, max_examples=12)
@given(data=st.data())
def test_a_forged_checkpoint_loads_or_is_refused_with_a_message(
    tmp_path: Path, foreign_checkpoint: Path, data: st.DataObject
) -> None:
    load_lying_checkpoint(foreign_checkpoint, tmp_path / "checkpoint", data)


@pytest.mark.parametrize("field", ["vocab_size", "intermediate_size", "hidden_size"])
def test_a_checkpoint_of_no_size_is_refused_with_a_message(
    tmp_path: Path, foreign_checkpoint: Path, field: str
) -> None:
    to = tmp_path / "checkpoint"
    shutil.copytree(foreign_checkpoint, to)
    path = to / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: 0}))

    with pytest.raises(CheckpointError, match=f"config.json: `{field}` must be greater"):
        load_encoder(str(to), device="cpu")


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(MANY, max_examples=200)
@given(data=st.data())
def test_many_forged_checkpoints_load_or_are_refused_with_a_message(
    tmp_path: Path, foreign_checkpoint: Path, data: st.DataObject
) -> None:
    load_lying_checkpoint(foreign_checkpoint, tmp_path / "checkpoint", data)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pkl", "modeling_evil.py", "handler.py"]
)
def test_a_file_that_could_run_code_is_never_opened(
    tmp_path: Path, foreign_checkpoint: Path, name: str
) -> None:
    to = tmp_path / "checkpoint"
    shutil.copytree(foreign_checkpoint, to)
    (to / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/ran'\ntR.")

    load_encoder(str(to), device="cpu").encode(["tea"], "query")
