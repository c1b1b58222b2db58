"""The exported graph and the runtime that computes it, on tiny checkpoints."""

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from service.retrieval.encoder.batches import Role, Shape
from service.retrieval.encoder.bulk import EncoderIdentity, encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime import choice, on_demand
from service.retrieval.encoder.runtime.openvino import probe
from service.retrieval.encoder.runtime.openvino.runtime import PART_TOKENS
from service.retrieval.encoder.runtime.openvino.shapes import pad_length
from service.retrieval.encoder.runtime.openvino.table import find_table, map_table
from service.retrieval.errors import CheckpointError, DeviceError
from service.retrieval.hardware import multiplies_bf16
from tests.conftest import cut_short, flip_bit, make_checkpoint, run_script

# Not `importorskip`: an import by hand reports to Google, see `import_openvino`.
if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

needs_bf16 = pytest.mark.skipif(not multiplies_bf16(), reason="the CPU has no bf16 instructions")
PRECISIONS = ["fp32", "int8", pytest.param("bf16", marks=needs_bf16)]
LOSSY = PRECISIONS[1:]
ROLES: tuple[Role, Role] = ("query", "passage")
TEXTS = [text.strip() for text in probe.TEXTS] + ["a very long text " * 40]


def load(
    checkpoint: Path, cache: Path, precision: str = "fp32", engine: str = "openvino"
) -> Encoder:
    return load_encoder(
        str(checkpoint), cache=cache, device="cpu", cpu_engine=engine, precision=precision
    )


@pytest.fixture(scope="session")
def graph_cache(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the tiny encoder's graph, which no test may change."""
    cache = tmp_path_factory.mktemp("graphs")
    load(tiny_checkpoint, cache)
    return cache


@pytest.fixture(scope="module")
def tuned_cache(
    graph_cache: Path, tuned_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cache with the graphs of both sides of `tuned_checkpoint`, which no test may change."""
    cache = Path(shutil.copytree(graph_cache, tmp_path_factory.mktemp("tuned") / "cache"))
    load(tuned_checkpoint, cache)
    return cache


@pytest.fixture
def cache_copy(graph_cache: Path, tmp_path: Path) -> Path:
    """A cache which the test may change."""
    return Path(shutil.copytree(graph_cache, tmp_path / "cache"))


def by_sentence_transformers(checkpoint: Path) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(checkpoint), device="cpu")
    return np.asarray(encoder.encode(TEXTS, prompt_name="query"))


def graph_folder(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def test_fp32_equals_sentence_transformers(tiny_checkpoint: Path, graph_cache: Path) -> None:
    encoder = load(tiny_checkpoint, graph_cache)

    assert encoder.runtime.name == "openvino-ir-fp32"
    np.testing.assert_allclose(
        encoder.encode(TEXTS, "query").embeddings,
        by_sentence_transformers(tiny_checkpoint),
        atol=1e-5,
    )


@pytest.fixture(scope="module")
def long_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with other weights, pooling and limit than the tiny one's."""
    folder = tmp_path_factory.mktemp("long") / "long"
    return make_checkpoint(folder, seed=1, pooling="cls", max_tokens=2000)


@pytest.fixture(scope="module")
def shared_cache(
    graph_cache: Path, long_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cache in which the graph of `long_checkpoint` joined the tiny encoder's."""
    cache = Path(shutil.copytree(graph_cache, tmp_path_factory.mktemp("shared") / "cache"))
    load(long_checkpoint, cache)
    return cache


def test_another_checkpoint_gets_a_graph_of_its_own(
    long_checkpoint: Path, shared_cache: Path
) -> None:
    found = load(long_checkpoint, shared_cache).encode(TEXTS, "query").embeddings

    np.testing.assert_allclose(found, by_sentence_transformers(long_checkpoint), atol=1e-5)
    assert len([path for path in shared_cache.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_query_alone_equals_the_same_query_in_a_batch(
    tiny_checkpoint: Path, graph_cache: Path, precision: str
) -> None:
    encoder = load(tiny_checkpoint, graph_cache, precision)

    together = encoder.encode(TEXTS, "query").embeddings

    alone = np.concatenate([encoder.encode([text], "query").embeddings for text in TEXTS])
    # Rounding to 8 bits depends on how a matrix is tiled, and so on the batch.
    np.testing.assert_allclose(alone, together, atol=1e-5 if precision == "fp32" else 2e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_lossy_precision_is_close_to_fp32(
    tiny_checkpoint: Path, tiny_encoder: Encoder, graph_cache: Path, precision: str
) -> None:
    encoder = load(tiny_checkpoint, graph_cache, precision)

    found = encoder.encode(TEXTS, "query").embeddings

    expected = tiny_encoder.encode(TEXTS, "query").embeddings
    assert encoder.runtime.name == f"openvino-ir-{precision}"
    assert (found * expected).sum(axis=1).min() > {"fp32": 0.99999, "bf16": 0.999, "int8": 0.99}[
        precision
    ]


@pytest.mark.slow
def test_a_text_at_a_limit_that_is_no_round_number_fits(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "odd", max_tokens=37)
    expected = by_sentence_transformers(checkpoint)

    for precision in ["fp32", "int8", *(["bf16"] if multiplies_bf16() else [])]:
        found = load(checkpoint, tmp_path / "cache", precision).encode(TEXTS, "query").embeddings

        assert (found * expected).sum(axis=1).min() > probe.BOUNDS[precision][0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_texts_give_the_same_bytes(
    tiny_checkpoint: Path, graph_cache: Path, precision: str
) -> None:
    first, second = (
        load(tiny_checkpoint, graph_cache, precision).encode(TEXTS, "query").embeddings
        for _ in range(2)
    )

    assert first.tobytes() == second.tobytes()


def test_a_later_start_makes_nothing_and_loads_no_model(
    tiny_checkpoint: Path, graph_cache: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in graph_cache.rglob("*")}

    done = run_script(LOAD, tiny_checkpoint, graph_cache, *NOT_LOADED)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["openvino-ir-fp32", *(f"{name}=False" for name in NOT_LOADED)]
    assert {path: path.stat().st_mtime_ns for path in graph_cache.rglob("*")} == before


LOAD = """
import sys
from pathlib import Path
from service.retrieval.encoder.loader import load_encoder
encoder = load_encoder(
    sys.argv[1], cache=Path(sys.argv[2]), device="cpu", cpu_engine="openvino", precision="fp32"
)
encoder.encode(["tea"], "query")
sys.stdout.write(encoder.runtime.name + " ")
sys.stdout.write(" ".join(f"{name}={bool(sys.modules.get(name))}" for name in sys.argv[3:]))
"""
# The last reports each import to Google Analytics.
NOT_LOADED = ["transformers", "openvino_telemetry"]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (flip_bit, "graph.xml"),
        (flip_bit, "graph.bin"),
        (cut_short, "graph.bin"),
        (Path.unlink, "graph.bin"),
        (Path.unlink, "graph.xml"),
        (flip_bit, "probe.safetensors"),
        (flip_bit, "manifest.json"),
        (Path.unlink, "manifest.json"),
    ],
)
def test_a_damaged_graph_is_made_again(
    tiny_checkpoint: Path,
    cache_copy: Path,
    damage: object,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    graph_cache: Path,
) -> None:
    damage(graph_folder(cache_copy) / name)  # type: ignore[operator]
    made = []

    def export(directory: Path, layout: object) -> str:
        made.append(directory)
        for path in ("graph.xml", "graph.bin", "probe.safetensors"):
            shutil.copy(graph_folder(graph_cache) / path, directory)
        return "embeddings.word_embeddings.weight"

    monkeypatch.setattr(choice, "_export", export)
    encoder = load(tiny_checkpoint, cache_copy)

    assert encoder.encode(["tea"], "query").embeddings.shape == (1, 32)
    assert len(made) == 1
    assert [path.name for path in cache_copy.iterdir() if path.is_dir()] == [
        graph_folder(graph_cache).name
    ]


@pytest.mark.slow
def test_two_processes_at_once_make_one_graph_and_print_nothing(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_script, LOAD, tiny_checkpoint, cache) for _ in range(2)]
        done = [run.result() for run in runs]

    assert [(each.returncode, each.stderr) for each in done] == [(0, ""), (0, "")]
    folder = graph_folder(cache).name
    assert sorted(path.name for path in cache.iterdir()) == sorted([folder, f".{folder}.lock"])


@pytest.mark.parametrize("fault", [0.05, float("nan")])
def test_a_runtime_that_is_off_is_refused_at_the_start_and_torch_takes_its_place(
    tiny_checkpoint: Path,
    tiny_encoder: Encoder,
    graph_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from service.retrieval.encoder.runtime.openvino.runtime import OpenvinoRuntime

    embed = OpenvinoRuntime.embed
    monkeypatch.setattr(
        OpenvinoRuntime,
        "embed",
        lambda self, ids, mask: torch.nn.functional.normalize(embed(self, ids, mask) + fault),
    )

    with pytest.raises(
        CheckpointError, match="openvino-ir-fp32 is wrong on this machine"
    ) as caught:
        load(tiny_checkpoint, graph_cache)
    with pytest.raises(DeviceError, match="CLEAR_PRECISION=int8 needs openvino, which cannot"):
        load(tiny_checkpoint, graph_cache, "int8", engine="auto")
    caplog.clear()
    encoder = load(tiny_checkpoint, graph_cache, engine="auto")

    assert "set CLEAR_CPU_ENGINE=torch and CLEAR_PRECISION=fp32" in str(caught.value)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == f"torch encodes, as openvino cannot: {caught.value}"
    assert encoder.runtime.name == "torch-fp32"
    found = encoder.encode(TEXTS, "query").embeddings
    np.testing.assert_array_equal(found, tiny_encoder.encode(TEXTS, "query").embeddings)


def test_a_probe_runs_no_text_over_512_tokens_or_the_limit_that_is_set(
    graph_cache: Path, shared_cache: Path
) -> None:
    names = {path.name for path in shared_cache.iterdir() if path.is_dir()}
    [name] = names - {graph_folder(graph_cache).name}
    folder = shared_cache / name

    lengths = [batch.attention_mask.sum(axis=1) for batch in probe.read_probe(folder)]
    assert [len(rows) for rows in lengths] == [len(probe.TEXTS), 1]
    assert lengths[1].tolist() == [512]
    sizes, largest = [], []
    for limit in (2000, 511, 20, 1):
        runtime = RecordingRuntime(folder)
        probe.check_runtime(runtime, folder, "bf16", limit)
        sizes.append(runtime.longest)
        largest.append(runtime.largest)
    assert sizes == [512, max(lengths[0]), max(n for n in lengths[0] if n <= 20), 0]
    assert min(largest[:3]) > PART_TOKENS  # so that streams compute it on any number of cores


class RecordingRuntime:
    """Embeds as the probe says; keeps the length of the longest batch."""

    name, device, embedding_dim, num_slots = "recording", torch.device("cpu"), 32, 1

    def __init__(self, folder: Path) -> None:
        self.longest = self.largest = 0
        self.known = {
            row[: mask.sum()].tobytes(): embedding
            for batch in probe.read_probe(folder)
            for row, mask, embedding in zip(
                batch.token_ids, batch.attention_mask, batch.embeddings, strict=True
            )
        }

    def passage_shape(self, length: int) -> None:
        """Name no shape."""

    def warm_up(self, max_batch_tokens: int) -> None:
        """Do nothing."""

    def embed(
        self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> torch.Tensor:
        self.longest = max(self.longest, token_ids.shape[1])
        if len(token_ids) > 1:
            self.largest = max(self.largest, token_ids.size)
        rows = zip(token_ids, attention_mask, strict=True)
        return torch.from_numpy(
            np.stack([self.known[row[: mask.sum()].tobytes()] for row, mask in rows])
        )


@pytest.mark.slow
def test_half_precision_and_sharded_weights_feed_the_graph(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from transformers import BertModel

    checkpoint = make_checkpoint(tmp_path / "half", with_manifest=False)
    BertModel.from_pretrained(checkpoint).half().save_pretrained(checkpoint, max_shard_size="20KB")
    (checkpoint / "model.safetensors").unlink(missing_ok=True)

    found = load(checkpoint, tmp_path / "cache").encode(TEXTS, "query").embeddings

    expected = load_encoder(str(checkpoint), device="cpu").encode(TEXTS, "query").embeddings
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_sides_have_a_graph_each_and_one_table(
    tuned_checkpoint: Path, tuned_encoder: Encoder, tuned_cache: Path, precision: str
) -> None:
    encoder = load(tuned_checkpoint, tuned_cache, precision)
    query, passage = (on_demand.load(encoder.side(role).runtime) for role in ROLES)

    assert query.graph.directory != passage.graph.directory  # type: ignore[attr-defined]
    assert query.graph.table.data_ptr() == passage.graph.table.data_ptr()  # type: ignore[attr-defined]
    for role in ROLES:
        found = encoder.encode(TEXTS, role).embeddings
        expected = tuned_encoder.encode(TEXTS, role).embeddings
        # Random layers that were changed at random round worse than trained ones.
        least = {"fp32": 0.99999, "bf16": 0.99, "int8": 0.98}[precision]
        assert (found * expected).sum(axis=1).min() > least


@pytest.mark.parametrize("multiple", [8, 16])
def test_lengths_come_in_few_sizes_that_hold_them_and_waste_a_quarter_at_most(
    multiple: int,
) -> None:
    from service.retrieval.encoder.runtime.openvino.shapes import pad_length

    padded = {length: pad_length(length, multiple, 512) for length in range(1, 513)}

    assert all(length <= size <= 512 for length, size in padded.items())
    assert all(size <= 1.25 * (length + multiple - 1) for length, size in padded.items())
    assert len(set(padded.values())) <= 20
    assert {pad_length(size, multiple, 512) for size in padded.values()} == set(padded.values())


def test_a_length_stays_within_what_the_encoder_takes() -> None:
    from service.retrieval.encoder.runtime.openvino.shapes import pad_length

    assert [pad_length(length, 8, 100) for length in (80, 81, 97, 100)] == [80, 96, 100, 100]


def test_tables_of_two_files_are_shared_where_they_are_equal(tmp_path: Path) -> None:
    tables = {"a": torch.arange(6.0).view(3, 2), "b": torch.arange(6.0).view(3, 2)}
    tables |= {"c": torch.ones(3, 2), "d": torch.arange(6.0).view(2, 3)}
    for name, table in tables.items():
        save_file({"table": table, name: torch.zeros(1)}, tmp_path / name)
    a, b, c, d = (find_table((tmp_path / name,), "table") for name in tables)

    assert a.equals(a)
    assert a.equals(b)
    assert not a.equals(c)
    assert not a.equals(d)
    assert map_table(b).tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_large_graph_is_compiled_once_and_embeds_the_same(
    tiny_checkpoint: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    from service.retrieval.encoder.runtime.openvino import core, runtime

    expected = load(tiny_checkpoint, graph_cache, precision).encode(TEXTS, "query").embeddings
    compiled = []

    def compile_once(*arguments: Any, **options: Any) -> Any:
        compiled.append(options)
        return core.compile_graph(*arguments, **options)

    monkeypatch.setattr(runtime, "compile_graph", compile_once)
    monkeypatch.setattr(runtime, "MAX_COPIED_BYTES", 0)

    encoder = load(tiny_checkpoint, graph_cache, precision)
    encoder.warm_up(256)

    assert compiled == [{}]  # one stream, any shape
    assert encoder.num_slots == 1
    found = encoder.encode(TEXTS, "query").embeddings
    np.testing.assert_allclose(found, expected, atol=1e-5 if precision == "fp32" else 2e-2)


def test_a_graph_that_openvino_does_not_compute_leaves_torch(
    tiny_checkpoint: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.retrieval.encoder.runtime.openvino import runtime

    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Check 'is_supported' failed:\n unknown operation")

    monkeypatch.setattr(runtime, "compile_graph", fail)

    with pytest.raises(CheckpointError, match=r"compute the graph of .* failed: unknown operation"):
        load(tiny_checkpoint, graph_cache)
    assert load(tiny_checkpoint, graph_cache, engine="auto").runtime.name == "torch-fp32"


def passages(count: int) -> list[str]:
    """Return texts of all lengths; some are over the encoder's limit."""
    dice = random.Random(0)
    return [" ".join(dice.choices(TEXTS[:9], k=dice.randint(1, 9)))[:300] for _ in range(count)]


@pytest.mark.parametrize("precision", LOSSY)
def test_a_passage_has_the_same_bits_in_any_company(
    tiny_checkpoint: Path, graph_cache: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, texts = load(tiny_checkpoint, graph_cache, precision), passages(60)
    order = list(range(60))
    expected = encode_passages(encoder, texts).embeddings

    for size in (60, 9, 8, 1):
        random.Random(size).shuffle(order)
        found = encode_passages(encoder, [texts[row] for row in order[:size]]).embeddings
        np.testing.assert_array_equal(found, expected[order[:size]])
    monkeypatch.setattr(encoder.runtime._running, "count", 1)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(encode_passages(encoder, texts).embeddings, expected)


@pytest.mark.parametrize("precision", LOSSY)
def test_passages_have_one_shape_for_each_length_which_a_manifest_names(
    tiny_checkpoint: Path, graph_cache: Path, precision: str
) -> None:
    encoder = load(tiny_checkpoint, graph_cache, precision)

    for length in range(1, 65):
        padded = pad_length(length, 8, 64)
        assert encoder.runtime.passage_shape(length) == Shape(512 // padded, padded)
    assert EncoderIdentity.of(encoder).runtime == f"openvino-ir-{precision}-fixed"


def test_passages_in_fp32_need_no_shape(tiny_checkpoint: Path, graph_cache: Path) -> None:
    encoder = load(tiny_checkpoint, graph_cache)

    assert encoder.runtime.passage_shape(5) is None
    assert EncoderIdentity.of(encoder).runtime == "openvino-ir-fp32"


def test_a_stream_computes_few_tokens_at_once_and_passages_keep_their_bits(
    tiny_checkpoint: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.retrieval.encoder.runtime.openvino import runtime

    encoder, texts = load(tiny_checkpoint, graph_cache), [f"{text} tea" for text in passages(200)]
    expected = encode_passages(encoder, texts).embeddings
    computed, inputs = [], runtime.OpenvinoRuntime._inputs

    def record(*arguments: Any) -> Any:
        computed.append(int(np.count_nonzero(arguments[2])))
        return inputs(*arguments)

    monkeypatch.setattr(runtime.OpenvinoRuntime, "_inputs", record)
    for limit in (768, 128):
        monkeypatch.setattr(runtime, "PART_TOKENS", limit)
        computed.clear()
        np.testing.assert_array_equal(encode_passages(encoder, texts).embeddings, expected)
        assert max(computed) < limit + 64  # the longest text


def test_a_stream_computes_tokens_and_little_padding(
    tiny_checkpoint: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.retrieval.encoder.runtime.openvino import inputs, runtime

    encoder = load(tiny_checkpoint, graph_cache)
    columns: list[tuple[int, int]] = []

    def record(mask: NDArray[np.int64], keeps_padding: bool) -> Any:
        found = inputs.token_positions(mask, keeps_padding)
        columns.append((int(mask.sum()), len(found[0])))
        return found

    monkeypatch.setattr(runtime, "token_positions", record)
    embedded = encoder.encode(["tea " * count for count in range(1, 41)], "query")

    assert sum(tokens for tokens, _ in columns) == embedded.num_tokens
    assert all(tokens <= size <= 1.125 * tokens for tokens, size in columns)


def test_a_passage_in_fp32_has_the_same_bits_in_any_company(
    tiny_checkpoint: Path, graph_cache: Path
) -> None:
    encoder = load(tiny_checkpoint, graph_cache)
    texts = [" ".join(["tea"] * count) for count in range(1, 30)] + passages(60)
    expected = encode_passages(encoder, texts).embeddings

    for row in range(0, len(texts), 3):
        alone = encode_passages(encoder, texts[row : row + 1 + row % 2]).embeddings
        np.testing.assert_array_equal(alone, expected[row : row + 1 + row % 2])


def test_the_probe_finds_a_fault_of_the_streams(
    tiny_checkpoint: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.retrieval.encoder.runtime.openvino import inputs, runtime

    def turned(mask: NDArray[np.int64], keeps_padding: bool) -> Any:
        tokens, places = inputs.token_positions(mask, keeps_padding)
        return np.ascontiguousarray(tokens[::-1]), places

    monkeypatch.setattr(runtime, "token_positions", turned)

    with pytest.raises(CheckpointError, match="openvino-ir-fp32 is wrong on this machine"):
        load(tiny_checkpoint, graph_cache)
