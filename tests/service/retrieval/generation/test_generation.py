import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    open_current,
    open_generation,
)
from service.retrieval.generation.history import publish
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from tests.conftest import cut_short, flip_bit
from tests.support.builds import live_directory, rewrite_manifest

FILES = ["manifest.json", "vectors.faiss", "passages.arrow", "texts.arrow", "identifiers.u64"]


@pytest.fixture(scope="session")
def other_index(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """An index of twelve other passages, by the same encoder."""
    index = tmp_path_factory.mktemp("other-index")
    passages = [("f:1", Passage(str(number), f"passage {number}")) for number in range(12)]
    build_index(passages, index, tiny_encoder)
    return index


def test_an_index_opens_with_what_its_manifest_says(tiny_index: Path) -> None:
    generation = open_current(tiny_index)

    assert generation.name == current_name(tiny_index)
    assert (generation.vectors.count, generation.vectors.embedding_dim) == (12, 32)
    assert len(generation.passages) == 12
    assert generation.manifest.encoder.max_tokens == 64
    assert generation.manifest.factory == "Flat"


def test_an_index_holds_its_current_name_and_its_generation_only(tiny_index: Path) -> None:
    name = (tiny_index / "CURRENT").read_text()

    assert re.fullmatch(r"[0-9a-f]{32}\n", name)
    assert {path.name for path in tiny_index.iterdir()} - {".lock"} == {
        "CURRENT",
        "HISTORY",
        "generations",
    }
    assert [path.name for path in generations_directory(tiny_index).iterdir()] == [name.strip()]
    assert sorted(path.name for path in live_directory(tiny_index).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("damage", [flip_bit, cut_short, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(
    index_copy: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = live_directory(index_copy) / name
    damage(path)

    with pytest.raises(GenerationError) as caught:
        open_current(index_copy)

    assert str(caught.value).startswith(f"{path} ")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_generation_is_refused_by_name(
    index_copy: Path, other_index: Path, name: str
) -> None:
    path = live_directory(index_copy) / name
    shutil.copy(live_directory(other_index) / name, path)

    with pytest.raises(GenerationError) as caught:
        open_current(index_copy)

    assert str(caught.value).startswith(f"{path} ")


@pytest.mark.parametrize(
    "content",
    ["", "garbage", "../../x", "/etc", ".", "0" * 31, "0" * 33, "G" * 32, "０" * 32, "A" * 32],
)
def test_a_current_that_holds_no_name_is_refused(index_copy: Path, content: str) -> None:
    (index_copy / "CURRENT").write_text(content, encoding="utf-8")

    with pytest.raises(GenerationError, match="CURRENT does not hold the name of a generation"):
        open_current(index_copy)


def test_a_current_that_names_a_missing_generation_is_refused(index_copy: Path) -> None:
    (index_copy / "CURRENT").write_text("0" * 32)

    with pytest.raises(GenerationError, match=f"generations/{'0' * 32} is missing"):
        open_current(index_copy)


@pytest.mark.parametrize("place", ["nowhere", "empty", "file"])
def test_where_there_is_no_index_the_command_that_builds_one_is_named(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(GenerationError, match=f"index build PASSAGES --index {tmp_path / place}"):
        open_current(tmp_path / place)


def test_another_encoder_is_refused_with_both_fingerprints(
    tiny_index: Path, tiny_encoder: Encoder, other_encoder: Encoder
) -> None:
    generation = open_current(tiny_index)

    with pytest.raises(EncoderMismatchError) as caught:
        Searcher(other_encoder, generation)

    assert tiny_encoder.fingerprint[:16] in str(caught.value)
    assert other_encoder.fingerprint[:16] in str(caught.value)
    assert "tiny-mean-0" in str(caught.value)
    assert "tiny-mean-1" in str(caught.value)


def test_a_newer_format_is_refused_with_both_versions(index_copy: Path) -> None:
    directory = rewrite_manifest(index_copy, format_version=3)

    with pytest.raises(GenerationError, match="format version 3, this program reads version 2"):
        open_generation(directory)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"count": 13}, "12 vectors of 32 and 12 passages, its manifest says 13 of 32"),
        ({"dimension": 33}, "12 vectors of 32 and 12 passages, its manifest says 12 of 33"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    index_copy: Path, changes: dict[str, int], reason: str
) -> None:
    directory = rewrite_manifest(index_copy, **changes)

    with pytest.raises(GenerationError, match=reason):
        open_generation(directory)


@pytest.mark.parametrize("number", ["count", "dimension", "num_documents"])
@pytest.mark.parametrize("value", [-1, 10**30])
def test_numbers_that_no_index_has_are_refused(index_copy: Path, number: str, value: int) -> None:
    directory = rewrite_manifest(index_copy, **{number: value})

    with pytest.raises(GenerationError, match=number):
        open_generation(directory)


def test_a_manifest_cannot_name_a_file_outside_its_folder(index_copy: Path) -> None:
    record = {"size_bytes": 0, "sha256": "0" * 64}
    files = json.loads((live_directory(index_copy) / "manifest.json").read_text())["files"]
    directory = rewrite_manifest(index_copy, files={"../../CURRENT": record, **files})

    with pytest.raises(GenerationError, match="names a file outside its folder"):
        open_generation(directory)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_same_passages_in_any_order_give_the_same_generation(
    index_copy: Path, tiny_encoder: Encoder, passages_file: Path, order: slice
) -> None:
    before = live_directory(index_copy)

    report = build_index(list(read_passages(passages_file))[order], index_copy, tiny_encoder)

    assert report.directory == live_directory(index_copy) == before
    assert list(generations_directory(index_copy).iterdir()) == [before]


@pytest.mark.parametrize("damage", [flip_bit, cut_short, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_an_equal_generation_that_is_damaged_is_replaced(
    index_copy: Path,
    tiny_encoder: Encoder,
    passages_file: Path,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(live_directory(index_copy) / name)

    build_index(read_passages(passages_file), index_copy, tiny_encoder)

    Searcher(tiny_encoder, open_current(index_copy)).check_canaries()


def test_a_new_generation_becomes_current_and_the_old_one_stays(
    index_copy: Path, other_index: Path, tmp_path: Path
) -> None:
    old, new = live_directory(index_copy), tmp_path / "new"
    shutil.copytree(live_directory(other_index), new)

    target = publish(new, index_copy)

    assert target == live_directory(index_copy) == generations_directory(index_copy) / target.name
    assert open_current(index_copy).name == live_directory(other_index).name
    assert open_generation(old).name == old.name


def test_an_open_generation_outlives_its_files(index_copy: Path, tiny_encoder: Encoder) -> None:
    """A service answers from the generation it holds while an operator removes the folder."""
    searcher = Searcher(tiny_encoder, open_current(index_copy))

    shutil.rmtree(index_copy)

    assert len(searcher.search(["Lima"], top_k=12)[0]) == 12
