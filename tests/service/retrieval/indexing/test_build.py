import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import (
    Passage,
    read_passages,
)
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError, PassageError
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.retrieval.indexing.reuse import truncated_ids
from service.retrieval.searcher import Searcher
from tests.conftest import PASSAGES, run_script

STAGES = ["read", "encode", "index", "check"]
Origins = list[tuple[str, Passage]]


def numbered(count: int) -> Origins:
    return [(f"f:{row}", Passage(f"{row:05}", f"passage {row}")) for row in range(count)]


def files_of(index: Path) -> dict[str, bytes]:
    """Return everything that a reader can see."""
    return {
        path.relative_to(index).as_posix(): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file() and path.name != ".lock" and path.parent != index / "unfinished"
    }


def stop_at(stage: str, action: Callable[[], object]) -> Callable[[str, int, int | None], None]:
    """Call a function the first time that a stage is reported."""
    reported: list[str] = []

    def on_progress(name: str, done: int, total: int | None) -> None:
        if name == stage and name not in reported:
            action()
        reported.append(name)

    return on_progress


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_built_index_finds_its_passages(tmp_path: Path, tiny_encoder: Encoder) -> None:
    report = build_index(numbered(40), tmp_path / "a" / "index", tiny_encoder)

    searcher = Searcher(tiny_encoder, open_current(tmp_path / "a" / "index"))
    found = {hit.passage.passage_id for hit in searcher.search(["passage 7"], top_k=40)[0]}
    assert report.directory == tmp_path / "a" / "index" / "generations" / searcher.generation.name
    assert (report.counts.num_passages, report.counts.num_truncated) == (40, 0)
    assert found == {f"{row:05}" for row in range(40)}


@pytest.mark.parametrize("window", [1, 5, 1024])
def test_each_row_holds_the_embedding_of_its_passage_in_windows_of_any_size(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.assembly.WINDOW_ROWS", window)
    monkeypatch.setattr("service.retrieval.indexing.rows.WINDOW_ROWS", window)
    build_index(numbered(12), tmp_path, tiny_encoder)
    generation = open_current(tmp_path)

    rows = range(12)
    passages = generation.passages.read(rows)
    texts = [passage.encoder_text for passage in passages]
    rankings = generation.vectors.search(tiny_encoder.encode(texts, "passage").embeddings, 1)

    assert [passage.passage_id for passage in passages] == [f"{row:05}" for row in rows]
    assert [int(ranking.rows[0]) for ranking in rankings] == list(rows)


def test_truncated_passages_are_counted(tmp_path: Path, tiny_encoder: Encoder) -> None:
    passages = [("f:1", Passage("a", "~" * 500)), ("f:2", Passage("b", "short"))]

    report = build_index(passages, tmp_path, tiny_encoder, chunking=Chunking.of(64, 0))

    assert report.counts.num_truncated == 1
    assert truncated_ids(report.directory, 5) == ["a"]
    assert open_current(tmp_path).manifest.num_truncated == 1


def test_the_manifest_says_how_it_was_built(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index(numbered(50), tmp_path, tiny_encoder, factory="IVF1,Flat")

    manifest = open_current(tmp_path).manifest
    assert manifest.encoder.model_dump(exclude_none=True) == {
        "name": "tiny-mean-0",
        "fingerprint": tiny_encoder.fingerprint,
        "max_tokens": 64,
        "runtime": "torch-fp32",
    }
    assert (manifest.count, manifest.dimension) == (50, 32)
    assert manifest.factory == "IVF1,Flat"
    assert sorted(manifest.files) == [
        "embeddings.f32",
        "identifiers.u64",
        "passages.arrow",
        "texts.arrow",
        "vectors.faiss",
    ]


def test_a_repeated_id_stops_the_build_naming_both_origins(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    passages = [*numbered(3), ("g:9", Passage("00001", "again"))]

    with pytest.raises(PassageError, match="^g:9 repeats the id of f:1: "):
        build_index(passages, tmp_path, tiny_encoder)

    assert files_of(tmp_path) == {}


def test_a_repeated_id_can_be_skipped_and_the_first_one_stays(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    errors: list[PassageError] = []
    passages = [*numbered(3), ("g:9", Passage("00001", "again"))]

    report = build_index(passages, tmp_path, tiny_encoder, on_invalid=errors.append)

    assert (report.counts.num_passages, len(errors)) == (3, 1)
    assert open_current(tmp_path).passages.read([1])[0].text == "passage 1"


@pytest.mark.parametrize("passages", [[], iter(())])
def test_no_passages_make_no_index(
    index_copy: Path, tiny_encoder: Encoder, passages: Origins | Iterator[tuple[str, Passage]]
) -> None:
    before = files_of(index_copy)

    with pytest.raises(PassageError, match="there are no passages to index"):
        build_index(passages, index_copy, tiny_encoder)

    assert files_of(index_copy) == before


def test_a_bad_line_in_the_middle_leaves_the_old_generation(
    index_copy: Path, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    before = files_of(index_copy)
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "a", "text": "t"}\nnot json\n')

    with pytest.raises(PassageError, match=r"bad\.jsonl:2 is not valid JSON"):
        build_index(read_passages(path), index_copy, tiny_encoder)

    assert files_of(index_copy) == before


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Nonsense", "'Nonsense' describes no FAISS index for vectors of 32"),
        ("IVF4096,Flat", "cannot be built as 'IVF4096,Flat' from 12 vectors"),
    ],
)
def test_a_factory_that_cannot_be_built_leaves_the_old_generation(
    index_copy: Path, tiny_encoder: Encoder, factory: str, reason: str
) -> None:
    before = files_of(index_copy)

    with pytest.raises(GenerationError, match=reason):
        build_index(numbered(12), index_copy, tiny_encoder, factory=factory)

    assert files_of(index_copy) == before


def test_progress_reaches_the_total_of_every_stage_in_order(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.assembly.WINDOW_ROWS", 8)
    reports: list[tuple[str, int, int | None]] = []

    build_index(
        numbered(20), tmp_path, tiny_encoder, on_progress=lambda *report: reports.append(report)
    )

    assert list(dict.fromkeys(stage for stage, _, _ in reports)) == STAGES
    assert {stage: (done, total) for stage, done, total in reports} == {
        "read": (20, 20),
        "encode": (20, 20),
        "index": (20, 20),
        "check": (1, 1),
    }
    for stage in STAGES:
        counts = [done for name, done, _ in reports if name == stage]
        assert counts == sorted(counts)


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_build_leaves_the_old_generation_and_nothing_else(
    index_copy: Path, tiny_encoder: Encoder, stage: str
) -> None:
    before = files_of(index_copy)

    with pytest.raises(KeyboardInterrupt):
        build_index(numbered(20), index_copy, tiny_encoder, on_progress=stop_at(stage, interrupt))

    assert files_of(index_copy) == before
    assert len(list((index_copy / "generations").iterdir())) == 1


def test_an_interrupted_first_build_leaves_no_index(tmp_path: Path, tiny_encoder: Encoder) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_index(numbered(9), tmp_path, tiny_encoder, on_progress=stop_at("check", interrupt))

    assert files_of(tmp_path) == {}
    with pytest.raises(GenerationError, match="there is no index"):
        open_current(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
def test_a_second_build_at_the_same_time_is_refused(
    tmp_path: Path, tiny_encoder: Encoder, stage: str
) -> None:
    refusals: list[str] = []

    def build_too() -> None:
        with pytest.raises(GenerationError) as caught:
            build_index(numbered(5), tmp_path, tiny_encoder)
        refusals.append(str(caught.value))

    build_index(numbered(9), tmp_path, tiny_encoder, on_progress=stop_at(stage, build_too))

    assert refusals == [f"another build is writing to {tmp_path}: wait until it is done"]
    assert len(open_current(tmp_path).passages) == 9


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [20, 200])
def test_a_disk_that_fills_up_is_named_and_leaves_the_old_generation(
    index_copy: Path, tiny_encoder: Encoder, stage: str, count: int
) -> None:
    """A limit on file size, set when the stage is reached, stands in for a full disk.

    FAISS's own writer reported 20 vectors as written and failed on 200 with a RuntimeError.
    """
    before = files_of(index_copy)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, limit[1]))

    try:
        with pytest.raises(GenerationError, match="the live generation is unchanged"):
            build_index(
                numbered(count), index_copy, tiny_encoder, on_progress=stop_at(stage, fill_up)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert files_of(index_copy) == before
    assert len(open_current(index_copy).passages) == 12


def test_an_index_folder_that_cannot_be_made_is_named(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(GenerationError, match=f"cannot be written to {tmp_path}/file/index: "):
        build_index(numbered(3), tmp_path / "file" / "index", tiny_encoder)


# Prints the peak of memory, in bytes, of building each number of short passages, in a child each.
MEMORY = r"""
import os, pathlib, re, sys
from service.retrieval.indexing.build import build_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.corpus.reader import Passage

folder, checkpoint, *counts = sys.argv[1:]
encoder = load_encoder(checkpoint, device="cpu")
text = "a short passage of some fifty letters, number "
for count in counts:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    passages = (("f", Passage(f"{row:09}", f"{text}{row}")) for row in range(int(count)))
    build_index(passages, pathlib.Path(folder, count), encoder)
    # ru_maxrss would be that of the process that started this one, where it is larger.
    peak = re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())
    print(int(peak[1]) * 1024, flush=True)
    os._exit(0)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text_of_the_corpus(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    few, many = 5_000, 50_000
    done = run_script(MEMORY, tmp_path, tiny_checkpoint, few, many, timeout_seconds=300)

    assert done.returncode == 0, done.stderr
    of_few, of_many = map(int, done.stdout.split())
    vector_bytes = (many - few) * 32 * 4
    assert of_many - of_few < 3 * vector_bytes + 50e6


def test_the_twelve_passages_are_in_the_order_of_their_ids(tiny_index: Path) -> None:
    table = open_current(tiny_index).passages

    assert table.passage_ids(range(12)) == sorted(str(passage["id"]) for passage in PASSAGES)
