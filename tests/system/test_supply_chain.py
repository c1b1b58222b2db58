import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "docker").glob("*.lock"))
NAME = r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?"
HASHES = r"(    --hash=sha256:[0-9a-f]{64}( \\\n|\n))+"
PINNED = re.compile(NAME + r"==\S+( ;.*)? \\\n" + HASHES, re.M)


def dependencies() -> set[str]:
    """Name what the project asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in lines} - {project["name"]}


def test_every_dependency_has_its_reason_in_the_manual() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## Dependencies")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.M)
    named = {name for cell in cells for name in re.split(r"[, ]+", cell)}

    assert dependencies() - named == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_package_to_a_version_and_its_files_hashes(lock: Path) -> None:
    """torch's own index, where the CPU image's comes from, is asked for a version alone."""
    text = re.sub(r"^(#|--).*\n", "", lock.read_text(), flags=re.M)

    rest = PINNED.sub("", text).strip()

    assert re.fullmatch(r"(torch==[\d.]+(\+cpu)?)?", rest)


@pytest.mark.slow
def test_a_bill_of_materials_names_every_package_of_a_lock(tmp_path: Path) -> None:
    """As `make sbom` does; the program checks its own output against CycloneDX' schema."""
    lock = ROOT / "docker" / "service-cpu.lock"
    made = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--of", "JSON", "-o", str(made)]

    subprocess.run(command, check=True, capture_output=True, timeout=100)

    bill = json.loads(made.read_text())
    pinned = set(re.findall(NAME + r"==([^ ;\\\n]+)", lock.read_text(), re.M))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "clear-search"
    assert {(each["name"], each["version"]) for each in bill["components"]} == pinned
