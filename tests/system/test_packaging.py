"""The wheel holds every room, with the files that are no modules."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.sources import PACKAGES, ROOT


def shipped_files() -> set[str]:
    """Return every file below the packages, by its path in the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the sources; no isolation, so nothing is fetched."""
    copy = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", copy / "dist", copy],
        check=True,
        capture_output=True,
    )
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_room_and_the_files_beside_them(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.split("/")[0] in PACKAGES}

    assert packed == shipped_files()


def test_the_wheel_s_commands_name_functions_that_exist(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)
    (entry_points,) = tmp_path.glob("*.dist-info/entry_points.txt")
    commands = [line.partition(" = ")[2] for line in entry_points.read_text().splitlines()]
    targets = [command.split(":") for command in commands if command]

    assert len(targets) == 2
    for module, function in targets:
        script = f"import {module}; assert callable({module}.{function})"
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


MADE_HERE = {
    "service/demo/sentences.safetensors",
    "service/demo/vectors.safetensors",
    "service/retrieval/checkpoint/adapters/bundled-query/adapter_model.safetensors",
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources are no repository")
def test_no_archive_and_no_large_file_but_our_own_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = listed.stdout.rstrip("\0").split("\0")

    large = {name for name in names if (ROOT / name).stat().st_size > 1_000_000}
    archives = [name for name in names if name.endswith((".whl", ".zip", ".gz", ".tar", ".jar"))]
    assert "README.md" in names
    assert (large, archives) == (MADE_HERE, [])
