"""The published graph of an encoder is, with its weights, the one that an export makes."""

from filecmp import cmp
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.encoder.runtime.openvino.export_process import export_in_own_process
from service.retrieval.encoder.runtime.openvino.published import (
    PUBLISHED,
    publish_graph,
    write_published,
)
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError
from tests.conftest import cut_short

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from service.retrieval.encoder.runtime.openvino import export

TABLE = "embeddings.word_embeddings.weight"
FILES = ("graph.xml", "graph.bin", "probe.safetensors")


def export_small(directory: Path, layout: CheckpointLayout, constant: bytes = b"c" * 9) -> str:
    """Write a graph of all weights but the table, with a constant after each, as an export does."""
    content, lines = b"", []
    for name, weight in load_model(layout).state_dict().items():
        if name != TABLE and weight.is_floating_point():
            place = f'offset="{len(content)}" size="{weight.nbytes}"'
            lines.append(f'<data element_type="f32" shape="" {place} />')
            content += weight.numpy().tobytes() + constant
    (directory / "graph.xml").write_text("\n".join(lines))
    (directory / "graph.bin").write_bytes(content)
    save_file({"short.token_ids": np.arange(3)}, directory / "probe.safetensors")
    return TABLE


@pytest.fixture
def tuned(tmp_path: Path, tuned_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr(export, "export_graph", export_small)
    return open_checkpoint(str(tuned_checkpoint), tmp_path)


def sides_of(checkpoint: Checkpoint) -> dict[str, CheckpointLayout]:
    return {checkpoint.fingerprint(each): each for each in (checkpoint.passage, checkpoint.query)}


def test_a_published_graph_has_the_bytes_of_an_export_on_both_sides(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    publish_graph(tmp_path / "graph", sides_of(tuned))

    contents = []
    for fingerprint, layout in sides_of(tuned).items():
        written, exported = tmp_path / f"written-{fingerprint}", tmp_path / f"made-{fingerprint}"
        written.mkdir()
        exported.mkdir()
        table = write_published(written, layout, fingerprint, tmp_path / "graph")
        assert table == export_small(exported, layout)
        for name in FILES:
            assert (written / name).read_bytes() == (exported / name).read_bytes()
        contents.append((written / "graph.bin").read_bytes())
    assert contents[0] != contents[1]  # the adapter is merged
    assert (tmp_path / "graph").stat().st_size < len(contents[0]) / 4  # it holds no weights


def test_an_encoder_whose_graph_is_not_published_is_exported(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    assert write_published(tmp_path, tuned.query, "0" * 64) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_published_file_is_named(tmp_path: Path, tuned: Checkpoint) -> None:
    publish_graph(tmp_path / "graph", {"a": tuned.passage})
    cut_short(tmp_path / "graph")

    with pytest.raises(CheckpointError, match=r"graph cannot be read .*: install the package"):
        write_published(tmp_path, tuned.passage, "a", tmp_path / "graph")


def test_sides_of_different_graphs_are_not_published(
    tmp_path: Path, tuned: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_other(directory: Path, layout: CheckpointLayout) -> str:
        return export_small(directory, layout, b"q" if layout.adapter else b"p")

    monkeypatch.setattr(export, "export_graph", export_other)

    with pytest.raises(CheckpointError, match="have different graphs"):
        publish_graph(tmp_path / "graph", sides_of(tuned))
    assert not (tmp_path / "graph").exists()


@pytest.mark.slow
def test_the_published_graph_is_what_a_process_of_its_own_makes_of_the_bundled_encoder(
    tmp_path: Path,
) -> None:
    bundled = open_checkpoint(BUNDLED, default_cache())
    written, exported = tmp_path / "written", tmp_path / "exported"
    written.mkdir()
    exported.mkdir()

    table = write_published(written, bundled.query, bundled.fingerprint(bundled.query), PUBLISHED)

    # In a process of its own: OpenVINO numbers names by what a process converted before.
    assert table == export_in_own_process(exported, bundled.query)
    assert {path.name for path in exported.iterdir()} == set(FILES)
    assert [name for name in FILES[:2] if not cmp(written / name, exported / name, False)] == []
