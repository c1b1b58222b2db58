import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.encoder.encoder import Encoder
from tests.conftest import make_adapter
from trainer.blend.adapter_sum import Part, write_sum
from trainer.cli.main import app
from trainer.errors import DataError, OutputError


@pytest.fixture
def adapters(tmp_path: Path, tiny_encoder: Encoder) -> tuple[Path, Path]:
    first = make_adapter(tmp_path / "a", tiny_encoder, seed=1, rank=4, training={"seed": 1})
    return first, make_adapter(tmp_path / "b", tiny_encoder, seed=2, rank=2)


def test_the_change_of_each_module_is_the_sum_of_the_shares(
    adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        app,
        ["sum", *map(str, adapters), "--share", "0.4", "--share", "0.3"]
        + ["--output", str(tmp_path / "sum")],
    )

    assert result.exit_code == 0, result.output
    total, first, second = map(read_adapter, (tmp_path / "sum", *adapters))
    for module, (a, b) in total.pairs.items():
        assert a.shape[0] == 4 + 2
        expected = sum(
            share * each.scale * each.pairs[module][1].double() @ each.pairs[module][0].double()
            for share, each in ((0.4, first), (0.3, second))
        )
        assert (total.scale * b.double() @ a.double() - expected).abs().max() < 1e-3
    assert total.description.facts["training"] == {
        "sum": [
            {"seed": 1, "share": 0.4, "weights_sha256": first.weights_sha256},
            {"share": 0.3, "weights_sha256": second.weights_sha256},
        ]
    }


def test_adapters_of_different_bases_or_a_folder_that_exists_are_refused(
    adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    path = adapters[1] / "adapter.json"
    with pytest.raises(OutputError, match="name a new folder"):
        write_sum([Part(each, 0.5) for each in adapters], adapters[0])

    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_fingerprint": "other"}))

    with pytest.raises(DataError, match="different `base_fingerprint`s: name adapters of one base"):
        write_sum([Part(each, 0.5) for each in adapters], tmp_path / "sum")


def test_each_adapter_needs_a_share(adapters: tuple[Path, Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["sum", *map(str, adapters), "--share", "1", "--output", str(tmp_path / "sum")]
    )

    assert result.exit_code == 2
    assert not (tmp_path / "sum").exists()
