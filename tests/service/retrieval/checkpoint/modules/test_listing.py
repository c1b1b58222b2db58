import json
from pathlib import Path

import pytest

from service.retrieval.checkpoint.modules.listing import read_modules
from service.retrieval.errors import CheckpointError
from tests.support.layouts import LIBRARY, module_list, route_heads, write_json


def kinds(directory: Path) -> list[list[str]]:
    return [[module.kind for module in side] for side in read_modules(directory)]


def test_modules_keep_their_order_and_number(tmp_path: Path) -> None:
    listed = [("", "Transformer"), ("1", "Pooling"), ("2", "Dense"), ("3", "Dense")]
    write_json(tmp_path / "modules.json", module_list(listed))

    assert kinds(tmp_path) == [["Transformer", "Pooling", "Dense", "Dense"]] * 2
    assert [module.folder for module in read_modules(tmp_path)[0]] == [
        tmp_path / path for path, _ in listed
    ]


@pytest.mark.parametrize("kind", ["Router", "Asym"])
@pytest.mark.parametrize("name", ["router_config.json", "config.json"])
def test_a_router_at_any_place_gives_way_to_the_modules_of_its_route(
    tmp_path: Path, kind: str, name: str
) -> None:
    folder = route_heads(tmp_path / "encoder")
    path = folder / "modules.json"
    path.write_text(path.read_text().replace(f"{LIBRARY}Router", f"{LIBRARY}{kind}"))
    (folder / "2_Router/router_config.json").rename(folder / "2_Router" / name)

    query, passage = read_modules(folder)

    assert kinds(folder) == [["Transformer", "Pooling", "Dense"]] * 2
    assert query[2].folder == folder / "2_Router/query_0_Dense"
    assert passage[2].folder == folder / "2_Router/document_0_Dense"


@pytest.mark.parametrize("type_name", ["custom_st.Transformer", "Transformer", "torch.nn.Linear"])
def test_a_module_that_is_not_the_librarys_is_refused(tmp_path: Path, type_name: str) -> None:
    entry = {"idx": 0, "name": "0", "path": "", "type": type_name}
    (tmp_path / "modules.json").write_text(json.dumps([entry]))

    with pytest.raises(CheckpointError, match=f"asks for the module '{type_name}', whose code"):
        read_modules(tmp_path)
