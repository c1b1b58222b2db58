import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.generation.history import (
    UNFINISHED,
    collect_garbage,
    list_generations,
    live_names,
    roll_back,
)
from service.retrieval.generation.writer import HISTORY, exclusive_writer
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from service.retrieval.storage import artifact
from tests.conftest import cut_short, flip_bit


def build(index: Path, encoder: Encoder, text: str) -> str:
    """Publish a generation of one passage; return its name."""
    return build_index([("f:1", Passage("a", text))], index, encoder).directory.name


@pytest.fixture(scope="session")
def three_generations(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """An index whose generations "one", "two" and "three" were live in this order."""
    index = tmp_path_factory.mktemp("three") / "index"
    for text in ("one", "two", "three"):
        build(index, tiny_encoder, text)
    return index


@pytest.fixture
def index(three_generations: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three_generations, tmp_path / "index"))


def live_text(index: Path) -> str:
    return open_current(index).passages.read([0])[0].text


def names(index: Path) -> set[str]:
    return {path.name for path in (index / "generations").iterdir()}


def test_the_names_that_were_live_are_kept_in_order(index: Path) -> None:
    assert len(live_names(index)) == 3
    assert live_names(index)[-1] == current_name(index)
    assert set(live_names(index)) == names(index)


def test_a_list_says_which_generations_are_live_and_former(index: Path) -> None:
    listed = list_generations(index)

    assert [each.place for each in listed] == ["live", "former", "former"]
    assert [each.name for each in listed] == live_names(index)[::-1]
    assert {each.manifest.count for each in listed if each.manifest} == {1}
    assert all(each.size_bytes > 0 and not each.damage for each in listed)


def test_a_list_names_damaged_generations_without_hashing(index: Path) -> None:
    former = live_names(index)[0]
    cut_short(index / "generations" / former / "passages.arrow")

    damages = {each.name: each.damage for each in list_generations(index)}

    assert "passages.arrow has" in damages.pop(former)
    assert set(damages.values()) == {""}


def test_a_rollback_goes_back_one_generation_at_a_time(index: Path) -> None:
    texts = [live_text(index)]
    for _ in range(2):
        roll_back(index)
        texts.append(live_text(index))

    assert texts == ["three", "two", "one"]
    with pytest.raises(GenerationError, match="no former generation to roll back to"):
        roll_back(index)


def test_after_a_rollback_and_a_build_a_rollback_returns_to_what_was_live(
    index: Path, tiny_encoder: Encoder
) -> None:
    """Not to the generation that was rolled back from."""
    roll_back(index)
    build(index, tiny_encoder, "four")

    roll_back(index)

    assert live_text(index) == "two"


def test_a_rollback_by_name_goes_back_and_forward(index: Path) -> None:
    one, _, three = live_names(index)

    roll_back(index, one)
    assert live_text(index) == "one"
    assert [each.place for each in list_generations(index)] == ["unlisted", "unlisted", "live"]
    roll_back(index, three)

    assert live_text(index) == "three"
    assert live_names(index) == [one, three]


def test_a_rollback_takes_the_first_digits_that_only_one_name_has(index: Path) -> None:
    one = live_names(index)[0]
    others = [name for name in live_names(index) if name != one]
    length = next(n for n in range(1, 33) if not any(each.startswith(one[:n]) for each in others))

    assert roll_back(index, one[:length]) == one
    assert live_text(index) == "one"


def test_digits_that_two_names_begin_with_are_refused_with_both(index: Path) -> None:
    one = live_names(index)[0]
    twin = index / "generations" / f"{one[:31]}{'0' if one[31] != '0' else '1'}"
    twin.mkdir()

    with pytest.raises(GenerationError, match=f"begins the names of 2 .*{twin.name}.*: give more"):
        roll_back(index, one[:8])

    assert live_text(index) == "three"


@pytest.mark.parametrize("name", ["0" * 32, "../../x", "", "?", "*"])
def test_a_rollback_to_what_is_not_there_is_refused(index: Path, name: str) -> None:
    with pytest.raises(GenerationError):
        roll_back(index, name or "no name")

    assert live_text(index) == "three"


def test_a_rollback_to_a_damaged_generation_is_refused_by_the_file_s_name(index: Path) -> None:
    flip_bit(index / "generations" / live_names(index)[1] / "vectors.faiss")

    with pytest.raises(GenerationError, match=r"vectors\.faiss was altered"):
        roll_back(index)

    assert live_text(index) == "three"


def test_building_an_older_generation_again_makes_it_live(
    index: Path, tiny_encoder: Encoder
) -> None:
    build(index, tiny_encoder, "one")

    assert live_text(index) == "one"
    roll_back(index)
    assert live_text(index) == "three"


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_garbage_is_all_but_the_live_and_the_last_former_generations(
    index: Path, keep: int, left: int
) -> None:
    kept = live_names(index)[-left:]

    removed = collect_garbage(index, keep)

    assert names(index) == set(kept) == set(live_names(index))
    assert len(removed.names) == 3 - left
    assert (removed.num_bytes > 0) == (left < 3)
    assert live_text(index) == "three"


def test_what_was_rolled_back_from_is_garbage(index: Path) -> None:
    roll_back(index)

    collect_garbage(index, keep=1)

    assert names(index) == set(live_names(index))
    roll_back(index)
    assert live_text(index) == "one"


def test_what_interrupted_builds_left_is_garbage(index: Path) -> None:
    (index / UNFINISHED).mkdir()
    (index / UNFINISHED / "shard").write_bytes(b"12345")

    removed = collect_garbage(index, keep=9)

    assert (removed.names, removed.num_bytes) == ([], 5)
    assert not (index / UNFINISHED).exists()


def test_a_generation_in_use_may_be_collected(index: Path, tiny_encoder: Encoder) -> None:
    searcher = Searcher(tiny_encoder, open_current(index))
    build(index, tiny_encoder, "four")

    collect_garbage(index, keep=0)

    assert searcher.search(["three"])[0][0].passage.text == "three"


@pytest.mark.parametrize("write", [roll_back, collect_garbage])
def test_one_process_writes_at_a_time(index: Path, write: Callable[[Path], object]) -> None:
    with (
        exclusive_writer(index),
        pytest.raises(GenerationError, match="another build is writing to"),
    ):
        write(index)


@pytest.mark.parametrize("history", [None, "", "garbage\n", "\xff\n", "0" * 32 + "\n"])
def test_without_its_history_an_index_has_what_is_live(index: Path, history: str | None) -> None:
    (index / HISTORY).unlink()
    if history is not None:
        (index / HISTORY).write_text(history, encoding="latin-1")

    assert live_names(index)[-1] == current_name(index)
    assert [each.place for each in list_generations(index)][0] == "live"
    with pytest.raises(GenerationError, match="no former generation"):
        roll_back(index)
    assert live_text(index) == "three"


def test_a_publisher_that_died_before_its_history_leaves_the_right_order(
    index: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Encoder
) -> None:
    genuine = artifact.replace_file

    def die_at_history(path: Path, content: bytes) -> None:
        if path.name == HISTORY:
            raise KeyboardInterrupt
        genuine(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifact, "replace_file", die_at_history)
        build(index, tiny_encoder, "four")

    assert live_text(index) == "four"
    roll_back(index)
    assert live_text(index) == "three"


def test_where_there_is_no_index_nothing_is_listed_rolled_back_or_collected(tmp_path: Path) -> None:
    for act in (list_generations, roll_back, collect_garbage):
        with pytest.raises(GenerationError, match="there is no index in"):
            act(tmp_path / "none")  # type: ignore[operator]
