"""What docker/trim removes from the CPU image, and what docker/contents lists."""

import ctypes
import importlib.util
import shutil
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.sources import ROOT


def script(name: str) -> ModuleType:
    loader = SourceFileLoader(f"docker_{name}", str(ROOT / "docker" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def library() -> Path:
    spec = importlib.util.find_spec("uvloop.loop")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def test_a_library_without_its_symbols_is_smaller_and_loads(tmp_path: Path) -> None:
    copy = Path(shutil.copy(library(), tmp_path))

    num_bytes = script("trim").drop_symbols(copy)

    assert num_bytes > 2**20
    assert copy.stat().st_size == library().stat().st_size - num_bytes
    assert ctypes.CDLL(str(copy)).PyInit_loop
    assert script("trim").drop_symbols(copy) == 0


def test_what_is_no_library_stays(tmp_path: Path) -> None:
    linker_script = tmp_path / "libx.so"
    linker_script.write_text("INPUT(libx.so.1)")

    assert script("trim").drop_symbols(linker_script) == 0
    assert linker_script.read_text() == "INPUT(libx.so.1)"


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no torch/include: correct docker/trim"):
        script("trim").trim(tmp_path)


def test_files_are_listed_by_their_package_and_those_of_two_names_once(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "site-packages" / "torch"
    package.mkdir(parents=True)
    (package / "a.so").write_bytes(bytes(100))
    (package / "b.so").hardlink_to(package / "a.so")

    assert script("contents").sizes(tmp_path) == {"torch": 100}
