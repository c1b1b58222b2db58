"""Importing a module defines names and does nothing else."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import ROOT, is_within, read_sources

# What may be called while a module is imported: it makes a value and touches nothing else.
PURE_CALLS = {
    *("AfterValidator", "APIRouter", "BeforeValidator", "ConfigDict", "ContextVar", "Field"),
    *("NewType", "ParamSpec", "Path", "SettingsConfigDict", "TypeVar", "dataclass", "field"),
    *("field_serializer", "field_validator", "frozenset", "get_args", "lru_cache", "namedtuple"),
    *("logging.getLogger", "model_validator", "np.dtype", "pa.binary", "pa.bool_", "pa.field"),
    *(
        "HubKind",
        "IndexOptions",
        "MappingProxyType",
        "Measured",
        "PlainValidator",
        "WithJsonSchema",
    ),
    *(
        "pa.int64",
        "pa.schema",
        "pa.string",
        "re.compile",
        "slice",
        "struct.Struct",
        "torch.inference_mode",
    ),
    *("Family", "TensorNames", "_Program", "date", "getattr"),
    *("component.output_types", "range", "replace", "torch.no_grad", "tuple"),
    *(
        "describe_problems",
        "sorted",
        "typer.Argument",
        "typer.Option",
        "typer.Typer",
    ),
}
# A command or a route is told to its own app or router, by a decorator or a call.
REGISTERING = {"add_typer", "callback", "command", "delete", "get", "post"}
PURE_METHODS = {"toordinal", "items", "keys", "model_json_schema", "values"}


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


def test_importing_a_module_has_no_effect() -> None:
    effects = {
        module: effects_of(source)
        for module, source in read_sources().items()
        if not module.endswith(".__main__")
    }

    assert {module: found for module, found in effects.items() if found} == {}


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


@pytest.mark.slow
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
