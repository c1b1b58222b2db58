import json
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest

from service.retrieval.build.build import build_index
from service.retrieval.build.local_workers import LocalWorkers
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.generation.generation import current_name
from service.retrieval.generation.history import UNFINISHED
from tests.service.retrieval.build.test_build_updating import (
    corpus,
    files_of,
)


def load(checkpoint: Path, device: str) -> Encoder:
    """Load the encoder; runs in the workers."""
    return load_encoder(str(checkpoint), device=device)


def die(device: str) -> Encoder:
    """Die as if killed by the kernel; runs in the workers."""
    import os

    os._exit(9)


def assert_alike(first: Path, second: Path) -> None:
    """Compare bytes, but vectors to 1e-6: the number of threads changes the order of sums."""
    ours, theirs = files_of(first), files_of(second)
    one, two = (
        faiss.deserialize_index(np.frombuffer(files.pop("vectors.faiss"), np.uint8))
        for files in (ours, theirs)
    )
    np.testing.assert_allclose(
        one.reconstruct_n(0, one.ntotal), two.reconstruct_n(0, two.ntotal), rtol=0, atol=1e-6
    )
    manifest, other = (json.loads(files.pop("manifest.json")) for files in (ours, theirs))
    for each in (manifest, other):
        del each["files"]["vectors.faiss"]["sha256"]
    assert manifest == other
    assert ours == theirs


@pytest.fixture
def workers(tiny_checkpoint: Path, tiny_encoder: Encoder) -> LocalWorkers:
    return LocalWorkers(partial(load, tiny_checkpoint), EncoderIdentity.of(tiny_encoder), "cpu", 2)


@pytest.mark.slow
def test_two_workers_make_the_index_of_one_process(
    tmp_path: Path, tiny_encoder: Encoder, workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.build.assembly.SHARD_PASSAGES", 20)
    reports: list[int] = []

    build_index(
        corpus(1, 150),
        tmp_path / "two",
        tiny_encoder,
        shard_encoder=workers,
        on_progress=lambda stage, done, total: reports.append(done) if stage == "encode" else None,
    )
    build_index(corpus(1, 150), tmp_path / "one", tiny_encoder)

    assert_alike(tmp_path / "two", tmp_path / "one")
    assert reports[-1] == 150
    assert reports == sorted(reports)


@pytest.mark.slow
def test_what_workers_had_encoded_is_found_by_the_next_run(
    tmp_path: Path, tiny_encoder: Encoder, workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.build.assembly.SHARD_PASSAGES", 20)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "encode" and done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(corpus(1, 150), tmp_path, tiny_encoder, shard_encoder=workers, on_progress=stop)
    kept = len(list((tmp_path / UNFINISHED).iterdir()))
    report = build_index(corpus(1, 150), tmp_path, tiny_encoder, shard_encoder=workers)

    assert kept == 2
    assert report.counts.num_encoded == 150 - 2 * 20


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
    tmp_path: Path, other_encoder: Encoder, workers: LocalWorkers
) -> None:
    workers = LocalWorkers(workers._load_encoder, EncoderIdentity.of(other_encoder), "cpu", 2)

    with pytest.raises(EncoderMismatchError, match="worker [01] has the encoder .* is wanted"):
        build_index(corpus(1, 150), tmp_path, other_encoder, shard_encoder=workers)
