"""The rules of the house, read from the sources: directions, sizes, libraries, mirrored tests."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.sources import (
    PACKAGES,
    ROOT,
    children_graph,
    folders_of,
    import_graph,
    imports_of,
    is_within,
    read_sources,
)

MODULES_A_FOLDER, LINES_A_MODULE, LINES_A_FUNCTION, FEWEST_LINES = 14, 250, 60, 40
# A module that is shorter than 40 lines, and why it stands alone.
SHORT = {
    "service.http.head_method": "one middleware of its own, which no other contains",
    "service.retrieval.checkpoint.transformer.library": "readers of JSON import no transformers",
    "service.retrieval.defaults": "settings and command line read names without a heavy import",
    "service.retrieval.unit_vectors": "encoder, index and HTTP share the check; nothing else does",
    "trainer.datasets.imported": "formats, card and importer share the type; within one: a cycle",
    "trainer.objective.false_negatives": "readers look for the mask by its name",
    "trainer.errors": "the errors of a whole program, as service/errors.py",
    "trainer.markdown": "reports, data cards and model cards share the table; within one: a cycle",
}
# A heavy library and the one place that may import it.
LIBRARY_PLACES = {
    "faiss": ["service.retrieval.index.faiss"],
    "fsspec": ["service.retrieval.remote"],
    "openvino": ["service.retrieval.encoder.runtime.openvino"],
    "pymilvus": ["service.retrieval.index.milvus"],
    "ray": ["service.retrieval.indexing"],
    "uvicorn": ["service.http.protocol", "service.server"],
}
HTTP = {"fastapi", "httptools", "prometheus_client", "starlette", "uvicorn", "uvloop"}


def room_cycles(sources: Mapping[str, str]) -> list[str]:
    """Describe one import cycle among the children of each folder that has one."""
    graph = import_graph(sources)
    found = []
    for folder in sorted(folders_of(sources) | {""}):
        try:
            graphlib.TopologicalSorter(children_graph(graph, folder)).prepare()
        except graphlib.CycleError as error:
            found.append(f"{folder}: {' -> '.join(error.args[1])}")
    return found


def is_forbidden(module: str, target: str) -> bool:
    """Return whether a module of one program must not import a module of another."""
    library = target.split(".")[0]
    is_outside = is_within(target, "service") and not is_within(target, "service.retrieval")
    if is_within(module, "service.retrieval"):
        return is_outside or library in {*HTTP, "trainer"}
    if is_within(module, "trainer"):
        return is_outside
    if is_within(module, "service.client"):
        return library in PACKAGES and not is_within(target, "service.client")
    if is_within(module, "service.batching"):
        ours = is_within(target, "service.batching") or is_within(target, "service.errors")
        return not ours and library not in sys.stdlib_module_names
    return library == "trainer"


def is_misplaced(module: str, target: str) -> bool:
    """Return whether a module imports a heavy library outside the library's place."""
    places = LIBRARY_PLACES.get(target.split(".")[0])
    return places is not None and not any(is_within(module, place) for place in places)


def import_faults(module: str, source: str) -> list[str]:
    """Return the imports that a module must not have."""
    return [
        f"{module} imports {'.' * each.is_relative}{each.target}"
        for each in imports_of(ast.parse(source))
        if each.is_relative
        or is_forbidden(module, each.target)
        or is_misplaced(module, each.target)
    ]


def size_faults(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield what is larger or smaller than the house allows."""
    for folder in sorted(folders_of(sources)):
        directory = ROOT / folder.replace(".", "/")
        modules = [path for path in directory.glob("*.py") if path.name != "__init__.py"]
        if len(modules) > MODULES_A_FOLDER:
            yield f"{folder}: {len(modules)} modules"
    packages = folders_of(sources)
    for module, source in sources.items():
        lines = len(source.splitlines())
        is_short = lines < FEWEST_LINES and module not in SHORT
        if lines > LINES_A_MODULE:
            yield f"{module}: {lines} lines"
        if is_short and module not in packages and not module.endswith(".__main__"):
            yield f"{module}: {lines} lines; merge it, or say in SHORT why not"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LINES_A_FUNCTION:
                    yield f"{module}.{node.name}: {length} lines"


def is_docstring_only(source: str) -> bool:
    tree = ast.parse(source)
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def mirrors_a_module(test: Path, root: Path = ROOT) -> bool:
    """Return whether a unit test is named after a module or folder, with or without an aspect.

    Args:
        test: its path below `tests/`.
        root: the repository.
    """
    folder, claimed = root / test.parent, test.stem.removeprefix("test_")
    if not folder.is_dir():
        return False
    names = {path.stem for path in folder.iterdir()} | {folder.name}
    return any(claimed == name or claimed.startswith(f"{name}_") for name in names)


def test_there_are_modules_to_check() -> None:
    assert {"service", "service.retrieval.encoder.encoder", "trainer"} <= set(read_sources())


def test_no_folder_has_an_import_cycle_among_its_children() -> None:
    assert room_cycles(read_sources()) == []


def test_imports_go_in_the_right_direction_and_are_absolute() -> None:
    faults = [import_faults(module, source) for module, source in read_sources().items()]

    assert sum(faults, []) == []


def test_folders_modules_and_functions_keep_their_sizes() -> None:
    assert list(size_faults(read_sources())) == []


def test_every_short_module_with_a_reason_is_still_there_and_short() -> None:
    sources = read_sources()

    assert [name for name in SHORT if len(sources[name].splitlines()) >= FEWEST_LINES] == []


def test_a_package_is_its_docstring_but_the_client_s() -> None:
    packages = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("__init__.py"))
    client = ROOT / "service/client/__init__.py"

    assert [path for path in packages if not is_docstring_only(path.read_text())] == [client]


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_unit_test_mirrors_a_module() -> None:
    tests = [
        path.relative_to(ROOT / "tests")
        for name in PACKAGES
        for path in sorted((ROOT / "tests" / name).rglob("test_*.py"))
    ]

    assert tests
    assert [path.as_posix() for path in tests if not mirrors_a_module(path)] == []


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("service.cli.main", ["torch", "numpy", "pyarrow", "fastapi", "pydantic", "asyncio"]),
        ("service.settings.settings", ["torch", "numpy", "pyarrow"]),
        ("service.batching.batcher", ["torch", "numpy"]),
        ("service.retrieval.hardware", ["torch"]),
        ("service.client", ["torch", "fastapi", "pydantic_settings"]),
        ("trainer.cli.main", ["torch", "transformers", "pyarrow", "sentence_transformers"]),
    ],
)
def test_a_light_module_loads_no_heavy_library(module: str, libraries: list[str]) -> None:
    script = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert sorted(set(json.loads(done.stdout)) & set(libraries)) == []


# The checkers find planted faults, and only those.


@pytest.mark.parametrize(
    ("sources", "cycles"),
    [
        ({"a": "import b", "b": "from a import x"}, 1),
        ({"p.a": "from p import b", "p.b": "from p.c import x", "p.c": "import p.a"}, 1),
        ({"p.x.a": "import p.y.a", "p.y.b": "import p.x.b", "p.x.b": "", "p.y.a": ""}, 1),
        ({"a": "try:\n import b\nexcept ImportError: pass", "b": "import a"}, 1),
        ({"a": "import b", "b": "def f():\n import a"}, 0),
        ({"a": "import b", "b": "if TYPE_CHECKING:\n import a"}, 0),
        ({"a": "import b\nimport c", "b": "import c", "c": "import os"}, 0),
    ],
)
def test_a_planted_cycle_is_found(sources: dict[str, str], cycles: int) -> None:
    assert len(room_cycles(sources)) == cycles


@pytest.mark.parametrize(
    ("module", "source", "is_fault"),
    [
        ("service.retrieval.searcher", "import service.settings", True),
        ("service.retrieval.searcher", "from service import settings", True),
        ("service.retrieval.searcher", "def f():\n from service.app import x", True),
        ("service.retrieval.searcher", "from fastapi import FastAPI", True),
        ("service.retrieval.searcher", "if TYPE_CHECKING:\n import starlette", True),
        ("service.retrieval.searcher", "from .errors import RetrievalError", True),
        ("service.retrieval.searcher", "from trainer import objective", True),
        ("service.retrieval.searcher", "import faiss", True),
        ("service.retrieval.searcher", "from service.retrieval import errors", False),
        ("service.retrieval.searcher", "import pydantic", False),
        ("service.retrieval.index.faiss.index", "import faiss", False),
        ("service.retrieval.index.open", "def f():\n from faiss import read_index", True),
        ("service.app", "from . import settings", True),
        ("service.app", "import trainer.objective", True),
        ("service.app", "import uvicorn", True),
        ("service.server", "import uvicorn", False),
        ("service.app", "from service.retrieval import searcher\nimport fastapi", False),
        ("service.batching.queue", "import heapq\nfrom service.errors import X", False),
        ("service.batching.queue", "import torch", True),
        ("service.batching.queue", "from service.engine import work", True),
        ("service.client.client", "import httpx2\nimport service.client.messages", False),
        ("service.client.client", "from service.errors import X", True),
        ("trainer.training.train", "from service.app import create_app", True),
        ("trainer.training.train", "from service.retrieval.encoder import encoder", False),
    ],
)
def test_a_planted_import_is_found(module: str, source: str, is_fault: bool) -> None:
    assert bool(import_faults(module, source)) == is_fault


def test_planted_sizes_are_found() -> None:
    long_function = "def f():\n" + " x = 1\n" * 60
    sources = {"a": "x = 1\n" * 251, "b": "x = 1\n" * 39, "c": long_function}

    assert [fault.split(":")[0] for fault in size_faults(sources)] == ["a", "b", "c.f"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Doc."""', True),
        ('"""Doc."""\nimport os', False),
        ("", False),
        ("__all__ = []", False),
    ],
)
def test_a_planted_package_content_is_found(source: str, expected: bool) -> None:
    assert is_docstring_only(source) == expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("room/test_noun.py", True),
        ("room/test_noun_under_load.py", True),
        ("room/test_room.py", True),
        ("room/test_nouns.py", False),
        ("room/test_other.py", False),
        ("elsewhere/test_noun.py", False),
    ],
)
def test_a_planted_test_name_is_found(tmp_path: Path, test: str, expected: bool) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room/noun.py").touch()

    assert mirrors_a_module(Path(test), tmp_path) == expected
