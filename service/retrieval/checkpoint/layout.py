"""The layout of a Sentence Transformers folder: its sides, weights, tokenizer, prompts, pooling.

Only JSON files are read; weights are neither loaded nor hashed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from service.retrieval.checkpoint.adapter import (
    ADAPTER_FILES,
    Adapter,
    is_adapter,
    refuse_undescribed_adapter,
)
from service.retrieval.checkpoint.token_limit import read_token_limit
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.artifact import is_inside, read_json, read_json_object
from service.retrieval.storage.schema import Document, JsonText, parse_document

PoolingMode = Literal["mean", "cls", "lasttoken"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
LEGACY_POOLING: dict[str, PoolingMode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}
OTHER_LEGACY_POOLING = (
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)
PASSAGE_PROMPT_NAMES = ("document", "passage", "corpus")
ROUTES = ("query", "document")  # sentence-transformers' names of the two sides


class LibraryConfig(Document):
    """The fields of `config_sentence_transformers.json` that are read."""

    prompts: dict[JsonText, JsonText | None] | None = None


@dataclass(frozen=True)
class CheckpointLayout:
    """The files and settings of one side; an adapter is merged into its weights."""

    transformer: Path
    weights: tuple[Path, ...]
    tokenizer: Path
    config: dict[str, Any]
    pooling: str
    prompts: dict[str, str]
    max_tokens: int
    adapter: Adapter | None = None


def read_layout(directory: Path) -> CheckpointLayout:
    """Read the layout of a checkpoint's passage side.

    Raises:
        CheckpointError: a file is missing, or needs what is not supported (another pooling, a
            further module, pickled weights, remote code).
    """
    return read_sides(directory)[1]


def read_sides(directory: Path) -> tuple[CheckpointLayout, CheckpointLayout]:
    """Read the layouts of the query side and the passage side.

    Returns:
        Two layouts, which are the same object if the checkpoint has one side.

    Raises:
        CheckpointError: as `read_layout`.
    """
    query, passage = (_read_side(directory, modules) for modules in _modules_of_sides(directory))
    return (passage, passage) if query == passage else (query, passage)


def _read_side(directory: Path, modules: dict[str, str]) -> CheckpointLayout:
    transformer = directory / modules["Transformer"]
    config = read_json_object(transformer / "config.json", CheckpointError)
    if "auto_map" in config:
        raise CheckpointError(
            f"{transformer / 'config.json'} asks for remote code (auto_map), which is never run: "
            "name an encoder of an architecture that transformers has built in"
        )
    if transformer != directory and is_adapter(transformer):
        raise CheckpointError(
            f"{transformer} holds an adapter, which is read beside modules.json only: move its "
            f"files to {directory}"
        )
    weights = tuple(
        path
        for path in sorted(transformer.glob("*.safetensors"))
        if path.name not in ADAPTER_FILES  # an adapter is merged later, it is not the base's
    )
    if not weights:
        raise CheckpointError(
            f"{transformer} holds no .safetensors weights; pickled weights are never read: "
            "convert them with transformers' save_pretrained"
        )
    tokenizer = transformer / "tokenizer.json"
    if not tokenizer.is_file():
        raise CheckpointError(f"{tokenizer} is missing: save the fast tokenizer beside the weights")
    return CheckpointLayout(
        transformer=transformer,
        weights=weights,
        tokenizer=tokenizer,
        config=config,
        pooling=_read_pooling(directory / modules["Pooling"]),
        prompts=_read_prompts(directory),
        max_tokens=read_token_limit(transformer, config),
    )


def _modules_of_sides(directory: Path) -> list[dict[str, str]]:
    """Return the folder of each module by its kind, for queries and for passages."""
    path = directory / "modules.json"
    if not directory.is_dir():
        raise CheckpointError(
            f"the encoder {directory} is not a folder: name a Sentence Transformers folder, "
            "a Hub name with its revision (owner/name@commit), or `bundled`"
        )
    refuse_undescribed_adapter(directory)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: {directory} is not a Sentence Transformers folder; name one, or "
            "save the encoder with sentence-transformers"
        )
    modules = read_json(path, CheckpointError)
    try:
        paths = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path} lists a module without `type` and `path`: save the encoder again with "
            "sentence-transformers"
        ) from None
    if "Router" not in paths:
        return [_check_modules(path, paths)] * 2
    _check_folder(path, paths["Router"])
    router = directory / paths.pop("Router") / "router_config.json"
    return [_check_modules(router, paths | route) for route in _read_routes(router, directory)]


def _read_routes(path: Path, directory: Path) -> list[dict[str, str]]:
    """Read the routes of sentence-transformers' Router: query and document."""
    config = read_json_object(path, CheckpointError)
    try:
        if config["parameters"].get("route_mappings"):
            raise CheckpointError(f"{path}: `route_mappings` is not supported: leave it empty")
        folder = path.parent.relative_to(directory)
        return [
            {
                str(config["types"][name]).rpartition(".")[2]: (folder / name).as_posix()
                for name in config["structure"][route]
            }
            for route in ROUTES
        ]
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} does not describe the routes `query` and `document` by `types`, `structure` "
            "and `parameters`: save it with sentence-transformers' Router.for_query_document"
        ) from None


def _check_modules(path: Path, modules: dict[str, str]) -> dict[str, str]:
    unknown = sorted(set(modules) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise CheckpointError(
            f"{path} has a module that is not supported: {', '.join(map(quoted, unknown))}; "
            "use an encoder of Transformer, Pooling and Normalize"
        )
    if not {"Transformer", "Pooling"} <= set(modules):
        raise CheckpointError(
            f"{path} needs the modules Transformer and Pooling: save the encoder with both"
        )
    for name in modules.values():
        _check_folder(path, name)
    return modules


def _check_folder(path: Path, name: str) -> None:
    if not is_inside(name):
        raise CheckpointError(
            f"{path} names a folder outside of the checkpoint: {quoted(name)}; move it into the "
            "folder"
        )


def _read_pooling(directory: Path) -> str:
    path = directory / "config.json"
    config = read_json_object(path, CheckpointError)
    if not config.get("include_prompt", True):
        raise CheckpointError(
            f"{path}: include_prompt=false is not supported: use an encoder that pools its prompt"
        )
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = modes if isinstance(modes, list) else [modes]
    else:
        modes = [mode for key, mode in LEGACY_POOLING.items() if config.get(key)]
        modes += [key for key in OTHER_LEGACY_POOLING if config.get(key)]
    if len(modes) != 1 or modes[0] not in POOLING_MODES:
        raise CheckpointError(
            f"{path}: pooling {' + '.join(map(quoted, modes)) or '(none)'} is not supported, "
            f"only one of {', '.join(POOLING_MODES)}"
        )
    return str(modes[0])


def _read_prompts(directory: Path) -> dict[str, str]:
    path = directory / "config_sentence_transformers.json"
    content = read_json_object(path, CheckpointError) if path.is_file() else {}
    fix = "make `prompts` an object of texts by name, or remove it"
    prompts = parse_document(LibraryConfig, content, path, CheckpointError, fix).prompts or {}
    passage = next((prompts[name] for name in PASSAGE_PROMPT_NAMES if prompts.get(name)), None)
    return {"query": prompts.get("query") or "", "passage": passage or ""}
