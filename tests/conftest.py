"""Small stand-ins for the real things: an encoder, passages and an index, made once a session.

Heavy libraries are imported by the functions that need them: the process that only distributes the
tests loads this module, too, and no worker starts before it has.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chromium import CHROMIUM, FLAGS
from tests.support.graphs import GraphExporter

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from starlette.testclient import TestClient
    from tokenizers import Tokenizer

    from service.retrieval.encoder.encoder import Encoder
    from service.settings.settings import Settings

PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]

PASSAGES: list[dict[str, Any]] = [
    {"id": "kenya.1", "title": "Kenya", "text": "Nairobi is the capital of Kenya.", "page": 1},
    {"id": "kenya.2", "title": "Kenya", "text": "Tea and flowers are grown for export.", "page": 2},
    {"id": "peru.1", "title": "Peru", "text": "Lima lies on the coast of the Pacific.", "page": 1},
    {"id": "peru.2", "title": "Peru", "text": "Machu Picchu was built by the Inca.", "page": 2},
    {"id": "japan.1", "title": "Japan", "text": "Tokyo has the busiest railways.", "page": 1},
    {"id": "japan.2", "title": "Japan", "text": "Mount Fuji last erupted in 1707.", "page": 2},
    {"id": "food.1", "title": "", "text": "An adult needs about 50 grams of protein a day."},
    {"id": "food.2", "title": "", "text": "Lentils, beans and eggs hold much protein."},
    {"id": "science.1", "title": "", "text": "Water boils at a lower heat on a mountain."},
    {"id": "science.2", "title": "", "text": "Light needs eight minutes from the sun."},
    {"id": "music.1", "title": "Music", "text": "The kora is a harp with 21 strings."},
    {"id": "music.2", "title": "Music", "text": "A string quartet has two violins."},
]


NAMED_MARKERS = ("slow", "browser")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without the marker that `-m` asks for alone: to import all takes long."""
    marker = config.option.markexpr
    if marker not in NAMED_MARKERS or collection_path.suffix != ".py":
        return None
    return not _names_marker(collection_path, marker) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check that each file has the markers of its tests in its own text."""
    for item in items:
        for marker in NAMED_MARKERS:
            if item.get_closest_marker(marker) and not _names_marker(item.path, marker):
                raise pytest.UsageError(
                    f"{item.nodeid} is {marker}: write pytest.mark.{marker} in its file: "
                    f"-m {marker} imports only files whose text has it"
                )


@cache
def _names_marker(path: Path, marker: str) -> bool:
    return f"mark.{marker}" in path.read_text()


def tiny_tokenizer() -> "Tokenizer":
    """Train a byte-level BPE tokenizer: any Unicode text becomes tokens, none is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([str(passage["text"]) for passage in PASSAGES], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def make_checkpoint(
    directory: Path,
    *,
    seed: int = 0,
    pooling: str = "mean",
    max_tokens: int = 64,
    hidden_size: int = 32,
    with_manifest: bool = True,
    **facts: object,
) -> Path:
    """Write a Sentence Transformers folder of a random two-layer BERT.

    Args:
        directory: where, made if missing.
        seed: of the weights.
        pooling: `mean`, `cls` or `lasttoken`.
        max_tokens: the encoder's limit, special tokens included.
        hidden_size: the length of an embedding.
        with_manifest: describe it in a `manifest.json`, as the trainer does.
        facts: more entries of the manifest.
    """
    import torch
    from transformers import BertConfig, BertModel

    from service.retrieval.checkpoint.manifest import write_manifest

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_tokens,
        pad_token_id=1,
        initializer_range=0.5,  # texts must differ by more than rounding
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    torch.nn.init.zeros_(model.pooler.dense.weight)
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    for name, content in json_files(pooling, max_tokens, hidden_size).items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    if with_manifest:
        write_manifest(directory, **{"name": f"tiny-{pooling}-{seed}", **facts})
    return directory


def make_adapter(
    directory: Path, of: "Encoder", *, seed: int = 0, rank: int = 4, **changes: object
) -> Path:
    """Write a random query-side adapter of a tiny encoder: two of each layer's modules.

    Args:
        directory: where, made if missing.
        of: the base, whose weights it changes.
        seed: of the adapter's weights.
        rank: of its matrices.
        changes: entries of `adapter.json` that differ; None leaves one out.
    """
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shapes = {"attention.self.query": (32, 32), "intermediate.dense": (64, 32)}
    save_file(
        {
            f"encoder.layer.{layer}.{name}.lora_{letter}": torch.randn(
                shape, generator=generator
            ).half()
            for layer in range(2)
            for name, (outputs, inputs) in shapes.items()
            for letter, shape in (("a", (rank, inputs)), ("b", (outputs, rank)))
        },
        directory / "adapter.safetensors",
    )
    description = {
        "format_version": 1,
        "scale": 0.0625,
        "rank": rank,
        "base": of.name,
        "base_fingerprint": of.fingerprint,
        "passage_fingerprint": of.fingerprint,
        "side": "query",
        **changes,
    }
    (directory / "adapter.json").write_text(
        json.dumps({key: value for key, value in description.items() if value is not None})
    )
    return directory


def json_files(pooling: str, max_tokens: int, hidden_size: int) -> dict[str, object]:
    return {
        "tokenizer_config.json": {
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "model_max_length": max_tokens,
            "pad_token": "<pad>",
            "sep_token": "</s>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
        "modules.json": [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.{kind}",
            }
            for index, (path, kind) in enumerate(
                [
                    ("", "models.Transformer"),
                    ("1_Pooling", "models.Pooling"),
                    ("2_Normalize", "models.Normalize"),
                ]
            )
        ],
        "sentence_bert_config.json": {"do_lower_case": False, "max_seq_length": max_tokens},
        "1_Pooling/config.json": {
            "pooling_mode": pooling,
            "embedding_dimension": hidden_size,
        },
        "config_sentence_transformers.json": {
            "default_prompt_name": None,
            "prompts": PROMPTS,
            "similarity_fn_name": "cosine",
        },
    }


def write_passages(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


@pytest.fixture(scope="session", autouse=True)
def _no_graphs() -> Iterator[None]:
    """Serve by torch in fp32: a graph takes seconds to make and goes to the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEAR_CPU_ENGINE", "torch")
        patch.setenv("CLEAR_PRECISION", "fp32")
        yield


@pytest.fixture(scope="session", autouse=True)
def _graphs_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make graphs here: the process that makes one takes seconds to import its libraries."""
    from service.retrieval.encoder.runtime import choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_export", GraphExporter(tmp_path_factory.mktemp("traced")))
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test may alter; `checkpoint_copy` is for that."""
    return make_checkpoint(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_checkpoint: Path) -> "Encoder":
    """The encoder of `tiny_checkpoint`."""
    from service.retrieval.encoder.loader import load_encoder

    return load_encoder(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> "Encoder":
    """An encoder of other weights than `tiny_encoder`."""
    from service.retrieval.encoder.loader import load_encoder

    return load_encoder(
        str(make_checkpoint(tmp_path_factory.mktemp("other") / "tiny", seed=1)), device="cpu"
    )


@pytest.fixture(scope="session")
def tuned_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, tiny_encoder: "Encoder"
) -> Path:
    """An adapter of `tiny_checkpoint`'s query side, which no test may alter."""
    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    return make_adapter(folder, tiny_encoder, base=str(tiny_checkpoint))


@pytest.fixture(scope="session")
def tuned_encoder(tuned_checkpoint: Path) -> "Encoder":
    """`tiny_encoder` with another query side."""
    from service.retrieval.encoder.loader import load_encoder

    return load_encoder(str(tuned_checkpoint), device="cpu")


@pytest.fixture(scope="session")
def passages_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve `PASSAGES` as JSON lines."""
    return write_passages(tmp_path_factory.mktemp("passages") / "passages.jsonl", PASSAGES)


@pytest.fixture(scope="session")
def tiny_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: "Encoder", passages_file: Path
) -> Path:
    """An index of `passages_file` that no test may alter; `index_copy` is for that."""
    from service.retrieval.corpus.reader import read_passages
    from service.retrieval.indexing.build import build_index

    index = tmp_path_factory.mktemp("index") / "tiny"
    build_index(read_passages(passages_file), index, tiny_encoder)
    return index


@pytest.fixture
def checkpoint_copy(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A checkpoint that the test may alter."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def index_copy(tmp_path: Path, tiny_index: Path) -> Path:
    """An index that the test may alter."""
    return Path(shutil.copytree(tiny_index, tmp_path / "index"))


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    """Take a file's last byte."""
    path.write_bytes(path.read_bytes()[:-1])


def run_script(
    source: str, *arguments: object, timeout_seconds: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run a Python program from the repository's root, on one thread."""
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Give torch one thread: with two, matrices as small as the tiny encoder's round by shape."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def service_settings(tiny_checkpoint: Path, tiny_index: Path) -> "Settings":
    """The settings of a service of the tiny encoder and index."""
    from service.settings.settings import Settings

    return Settings(encoder=str(tiny_checkpoint), index=tiny_index, device="cpu")


@pytest.fixture(scope="session")
def client(service_settings: "Settings") -> "Iterator[TestClient]":
    """A client of a running service; a bug in it is an answer, as it is for a user."""
    from starlette.testclient import TestClient

    from service.app import create_app

    with TestClient(create_app(service_settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def address(service_settings: "Settings") -> Iterator[str]:
    """Where a running service of the tiny encoder and index listens."""
    from tests.support.serving import serving

    with serving(service_settings) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, without a window."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
