"""Every architecture that the service loads is trained, published and blended."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from peft import PeftModel
from sentence_transformers import SentenceTransformer

from service.retrieval.encoder.loader import load_encoder
from tests.support.architectures import CONFIGS, make_encoder
from tests.support.layouts import Folder, dense
from tests.support.training_rows import ROWS
from trainer.blend.weights import open_pair, write_blend
from trainer.config import RunConfig, parse_config
from trainer.data.rows import write_rows
from trainer.publish.directory import Publication, open_sides, write_publication
from trainer.training.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of peft, about transformers
]
TEXTS = ["Where does tea grow?", "Je, mji mkuu wa Kenya ni upi, na chai hulimwa wapi?"]
WITHOUT_GRADIENT_CHECKPOINTING = ("albert", "mpnet")


TRUNCATED = {"config_sentence_transformers.json": {"truncate_dim": 8}}
BASES: dict[str, Callable[[Path], Path]] = {
    architecture: partial(make_encoder, architecture=architecture) for architecture in CONFIGS
}
BASES |= {
    "modules after the pooling": Folder(
        head=[dense(24), ("LayerNorm", {"dimension": 24}), ("Normalize", {})]
    ),
    "unpooled prompt": Folder("qwen3", {"pooling_mode": "mean", "include_prompt": False}),
    "truncated": Folder(changes=TRUNCATED),
}


@pytest.fixture(params=BASES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(tmp_path: Path, architecture: str) -> Path:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return BASES[architecture](tmp_path / "base")


def config_of(base: Path, encoder: dict[str, object], **sections: object) -> RunConfig:
    content: dict[str, object] = {
        "encoder": {"name": str(base), "max_tokens": 64, **encoder},
        "data": {"rows": ["rows.jsonl"]},
        "optimizer": {
            **{"steps": 2, "batch_rows": 8, "learning_rate": 1e-2, "micro_batch_rows": 3},
            "precision": "bf16",
        },
        **sections,
    }
    return parse_config(content, base.parent / "config.toml")


def test_an_adapter_in_bf16_and_micro_batches_is_that_of_peft(
    base: Path, tmp_path: Path, architecture: str
) -> None:
    checkpoints_gradients = architecture not in WITHOUT_GRADIENT_CHECKPOINTING
    encoder = {"lora_rank": 2, "gradient_checkpointing": checkpoints_gradients}
    config = config_of(base, encoder, objective={"name": "frozen_bridge", "temperature": 0.02})

    record = train(config, tmp_path / "run", cache=tmp_path / "cache", device="cpu")

    adapter = tmp_path / "run" / record["output"]
    served = load_encoder(str(adapter), device="cpu").encode(TEXTS, "query").embeddings
    plain = SentenceTransformer(str(base), device="cpu")
    before = plain.encode_query(TEXTS, normalize_embeddings=True)
    plain[0].model = PeftModel.from_pretrained(plain[0].model, str(adapter)).eval()
    np.testing.assert_allclose(
        served, plain.encode_query(TEXTS, normalize_embeddings=True), atol=1e-4
    )
    assert np.abs(served - before).max() > 1e-3
    sides = open_sides(str(adapter), "none", tmp_path / "cache")
    write_publication(*sides, tmp_path / "out", Publication("owner/tuned", "mit"))
    published = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(
        published.encode_query(TEXTS, normalize_embeddings=True), served, atol=1e-4
    )
    np.testing.assert_allclose(
        published.encode_document(TEXTS, normalize_embeddings=True), passages_of(base), atol=1e-4
    )


def passages_of(encoder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return load_encoder(str(encoder), device="cpu").encode(TEXTS, "passage").embeddings


def test_trained_weights_are_published_and_blended(base: Path, tmp_path: Path) -> None:
    record = train(config_of(base, {}), tmp_path / "run", cache=tmp_path / "cache", device="cpu")

    tuned = tmp_path / "run" / record["output"]
    sides = open_sides(str(tuned), "none", tmp_path / "cache")
    write_publication(*sides, tmp_path / "out", Publication("owner/tuned", "mit"))
    assert np.abs(passages_of(tuned) - passages_of(base)).max() > 1e-3
    for folder in (tuned, tmp_path / "out"):
        theirs = SentenceTransformer(str(folder), device="cpu")
        np.testing.assert_allclose(
            theirs.encode_document(TEXTS, normalize_embeddings=True), passages_of(tuned), atol=1e-4
        )
    for share, expected in ((0.0, base), (1.0, tuned)):
        blend = tmp_path / f"blend-{share}"
        write_blend(open_pair(str(base), str(tuned), tmp_path / "cache"), share, blend)
        np.testing.assert_allclose(passages_of(blend), passages_of(expected), atol=1e-6)
