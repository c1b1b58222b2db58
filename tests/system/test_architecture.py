"""The rules between modules, read from their sources; nothing is imported but by the last test."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("service", "trainer")
WEB = {"fastapi", "httptools", "prometheus_client", "starlette", "uvicorn", "uvloop"}
# What may be called while a module is imported: it makes a value and touches nothing else.
PURE_CALLS = {
    *("AfterValidator", "APIRouter", "BeforeValidator", "ConfigDict", "ContextVar", "Field"),
    *("NewType", "ParamSpec", "Path", "SettingsConfigDict", "TypeVar", "dataclass", "field"),
    *("field_serializer", "field_validator", "frozenset", "get_args", "lru_cache", "namedtuple"),
    *("logging.getLogger", "model_validator", "np.dtype", "pa.binary", "pa.bool_", "pa.field"),
    *("IndexOptions", "MappingProxyType", "Measured", "PlainValidator", "WithJsonSchema"),
    *("pa.schema", "pa.string", "re.compile", "slice", "struct.Struct", "torch.inference_mode"),
    *("component.output_types", "range", "torch.no_grad", "tuple"),
    *(
        "Each",
        "Maybe",
        "describe_problems",
        "sorted",
        "typer.Argument",
        "typer.Option",
        "typer.Typer",
    ),
}
# A command or a route is told to its own app or router, by a decorator or a call.
REGISTERING = {"add_typer", "callback", "command", "delete", "get", "post"}
PURE_METHODS = {"items", "keys", "model_json_schema", "values"}


@dataclass(frozen=True)
class Import:
    """One imported name."""

    target: str
    is_relative: bool
    is_deferred: bool  # in a function or under TYPE_CHECKING: no part of a cycle


def read_sources() -> dict[str, str]:
    """Read every module; a package goes by its own name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): (
            path.read_text(encoding="utf-8")
        )
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports_of(node: ast.AST, is_deferred: bool = False) -> Iterator[Import]:
    """Walk a tree and yield what it imports, `from a import b` as `a.b`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, False, is_deferred)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                target = ".".join(filter(None, (child.module, alias.name)))
                yield Import(target, child.level > 0, is_deferred)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(child, is_deferred or is_function or is_type_checking(child))


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def cycle_in(sources: dict[str, str]) -> list[str]:
    """Find one import cycle, or nothing."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = [each.target for each in imports_of(ast.parse(source)) if not each.is_deferred]
        # `a.b` is the module a.b, or the name b of the module a
        found = {name for target in targets for name in (target, target.rpartition(".")[0])}
        graph[module] = (found & set(sources)) - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def is_forbidden(module: str, target: str) -> bool:
    from_outside = is_within(target, "service") and not is_within(target, "service.retrieval")
    if is_within(module, "service.retrieval"):
        return from_outside or target.split(".")[0] in {*WEB, "trainer"}
    if is_within(module, "trainer"):
        return from_outside
    return is_within(target, "trainer")


def direction_faults(module: str, source: str) -> list[str]:
    """List the imports that a module must not have."""
    return [
        f"{module} imports {'.' * each.is_relative}{each.target}"
        for each in imports_of(ast.parse(source))
        if each.is_relative or is_forbidden(module, each.target)
    ]


def is_docstring_only(source: str) -> bool:
    tree = ast.parse(source)
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def executed_on_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the statements and expressions that an import runs: no function's body."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.decorator_list
            yield node.args  # defaults and annotations
        elif isinstance(node, ast.ClassDef):
            yield from (*node.decorator_list, *node.bases, *node.keywords)
            yield from executed_on_import(node.body)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"):
            yield node


def is_pure(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    is_registering = method in REGISTERING and name.split(".")[0].endswith(("app", "router"))
    return name in PURE_CALLS or method in PURE_METHODS or is_registering


def effects_of(source: str) -> list[str]:
    """List what importing a module does besides defining names."""
    effects = []
    harmless = (ast.Import, ast.ImportFrom, ast.Pass, ast.AnnAssign, ast.Assign, ast.Expr, ast.If)
    for node in executed_on_import(ast.parse(source).body):
        if isinstance(node, ast.stmt) and not isinstance(node, harmless):
            effects.append(type(node).__name__)
        for inner in walk_without_lambdas(node):
            if isinstance(inner, ast.Call) and not is_pure(inner):
                effects.append(f"{ast.unparse(inner.func)}()")
            is_target = isinstance(getattr(inner, "ctx", None), ast.Store | ast.Del)
            if is_target and isinstance(inner, ast.Attribute | ast.Subscript):
                effects.append(f"{ast.unparse(inner)} = ...")
    return effects


def walk_without_lambdas(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from walk_without_lambdas(child)


def test_there_are_modules_to_check() -> None:
    assert {"service", "service.retrieval.encoder.encoder", "trainer"} <= set(read_sources())


def test_there_is_no_import_cycle() -> None:
    assert cycle_in(read_sources()) == []


def test_imports_go_in_the_right_direction_and_are_absolute() -> None:
    faults = [direction_faults(module, source) for module, source in read_sources().items()]

    assert sum(faults, []) == []


def test_a_package_is_its_docstring() -> None:
    packages = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("__init__.py"))

    assert [path for path in packages if not is_docstring_only(path.read_text())] == []


def test_importing_a_module_has_no_effect() -> None:
    effects = {
        module: effects_of(source)
        for module, source in read_sources().items()
        if not module.endswith(".__main__")
    }

    assert {module: found for module, found in effects.items() if found} == {}


# The checkers find planted faults, and only those.


@pytest.mark.parametrize(
    ("sources", "cycle"),
    [
        ({"a": "import b", "b": "from a import x"}, {"a", "b"}),
        ({"p.a": "from p import b", "p.b": "from p.c import x", "p.c": "import p.a"}, 3),
        ({"a": "try:\n import b\nexcept ImportError: pass", "b": "import a"}, {"a", "b"}),
        ({"a": "import b", "b": "def f():\n import a"}, set()),
        ({"a": "import b", "b": "if TYPE_CHECKING:\n import a"}, set()),
        ({"a": "import b\nimport c", "b": "import c", "c": "import os"}, set()),
    ],
)
def test_a_planted_cycle_is_found(sources: dict[str, str], cycle: set[str] | int) -> None:
    found = set(cycle_in(sources))

    assert found == cycle or len(found) == cycle


@pytest.mark.parametrize(
    ("module", "source", "is_fault"),
    [
        ("service.retrieval.encoder.encoder", "import service.settings.settings", True),
        ("service.retrieval.encoder.encoder", "from service import settings", True),
        ("service.retrieval.encoder.encoder", "def f():\n from service.app import x", True),
        ("service.retrieval.encoder.encoder", "from fastapi import FastAPI", True),
        ("service.retrieval.index.faiss.index", "if TYPE_CHECKING:\n import starlette", True),
        ("service.retrieval.encoder.encoder", "from .pooling import mean_pool", True),
        ("service.app", "from . import settings", True),
        ("service.app", "import trainer.losses", True),
        ("service.retrieval.encoder.encoder", "from trainer import losses", True),
        ("trainer.train", "from service.app import create_app", True),
        ("trainer.train", "from service import settings", True),
        ("trainer.train", "from service.retrieval.encoder.encoder import Encoder", False),
        ("trainer.train", "from service.retrieval import artifact", False),
        ("service.retrieval.encoder.encoder", "from service.retrieval import pooling", False),
        ("service.app", "from service.retrieval import encoder\nimport fastapi", False),
    ],
)
def test_a_planted_import_is_found(module: str, source: str, is_fault: bool) -> None:
    assert bool(direction_faults(module, source)) == is_fault


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
    ("source", "expected"),
    [
        ("torch.set_num_threads(1)", ["torch.set_num_threads()"]),
        ("os.environ['A'] = 'b'", ["os.environ['A'] = ..."]),
        ("torch.backends.x = True", ["torch.backends.x = ..."]),
        ("HOME = Path.home()", ["Path.home()"]),
        ("TEXT = Path(__file__).read_text()", ["Path(__file__).read_text()"]),
        ("DEVICE: str = find_device()", ["find_device()"]),
        ("class A:\n x = open('f')", ["open()"]),
        ("def f(x=torch.cuda.device_count()): pass", ["torch.cuda.device_count()"]),
        ("def f(x: Annotated[int, load()]): pass", ["load()"]),
        ("@register('x')\ndef f(): pass", ["register()"]),
        ("for x in y: pass", ["For"]),
        ("with x: pass", ["With"]),
        ("if fast:\n import_it()", ["import_it()"]),
        ("count += 1", ["AugAssign"]),
        ("del os.environ['A']", ["Delete", "os.environ['A'] = ..."]),
        ("logging.basicConfig()", ["logging.basicConfig()"]),
        ("REQUESTS = Counter('requests', 'All.')", ["Counter()"]),
        ("def f():\n torch.set_num_threads(1)", []),
        ("NAME = re.compile('x')\nWEB = Path(__file__).parent / 'web'", []),
        ("app = typer.Typer()\n@app.command('x')\ndef f(): pass", []),
        ("def f(g=lambda: open('f')): pass", []),
        ("if __name__ == '__main__':\n main()", []),
    ],
)
def test_a_planted_effect_is_found(source: str, expected: list[str]) -> None:
    assert effects_of(source) == expected


IMPORT_ALL = """
import contextlib, logging, os, signal, sys
with contextlib.suppress(ImportError):
    import sentence_transformers  # it sets variables of its own
environment, handlers = dict(os.environ), list(logging.root.handlers)
sys.path.insert(0, sys.argv[1])
for module in sys.argv[2:]:
    __import__(module)
assert dict(os.environ) == environment, set(os.environ.items()) ^ set(environment.items())
assert logging.root.handlers == handlers, logging.root.handlers
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
for name, logger in logging.root.manager.loggerDict.items():
    ours = name.partition(".")[0] in ("service", "trainer")
    assert not ours or not getattr(logger, "handlers", []), name
if "torch" in sys.modules:
    assert not sys.modules["torch"].cuda.is_initialized()
"""


def test_importing_all_modules_changes_nothing_that_can_be_seen(tmp_path: Path) -> None:
    home, folder, scratch = (tmp_path / name for name in ("home", "folder", "scratch"))
    for directory in (home, folder, scratch):
        directory.mkdir()
    # What those of `integrations` import is other people's, and optional.
    modules = [
        module
        for module in read_sources()
        if not module.endswith(".__main__") and not is_within(module, "service.integrations")
    ]

    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, str(ROOT), *modules],
        cwd=folder,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [*home.rglob("*"), *folder.rglob("*")] == []
