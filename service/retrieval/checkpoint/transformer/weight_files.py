"""Finds a transformer's weights: `model.safetensors`, or the shards that its index names."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.retrieval.errors import CheckpointError, python_command, quoted
from service.retrieval.storage.artifact import is_inside, read_json_object, refuse_pointer
from service.retrieval.storage.schema import Document, JsonText, parse_document

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Weights of other formats, by the end of a file's name, and what they are.
OTHER_FORMATS = {
    **{".bin": "pickled", ".pt": "pickled", ".pth": "pickled", ".ckpt": "pickled"},
    **{".onnx": "ONNX", ".gguf": "GGUF", ".h5": "TensorFlow", ".msgpack": "Flax"},
}


class ShardIndex(Document):
    """The field of `model.safetensors.index.json` that is read: the file of each tensor."""

    weight_map: Annotated[dict[JsonText, JsonText], Field(min_length=1)]


def has_weights(transformer: Path) -> bool:
    """Return whether a folder holds weights that transformers finds."""
    return any((transformer / name).is_file() for name in (WEIGHTS, INDEX))


def find_weights(transformer: Path) -> tuple[Path, ...]:
    """Return the files of the weights that transformers loads; no other file counts.

    Raises:
        CheckpointError: there are none, a shard is missing, or a file is a git-lfs pointer.
    """
    single, index = transformer / WEIGHTS, transformer / INDEX
    if not has_weights(transformer):
        raise CheckpointError(_no_weights(transformer))
    files = (single,) if single.is_file() else _shards(index)
    for path in files:
        refuse_pointer(path, CheckpointError)
    return files


def _shards(index: Path) -> tuple[Path, ...]:
    content = read_json_object(index, CheckpointError)
    fix = "download the repository again, or save the encoder with transformers' save_pretrained"
    names = parse_document(ShardIndex, content, index, CheckpointError, fix).weight_map.values()
    for name in sorted(set(names)):
        if not is_inside(name) or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{index} names {quoted(name)}, which is no .safetensors file of its folder: {fix}"
            )
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index} names {quoted(name)}, which is missing: {fix}")
    return tuple(index.parent / name for name in sorted(set(names)))


def _no_weights(transformer: Path) -> str:
    """Return why a folder has no weights that can be read, and the command that makes some."""
    lacking = f"{transformer} holds no {WEIGHTS}"
    shards = sorted(path.name for path in transformer.glob("*.safetensors"))
    if len(shards) == 1:
        return f"{lacking}, but {quoted(shards[0])}: rename it to {WEIGHTS}"
    if shards:
        return f"{lacking}, and {INDEX} is missing beside {quoted(shards[0])}: download it, too"
    others = (
        path.relative_to(transformer).as_posix()
        for path in sorted(transformer.rglob("*"))
        if path.suffix in OTHER_FORMATS and path.is_file()
    )
    name = min(others, key=_rank, default=None)
    kind = OTHER_FORMATS[Path(name).suffix] if name else None
    if kind == "pickled":
        return (
            f"{lacking}, but {quoted(name)}, and pickled weights are never read, as they can run "
            f"code: convert them by `{conversion_command(transformer)}`"
        )
    if kind:
        return (
            f"{lacking}, but {quoted(name)}, which is {kind}: name the repository of the "
            "safetensors weights that the file was made from"
        )
    return (
        f"{lacking}; pickled and ONNX weights are neither fetched from the Hub nor read: "
        "download the repository again, or convert its weights as docs/encoders.md shows"
    )


def _rank(name: str) -> tuple[bool, bool]:
    """Order files of other formats: the first is that from which safetensors can be made."""
    return not name.startswith("pytorch_model"), OTHER_FORMATS[Path(name).suffix] != "pickled"


def conversion_command(transformer: Path) -> str:
    """Return the command that writes safetensors beside pickled weights."""
    folder = str(transformer)
    return python_command(
        "from transformers import AutoModel; "
        f"AutoModel.from_pretrained({folder!r}).save_pretrained({folder!r})"
    )
