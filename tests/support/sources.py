"""The sources of both packages and what they import, read without importing anything."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("service", "trainer")


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        target: the dotted name, `from a import b` as `a.b`.
        is_relative: the statement begins with a dot.
        is_deferred: it stands in a function or under TYPE_CHECKING, so an import does not run it.
    """

    target: str
    is_relative: bool
    is_deferred: bool


def read_sources() -> dict[str, str]:
    """Read every module by its dotted name; a package goes by its own name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): (
            path.read_text(encoding="utf-8")
        )
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports_of(node: ast.AST, is_deferred: bool = False) -> Iterator[Import]:
    """Yield what a tree imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, False, is_deferred)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                target = ".".join(filter(None, (child.module, alias.name)))
                yield Import(target, child.level > 0, is_deferred)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(child, is_deferred or is_function or _is_type_checking(child))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def is_within(name: str, package: str) -> bool:
    """Return whether a dotted name is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Map each module to the modules that an import of it imports, deferred ones left out."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = [each.target for each in imports_of(ast.parse(source)) if not each.is_deferred]
        # `a.b` is the module a.b, or the name b of the module a.
        found = {name if name in sources else name.rpartition(".")[0] for name in targets}
        graph[module] = (found & set(sources)) - {module}
    return graph


def folders_of(sources: Mapping[str, str]) -> set[str]:
    """Return the dotted names of all folders that hold modules."""
    return {
        ".".join(parts[:end])
        for parts in (module.split(".") for module in sources)
        for end in range(1, len(parts))
    }


def children_graph(graph: Mapping[str, set[str]], folder: str) -> dict[str, set[str]]:
    """Fold an import graph to the children of one folder: its modules and sub-folders."""
    prefix = f"{folder}." if folder else ""
    folded: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if module.startswith(prefix):
            child = module.removeprefix(prefix).split(".")[0]
            inside = {name for name in targets if name.startswith(prefix)}
            names = {name.removeprefix(prefix).split(".")[0] for name in inside}
            folded.setdefault(child, set()).update(names - {child})
    return folded
