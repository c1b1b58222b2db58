from functools import partial
from pathlib import Path

import pytest

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.generation.generation import current_name
from service.retrieval.generation.history import UNFINISHED
from service.retrieval.indexing.build import BuildReport, build_index
from service.retrieval.indexing.local_workers import LocalWorkers
from tests.support.builds import MANY_WORDS, assert_alike, corpus, die, load


@pytest.fixture
def workers(tiny_checkpoint: Path, tiny_encoder: Encoder) -> LocalWorkers:
    return LocalWorkers(partial(load, tiny_checkpoint), EncoderIdentity.of(tiny_encoder), "cpu", 2)


class Encoded:
    """Keeps how many passages were encoded, as a build reports it."""

    def __init__(self) -> None:
        self.reports: list[int] = []

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage == "encode":
            self.reports.append(done)

    def check(self, report: BuildReport) -> None:
        assert self.reports[-1] == report.counts.num_passages >= 150
        assert self.reports == sorted(self.reports)


@pytest.mark.slow
def test_two_workers_make_the_index_of_one_process_of_late_chunks_and_resume(
    tmp_path: Path, tiny_encoder: Encoder, workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.encoding.SHARD_PASSAGES", 20)
    passages = corpus(1, 150, MANY_WORDS)
    late = Chunking.of(64, 24, 8, is_late=True)
    build = partial(build_index, passages, tmp_path / "two", tiny_encoder, chunking=late)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "encode" and done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(shard_encoder=workers, on_progress=stop)
    kept = len(list((tmp_path / "two" / UNFINISHED).iterdir()))
    encoded = Encoded()
    report = build(shard_encoder=workers, on_progress=encoded)
    build_index(passages, tmp_path / "one", tiny_encoder, chunking=late)

    assert_alike(tmp_path / "two", tmp_path / "one")
    encoded.check(report)
    assert kept == 2
    assert report.counts.num_encoded == report.counts.num_passages - 2 * 20


@pytest.mark.slow
def test_a_killed_worker_is_reported_and_the_live_generation_stays(
    index_copy: Path, tiny_encoder: Encoder
) -> None:
    before = current_name(index_copy)
    dying = LocalWorkers(die, EncoderIdentity.of(tiny_encoder), "cpu", 2)

    with pytest.raises(GenerationError, match="a worker died"):
        build_index(corpus(1, 150), index_copy, tiny_encoder, shard_encoder=dying)

    assert current_name(index_copy) == before


@pytest.mark.slow
def test_workers_with_another_encoder_are_refused(
    tmp_path: Path, other_encoder: Encoder, tiny_checkpoint: Path
) -> None:
    load_tiny = partial(load, tiny_checkpoint)
    workers = LocalWorkers(load_tiny, EncoderIdentity.of(other_encoder), "cpu", 1)

    with pytest.raises(EncoderMismatchError, match="worker 0 has the encoder .* is needed"):
        build_index(corpus(1, 150), tmp_path, other_encoder, shard_encoder=workers)
