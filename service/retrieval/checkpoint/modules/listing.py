"""The ordered modules of each side, from `modules.json` and the file of a Router."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.artifact import is_inside, read_json, read_json_object

ROUTES = ("query", "document")  # sentence-transformers' names of the two sides
ROUTERS = ("Router", "Asym")  # the second is the older name
ROUTER_FILES = ("router_config.json", "config.json")
LIBRARY = "sentence_transformers."
MODULES = "modules.json"


@dataclass(frozen=True)
class ModuleEntry:
    """One module: its kind, such as `Dense`, its folder, and the file that lists it."""

    kind: str
    folder: Path
    listed_in: Path


def read_modules(directory: Path) -> list[list[ModuleEntry]]:
    """Return the modules of the query side and of the passage side, in the order they run.

    Raises:
        CheckpointError: a list is damaged, names a folder outside of the checkpoint, or asks for
            code that is not sentence-transformers' own.
    """
    path = directory / MODULES
    entries = read_json(path, CheckpointError)
    try:
        listed = [(_text(entry["type"]), _text(entry["path"])) for entry in entries]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path} lists a module without `type` and `path`: save the encoder again with "
            "sentence-transformers"
        ) from None
    modules = [_entry(directory, path, *module) for module in listed]
    return [list(_routed(directory, modules, route)) for route in ROUTES]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _routed(directory: Path, modules: list[ModuleEntry], route: str) -> Iterator[ModuleEntry]:
    """Yield the modules with each Router replaced by the modules of its route."""
    for module in modules:
        if module.kind in ROUTERS:
            yield from _read_route(directory, module.folder, route)
        else:
            yield module


def _entry(directory: Path, listed_in: Path, type_name: str, folder: str) -> ModuleEntry:
    if not type_name.startswith(LIBRARY):
        raise CheckpointError(
            f"{listed_in} asks for the module {quoted(type_name)}, whose code is not "
            "sentence-transformers' own and is never run: use an encoder without such a module"
        )
    if not is_inside(folder):
        raise CheckpointError(
            f"{listed_in} names a folder outside of the checkpoint: {quoted(folder)}; move it "
            "into the folder"
        )
    return ModuleEntry(type_name.rpartition(".")[2], directory / folder, listed_in)


def _read_route(directory: Path, folder: Path, route: str) -> list[ModuleEntry]:
    """Read one route of sentence-transformers' Router, `query` or `document`."""
    found = [folder / name for name in ROUTER_FILES if (folder / name).is_file()]
    path = found[0] if found else folder / ROUTER_FILES[0]
    config: dict[str, Any] = read_json_object(path, CheckpointError)
    try:
        has_mappings = bool(config["parameters"].get("route_mappings"))
        listed = [
            (_text(config["types"][name]), _text(name)) for name in config["structure"][route]
        ]
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} does not describe the routes `query` and `document` by `types`, `structure` "
            "and `parameters`: save it with sentence-transformers' Router.for_query_document"
        ) from None
    if has_mappings:
        raise CheckpointError(f"{path}: `route_mappings` is not supported: leave it empty")
    inside = folder.relative_to(directory)
    return [_entry(directory, path, kind, (inside / name).as_posix()) for kind, name in listed]


def split_modules(
    directory: Path, modules: list[ModuleEntry]
) -> tuple[Path, Path, list[ModuleEntry]]:
    """Return the folders of Transformer and Pooling, and the modules after them."""
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        listed_in = modules[0].listed_in if modules else directory / MODULES
        raise CheckpointError(
            f"{listed_in} starts with the modules {', '.join(map(quoted, kinds[:2])) or '(none)'}, "
            "not with Transformer and Pooling: save the encoder with both"
        )
    return modules[0].folder, modules[1].folder, modules[2:]
