import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.encoder.encoder import Encoder
from tests.support.training_rows import ROWS, WINDOW, row
from trainer.data.rows import read_rows, write_rows
from trainer.errors import DataError, OutputError
from trainer.mining import run as mining_run
from trainer.mining.candidates import read_candidates
from trainer.mining.miner import MiningOptions
from trainer.mining.run import MiningReport, check_output, mine_rows


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """`ROWS` on disk."""
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def mine(
    rows: Path,
    output: Path,
    encoder: Encoder,
    options: MiningOptions,
    corpora: Sequence[Path] = (),
    **settings: Any,
) -> MiningReport:
    candidates = read_candidates(rows, corpora, is_paired=options.is_paired)
    return mine_rows(rows, candidates, output, encoder, options, **settings)


def test_the_output_holds_valid_rows_in_the_same_order(
    tiny_encoder: Encoder, rows_file: Path
) -> None:
    output = rows_file.with_name("mined.jsonl")

    report = mine(rows_file, output, tiny_encoder, WINDOW)

    mined = [each for _, each in read_rows(output)]
    assert [each.query_id for each in mined] == [each.query_id for each in ROWS]
    assert {len(each.hard_negatives) for each in mined} == {3}
    assert (report.num_rows, report.num_left_out, report.num_resumed) == (30, 0, 0)
    assert sorted(path.name for path in rows_file.parent.iterdir()) == ["mined.jsonl", "rows.jsonl"]


def test_a_killed_run_resumes_and_gives_the_same_bytes(
    tiny_encoder: Encoder, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining_run, "WINDOW_ROWS", 8)
    whole, resumed = rows_file.with_name("whole.jsonl"), rows_file.with_name("resumed.jsonl")
    mine(rows_file, whole, tiny_encoder, WINDOW)

    def kill(stage: str, done: int, total: int | None) -> None:
        if (stage, done) == ("mine", 16):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(rows_file, resumed, tiny_encoder, WINDOW, on_progress=kill)
    assert not resumed.exists()
    part = rows_file.with_name(".resumed.jsonl.part")
    part.write_bytes(part.read_bytes() + b'{"query": "cut of')  # killed amid a line
    stages = []
    report = mine(
        rows_file,
        resumed,
        tiny_encoder,
        WINDOW,
        on_progress=lambda stage, done, total: stages.append(stage),
    )

    assert report.num_resumed == 16
    assert set(stages) == {"mine"}  # nothing embedded twice
    assert resumed.read_bytes() == whole.read_bytes()


def test_the_part_of_another_run_is_not_resumed(tiny_encoder: Encoder, rows_file: Path) -> None:
    output = rows_file.with_name("mined.jsonl")
    part = rows_file.with_name(".mined.jsonl.part")
    part.write_text(json.dumps({"digest": "of other rows"}) + "\n{}\n")

    assert mine(rows_file, output, tiny_encoder, WINDOW).num_resumed == 0


def test_rows_with_too_few_candidates_are_left_out_or_kept(
    tiny_encoder: Encoder, rows_file: Path
) -> None:
    lonely = [row(number, "ha") for number in (50, 51)]
    write_rows(rows_file, [*ROWS, *lonely])
    output = rows_file.with_name("mined.jsonl")

    report = mine(rows_file, output, tiny_encoder, WINDOW)
    assert (report.num_rows, report.num_left_out) == (32, 2)
    assert {each.language for _, each in read_rows(output)} == {"sw"}

    report = mine(rows_file, output, tiny_encoder, WINDOW, keep_incomplete=True)
    assert report.num_left_out == 0


def test_a_pool_that_is_too_small_is_an_error(tiny_encoder: Encoder, rows_file: Path) -> None:
    with pytest.raises(DataError, match="no row of .* has 5 negatives at the ranks 50 to 100"):
        mine(rows_file, rows_file.with_name("mined.jsonl"), tiny_encoder, MiningOptions())


def test_a_corpus_widens_the_pool_of_unpaired_negatives(
    tiny_encoder: Encoder, rows_file: Path, passages_file: Path
) -> None:
    output = rows_file.with_name("mined.jsonl")
    options = MiningOptions(num_negatives=41, first_rank=1, last_rank=100, is_paired=False)

    mine(rows_file, output, tiny_encoder, options, corpora=[passages_file])

    first = next(read_rows(output))[1]
    assert "kenya.1" in first.hard_negative_ids
    with pytest.raises(DataError, match="have no queries"):
        mine(rows_file, output, tiny_encoder, WINDOW, corpora=[passages_file])


def test_an_output_that_cannot_be_written_is_named(tiny_encoder: Encoder, rows_file: Path) -> None:
    with pytest.raises(OutputError, match=r"mined\.jsonl cannot be written"):
        mine(rows_file, rows_file / "mined.jsonl", tiny_encoder, WINDOW)


@pytest.fixture(autouse=True)
def _no_index_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob(".*.index")) or list(tmp_path.glob(".*.part"))


def test_an_earlier_output_stays_where_no_row_is_kept(
    tiny_encoder: Encoder, rows_file: Path
) -> None:
    output = rows_file.with_name("mined.jsonl")
    output.write_text("kept")

    with pytest.raises(DataError, match="no row of"):
        mine(rows_file, output, tiny_encoder, MiningOptions())

    assert output.read_text() == "kept"
    assert sorted(path.name for path in rows_file.parent.iterdir()) == ["mined.jsonl", "rows.jsonl"]


def test_an_output_of_other_content_is_refused_and_an_earlier_one_is_not(rows_file: Path) -> None:
    output = rows_file.with_name("mined.jsonl")
    link = rows_file.with_name("link.jsonl")
    link.symlink_to(rows_file)
    check_output(output, [rows_file])
    output.write_text('{"query": "a", "hard_negatives": ["b"]}\n')
    check_output(output, [rows_file])

    output.write_text('{"query": "a"}\n')
    with pytest.raises(OutputError, match=r"mined\.jsonl has other content, no mined rows"):
        check_output(output, [rows_file])
    with pytest.raises(OutputError, match=r"link\.jsonl is .*rows\.jsonl, which is read"):
        check_output(link, [rows_file])


def test_two_runs_of_one_output_do_not_mix(tiny_encoder: Encoder, rows_file: Path) -> None:
    output = rows_file.with_name("mined.jsonl")

    def start_another(stage: str, done: int, total: int | None) -> None:
        if stage == "mine":
            mine(rows_file, output, tiny_encoder, WINDOW)

    with pytest.raises(OutputError, match=r"^another run is writing to .*mined\.jsonl: wait"):
        mine(rows_file, output, tiny_encoder, WINDOW, on_progress=start_another)
