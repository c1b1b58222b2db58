"""Writes checkpoint folders in the Sentence Transformers format: modules, weights, manifest.

It takes layouts, state dicts and facts. It knows nothing of training, nor of how an encoder
computes with what is written.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.retrieval.checkpoint.adapter import ADAPTER_FILES
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import CheckpointManifest, write_manifest
from service.retrieval.checkpoint.modules.head import HeadModule
from service.retrieval.checkpoint.modules.pooling import LEGACY_POOLING
from service.retrieval.checkpoint.prompts.prompts import CONFIG, library_config
from service.retrieval.checkpoint.saved_weights import (
    StateDict,
    config_of_weights,
    save_weights,
    without_new_pooler,
)
from service.retrieval.checkpoint.transformer.sentence_config import NAMES as SENTENCE_CONFIGS
from service.retrieval.checkpoint.transformer.tokenizer_files import FILES as TOKENIZER_FILES
from service.retrieval.checkpoint.transformer.weight_files import INDEX as WEIGHTS_INDEX
from service.retrieval.checkpoint.transformer.weight_files import OTHER_FORMATS, WEIGHTS
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import canonical_json, read_json_object

# The bytes of a file, a file to copy, or weights.
FileContent = bytes | Path | StateDict
TRANSFORMER_FILES = ("config.json", *TOKENIZER_FILES, *SENTENCE_CONFIGS)
REFERENCE = "reference/vectors.safetensors"  # embeddings that the encoder must give
ONE_SIDE = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
# The modes that were written before there were others: files keep their bytes.
OLD_MODES = ["mean", "cls", "lasttoken"]
TWO_SIDES = (("", "Router"), ("1_Normalize", "Normalize"))


def write_checkpoint(
    directory: Path, files: Mapping[str, FileContent], **facts: object
) -> CheckpointManifest:
    """Write a checkpoint's files, then the manifest that describes them.

    Args:
        directory: a folder that exists, empty.
        files: what to write, by the path in the folder.
        facts: further entries of the manifest: `name`, `license`, the training record.

    Returns:
        The manifest.

    Raises:
        CheckpointError: the files are not a checkpoint.
        OSError: the folder cannot be written.
    """
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            save_weights(path, content)
    return write_manifest(directory, **facts)


def with_other_weights(
    directory: Path, layout: CheckpointLayout, state: StateDict
) -> dict[str, FileContent]:
    """Return the files of a checkpoint of one side, its weights replaced and nothing else.

    Modules after the transformer are copied. Not copied are the replaced weights in other formats.

    Args:
        directory: the checkpoint.
        layout: of that checkpoint.
        state: the weights to write, in one file; its pooler is left out if the checkpoint has none.
    """
    names = (path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file())
    folder = layout.transformer.relative_to(directory)
    files: dict[str, FileContent] = {
        name.as_posix(): directory / name
        for name in names
        if not _is_left_out(name, folder) and not name.as_posix().startswith(".")  # as .git
    }
    return files | {
        (folder / name).as_posix(): content for name, content in _weights(layout, state).items()
    }


def _is_left_out(name: Path, transformer: Path) -> bool:
    """Return whether a file is of the replaced weights, in any format, or describes them."""
    is_of_transformer = name.parent == transformer and name.suffix == ".safetensors"
    return (
        is_of_transformer
        or name == Path(REFERENCE)
        or name.name in (MANIFEST, WEIGHTS_INDEX, *ADAPTER_FILES)
        or name.suffix in (*OTHER_FORMATS, ".onnx_data", ".ot", ".xml")
    )


def _weights(layout: CheckpointLayout, state: StateDict) -> dict[str, FileContent]:
    weights: dict[str, FileContent] = {WEIGHTS: without_new_pooler(state, layout)}
    config = config_of_weights(state, layout)
    return weights | ({"config.json": canonical_json(config)} if config != layout.config else {})


def one_side(layout: CheckpointLayout) -> dict[str, FileContent]:
    """Return the files of a checkpoint that encodes queries and passages by the same weights."""
    head = layout.decisive_head
    kinds = ["Transformer", "Pooling", *(module.kind for module in head), "Normalize"]
    folders = ["", *(f"{at}_{kind}" for at, kind in enumerate(kinds) if at)]
    files = {**_transformer_files("", layout), "1_Pooling/config.json": _pooling_config(layout)}
    for folder, module in zip(folders[2:], head, strict=False):
        files |= _head_files(folder, module)
    return files | {
        "modules.json": canonical_json(describe_modules(list(zip(folders, kinds, strict=True)))),
        CONFIG: canonical_json(library_config(**layout.prompts, truncate_dim=layout.truncate_dim)),
    }


def two_sides(
    query: CheckpointLayout, passage: CheckpointLayout, query_state: StateDict | None = None
) -> dict[str, FileContent]:
    """Return the files of a checkpoint with a query side and a passage side (a Router).

    Args:
        query: the layout of the query side.
        passage: the layout of the passage side.
        query_state: the query side's weights if they differ from its files, which is so where an
            adapter is merged into them.
    """
    files: dict[str, FileContent] = {}
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for route, layout, state in (("query", query, query_state), ("document", passage, None)):
        head = layout.decisive_head
        kinds = ["Transformer", "Pooling", *(module.kind for module in head)]
        names = [f"{route}_{at}_{kind}" for at, kind in enumerate(kinds)]
        files |= _transformer_files(f"{names[0]}/", layout, state)
        files[f"{names[1]}/config.json"] = _pooling_config(layout)
        for name, module in zip(names[2:], head, strict=True):
            files |= _head_files(name, module)
        types |= dict(zip(names, map(_module_type, kinds), strict=True))
        structure[route] = names
    router = {
        "types": types,
        "structure": structure,
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    return files | {
        "router_config.json": canonical_json(router),
        "modules.json": canonical_json(describe_modules(TWO_SIDES)),
        CONFIG: canonical_json(
            library_config(query.prompts["query"], passage.prompts["passage"], passage.truncate_dim)
        ),
    }


def stating_prompts(
    directory: Path, files: Mapping[str, FileContent], prompts: Mapping[str, str]
) -> dict[str, FileContent]:
    """Return a checkpoint's files with these prompts of queries and passages in its config.

    Args:
        directory: the checkpoint that the files are of.
        files: to write, by the path in the folder.
        prompts: by role.
    """
    path = directory / CONFIG
    config = read_json_object(path, CheckpointError) if path.is_file() else {}
    others = config.get("prompts") or {}
    content = library_config(prompts["query"], prompts["passage"])
    content |= config | {"prompts": others | content["prompts"]}
    return {**files, CONFIG: canonical_json(content)}


def describe_modules(modules: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    """Return the content of `modules.json` for modules given as folder and kind."""
    return [
        {"idx": at, "name": str(at), "path": path, "type": _module_type(kind)}
        for at, (path, kind) in enumerate(modules)
    ]


def _module_type(kind: str) -> str:
    return f"sentence_transformers.models.{kind}"


def _transformer_files(
    prefix: str, layout: CheckpointLayout, state: StateDict | None = None
) -> dict[str, FileContent]:
    if layout.is_static:
        raise CheckpointError(
            f"{layout.transformer} is a StaticEmbedding, which nothing here changes: copy the "
            "folder"
        )
    names = [*TRANSFORMER_FILES] if state is not None else [*TRANSFORMER_FILES, WEIGHTS_INDEX]
    copied = [layout.transformer / name for name in names if (layout.transformer / name).is_file()]
    files: dict[str, FileContent] = {prefix + path.name: path for path in copied}
    if state is not None:
        return files | {prefix + name: text for name, text in _weights(layout, state).items()}
    return files | {prefix + path.name: path for path in layout.weights}


def _pooling_config(layout: CheckpointLayout) -> bytes:
    content: dict[str, object] = {"word_embedding_dimension": layout.hidden_dim}
    pooling = layout.pooling
    if not pooling.include_prompt:
        content["include_prompt"] = False
    modes = [mode for mode in LEGACY_POOLING.values() if mode in pooling.modes]
    if list(pooling.modes) != modes:  # the old form has no order of its own
        return canonical_json(content | {"pooling_mode": list(pooling.modes)})
    # The form that old versions read, too; they take the mean unless it is said to be false.
    written = {key: mode for key, mode in LEGACY_POOLING.items() if mode in OLD_MODES + modes}
    return canonical_json(content | {key: mode in modes for key, mode in written.items()})


def _head_files(folder: str, module: HeadModule) -> dict[str, FileContent]:
    names = [path.name for path in (module.folder / "config.json", module.weights) if path]
    paths = {f"{folder}/{name}": module.folder / name for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}
