from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint.transformer.rope import check_rope
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.support.layouts import Folder

PATH = Path("encoder/config.json")
LONG = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [4.0]}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    "config",
    [
        {"rope_scaling": DYNAMIC, "max_position_embeddings": 16},
        {"rope_parameters": DYNAMIC, "max_position_embeddings": 16},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16},
        {"rope_parameters": {"full_attention": DYNAMIC}, "max_position_embeddings": 16},
        {"rope_scaling": LONG, "max_position_embeddings": 16},
        {
            "rope_scaling": LONG | {"original_max_position_embeddings": 16},
            "max_position_embeddings": 64,
        },
        {
            "rope_scaling": LONG | {"rope_type": "su"},
            "original_max_position_embeddings": 16,
            "max_position_embeddings": 64,
        },
    ],
)
def test_a_limit_beyond_the_constant_positions_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"/config\.json: `rope_\w+` '\w+' makes .* more than 16 tokens, and the limit is 17: "
        "set CLEAR_MAX_TOKENS, or max_seq_length in sentence_bert_config.json, to 16 or lower",
    ):
        check_rope(config, PATH, 17)

    check_rope(config, PATH, 16)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rope_scaling": None, "max_position_embeddings": 16},
        {"rope_parameters": {"rope_type": "default"}, "max_position_embeddings": 16},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "max_position_embeddings": 16},
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "max_position_embeddings": 16},
    ],
)
def test_positions_that_are_constant_have_any_limit(config: dict[str, object]) -> None:
    check_rope(config, PATH, 10_000)


def test_within_the_constant_positions_a_batch_changes_no_embedding(tmp_path: Path) -> None:
    scaling = {"rope_scaling": DYNAMIC, "rope_theta": 10000.0, "max_position_embeddings": 16}
    folder = Folder("qwen2", changes={"config.json": scaling | {"rope_parameters": None}})(
        tmp_path / "encoder"
    )
    with pytest.raises(CheckpointError, match="to 16 or lower"):
        load_encoder(str(folder), device="cpu")

    encoder = load_encoder(str(folder), device="cpu", max_tokens=16)

    alone = encoder.encode(["tea"], "query").embeddings[0]
    together = encoder.encode(["tea", "kora string " * 12], "query").embeddings[0]
    np.testing.assert_allclose(alone, together, atol=1e-5)
