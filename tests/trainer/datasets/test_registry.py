import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainer.datasets.formats
from trainer.datasets.registry import KINDS, find_importer

HELPERS = {"lines", "sentence_pairs", "squad_format", "table"}  # modules that several formats share


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_module_with_its_importer(kind: str) -> None:
    importer = find_importer(kind)

    assert importer.__module__ == f"trainer.datasets.formats.{kind}"
    first = next(iter(inspect.signature(importer).parameters.values()))
    assert first.annotation is Path


def test_each_format_is_in_the_registry() -> None:
    modules = {module.name for module in pkgutil.iter_modules(trainer.datasets.formats.__path__)}

    assert modules - HELPERS == set(KINDS)


def test_the_registry_loads_without_heavy_packages() -> None:
    heavy = {"torch", "numpy", "pyarrow", "langcodes"}
    command = f"import sys, trainer.datasets.registry; print({heavy} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"
