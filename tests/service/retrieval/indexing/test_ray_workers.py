"""A build on a Ray cluster of two nodes on this machine, in a process of its own."""

import importlib.util
import json
from pathlib import Path

import pytest

from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.parts import EncodedText
from service.retrieval.errors import GenerationError
from service.retrieval.indexing.build import build_index
from service.retrieval.indexing.ray_workers import RayWorkers, _table, _text
from service.retrieval.indexing.shards import Shard
from tests.conftest import run_script
from tests.support.builds import CUT, MANY_WORDS, assert_alike, corpus

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs the extra `ray`"
)

CLUSTER = """
import json, os, pathlib, sys
from functools import partial

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster

from service.retrieval.indexing import encoding
from service.retrieval.indexing.build import build_index
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import GenerationError
from service.retrieval.indexing.ray_workers import RayWorkers
from tests.support.builds import CUT, MANY_WORDS, corpus, load

folder, checkpoint = map(pathlib.Path, sys.argv[1:])
encoding.SHARD_PASSAGES = 20
encoder = load_encoder(str(checkpoint), device="cpu")
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
workers = RayWorkers(partial(load, checkpoint), EncoderIdentity.of(encoder), "cpu", cluster.address)

passages = corpus(1, 150, MANY_WORDS)

def stop(stage, done, total):
    if stage == "encode" and done >= 60:
        raise KeyboardInterrupt

try:
    build_index(passages, folder / "ray", encoder, chunking=CUT, shard_encoder=workers,
        on_progress=stop)
except KeyboardInterrupt:
    pass
kept = len(list((folder / "ray" / "unfinished").iterdir()))
report = build_index(passages, folder / "ray", encoder, chunking=CUT, shard_encoder=workers)
wrong = EncoderIdentity("0" * 64, 64, "torch-fp32")
try:
    build_index(corpus(2, 15), folder / "ray", encoder, shard_encoder=RayWorkers(
        partial(load, checkpoint), wrong, "cpu", cluster.address))
except GenerationError as error:
    refusal = str(error)
cluster.shutdown()
sys.stdout.write(json.dumps([kept, report.counts.num_encoded, refusal]))
"""


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes_makes_the_index_of_one_process_and_resumes(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    done = run_script(CLUSTER, tmp_path, tiny_checkpoint, timeout_seconds=800)

    assert done.returncode == 0, done.stderr
    kept, num_encoded, refusal = json.loads(done.stdout.splitlines()[-1])
    build_index(corpus(1, 150, MANY_WORDS), tmp_path / "one", tiny_encoder, chunking=CUT)
    assert_alike(tmp_path / "ray", tmp_path / "one")
    assert kept == 2
    assert num_encoded == 150 - 2 * 20
    assert "has the encoder" in refusal


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, tiny_encoder: Encoder) -> None:
    workers = RayWorkers(
        lambda device: tiny_encoder, EncoderIdentity.of(tiny_encoder), "cpu", "127.0.0.1:1"
    )

    with pytest.raises(GenerationError, match="there is no Ray cluster at 127.0.0.1:1"):
        build_index(corpus(1, 150), tmp_path, tiny_encoder, shard_encoder=workers)


def test_texts_and_parts_are_the_same_after_their_way_to_a_worker() -> None:
    texts: list[EncodedText] = ["tea", ("before ", "", " after"), "", ("", "tea", "")]

    [row] = _table(Shard("name", texts)).to_pylist()

    assert [_text(*parts) for parts in row["texts"]] == texts
