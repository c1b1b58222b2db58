from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel, PreTrainedModel

from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.runtime.padding import PROVEN, padding_violation
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError
from tests.support.architectures import CONFIGS
from tests.support.layout_catalog import ARCHITECTURES
from tests.support.layouts import Folder

CONVOLUTION = {"embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3}


def tiny(architecture: str, **config: object) -> PreTrainedModel:
    sizes = CONFIGS["bert"] | {"vocab_size": 99, "pad_token_id": 1, "initializer_range": 0.2}
    model: PreTrainedModel = AutoModel.from_config(
        AutoConfig.for_model(architecture, **sizes | config)
    )
    return model.eval()


@pytest.mark.parametrize(("architecture", "config"), [("fnet", {}), ("convbert", CONVOLUTION)])
def test_an_architecture_in_which_padding_leaks_is_found(
    architecture: str, config: dict[str, object]
) -> None:
    violation = padding_violation(tiny(architecture, **config), 64)

    assert violation is not None
    assert violation.startswith("lets padding change a text's embedding")


@pytest.mark.parametrize("architecture", ["ernie", "megatron-bert", "roberta-prelayernorm"])
@pytest.mark.parametrize("max_tokens", [8, 64])
def test_an_architecture_that_masks_its_padding_is_served(
    architecture: str, max_tokens: int
) -> None:
    assert padding_violation(tiny(architecture), max_tokens) is None


def test_an_architecture_that_cannot_compute_a_short_text_is_found() -> None:
    model = tiny("nystromformer", segment_means_seq_len=64, num_landmarks=16)

    assert str(padding_violation(model, 64)).startswith("cannot compute a short text (shape ")


def test_only_architectures_that_are_proven_in_the_tests_are_not_checked() -> None:
    assert set(ARCHITECTURES) == PROVEN


def test_a_checkpoint_of_such_an_architecture_is_refused_by_file_and_field(
    tmp_path: Path,
) -> None:
    folder = Folder()(tmp_path / "encoder")
    tiny("fnet").save_pretrained(folder)

    with pytest.raises(
        CheckpointError,
        match=r"/config\.json: `model_type` 'fnet' lets padding change .*: use an encoder of",
    ):
        load_model(read_layout(folder))
