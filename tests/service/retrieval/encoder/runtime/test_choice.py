from importlib.util import find_spec
from pathlib import Path

import pytest

from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError, DeviceError


def test_load_encoder_computes_in_fp32_torch_by_default(tiny_checkpoint: Path) -> None:
    assert load_encoder(str(tiny_checkpoint), device="cpu").runtime.name == "torch-fp32"


def test_where_no_graph_can_be_kept_auto_falls_back_to_torch_and_openvino_refuses(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    (tmp_path / "cache").write_text("a file, no folder")

    def load(cpu_engine: str) -> str:
        return load_encoder(
            str(tiny_checkpoint),
            cache=tmp_path / "cache",
            device="cpu",
            cpu_engine=cpu_engine,
            precision="fp32",
        ).runtime.name

    assert load("auto") == "torch-fp32"
    assert "torch encodes, as openvino cannot" in caplog.text
    with pytest.raises(CheckpointError, match="cannot be written .* set CLEAR_CACHE"):
        load("openvino")


def test_a_checkpoint_that_torch_cannot_load_either_gets_no_warning_of_torch(
    checkpoint_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    (checkpoint_copy / "manifest.json").unlink()
    (checkpoint_copy / "model.safetensors").write_bytes(b"damaged")
    (tmp_path / "cache").write_text("a file, no folder")

    with pytest.raises(CheckpointError):
        load_encoder(
            str(checkpoint_copy), cache=tmp_path / "cache", device="cpu", cpu_engine="auto"
        )

    assert caplog.text == ""


def test_int8_where_no_graph_can_be_kept_is_refused_with_the_precisions_of_torch(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    (tmp_path / "cache").write_text("a file, no folder")

    with pytest.raises(DeviceError, match=r"=int8 needs openvino, .*written.* auto, fp32, bf16$"):
        load_encoder(
            str(tiny_checkpoint),
            cache=tmp_path / "cache",
            device="cpu",
            cpu_engine="auto",
            precision="int8",
        )
