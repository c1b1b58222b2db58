from pathlib import Path

import pytest
import torch
from torch import nn

from service.retrieval.checkpoint.modules.head import ACTIVATIONS, DenseConfig
from service.retrieval.checkpoint.modules.pooling import Pooling
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.batches import UNPOOLED
from service.retrieval.encoder.head import Dense, Head, Normalize, load_head
from service.retrieval.errors import CheckpointError
from tests.conftest import cut_short
from tests.support.layouts import DIM, Folder, Module, dense

# One text of three tokens and one of padding.
HIDDEN = torch.tensor([[[1.0, 0.0], [3.0, 6.0], [2.0, 3.0], [9.0, 9.0]]])
MASK = torch.tensor([[1, 1, 1, 0]])


def unit(*values: float) -> torch.Tensor:
    return nn.functional.normalize(torch.tensor([values], dtype=torch.float32), dim=-1)


def test_several_poolings_are_concatenated_in_their_order() -> None:
    head = Head(Pooling(("max", "cls", "mean")))

    torch.testing.assert_close(head(HIDDEN, MASK), unit(3, 6, 1, 0, 2, 3))
    assert head.output_dim(2) == 6


def test_tokens_of_a_prompt_are_left_out_where_the_pooling_says_so() -> None:
    mask = torch.tensor([[UNPOOLED, 1, 1, 0]])

    head = Head(Pooling(("mean",), include_prompt=False))

    torch.testing.assert_close(head(HIDDEN, mask), unit(2.5, 4.5))
    assert head.attended(mask).tolist() == MASK.tolist()


def test_an_embedding_is_cut_before_its_length_is_made_one() -> None:
    head = Head(modules=[Normalize()], truncate_dim=1)

    assert head(HIDDEN, MASK).tolist() == [[1.0]]
    assert head.output_dim(2) == 1


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_dense_maps_activates_and_adds_its_residual(has_bias: bool) -> None:
    config = DenseConfig(
        in_features=2,
        out_features=2,
        bias=has_bias,
        activation_function="torch.nn.modules.activation.ReLU",
        use_residual=True,
    )
    module = Dense(config)
    state = {"linear.weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]])}
    module.load_state_dict(state | ({"linear.bias": torch.tensor([0.5, 0.5])} if has_bias else {}))

    found = module(torch.tensor([[1.0, 1.0]]))

    assert found.tolist() == [[4.5, 1.0]] if has_bias else [[4.0, 1.0]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_torchs_and_maps_each_value_by_itself(name: str) -> None:
    activation = getattr(nn, name)().eval()

    assert activation(torch.ones(2, 3)).shape == (2, 3)


def test_a_head_is_computed_in_fp32() -> None:
    assert Head()(HIDDEN.bfloat16(), MASK).dtype == torch.float32


@pytest.mark.parametrize("damage", ["cut short", "of another size"])
def test_damaged_weights_of_a_module_are_refused(tmp_path: Path, damage: str) -> None:
    folder = Folder(head=(dense(16),))(tmp_path / "encoder")
    weights = folder / "2_Dense/model.safetensors"
    if damage == "cut short":
        cut_short(weights)
    else:
        other = Folder(head=(dense(24),))(tmp_path / "other")
        weights.write_bytes((other / "2_Dense/model.safetensors").read_bytes())

    with pytest.raises(CheckpointError, match="does not hold the weights of the Dense that"):
        load_head(read_layout(folder))


def test_a_last_normalize_is_part_of_every_head(tmp_path: Path) -> None:
    layout = read_layout(Folder(head=(dense(DIM), ("Normalize", {})))(tmp_path / "encoder"))

    assert [module.kind for module in layout.head] == ["Dense", "Normalize"]
    assert [module.kind for module in layout.decisive_head] == ["Dense"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ((dense(16, inputs=DIM), dense(8, inputs=24)), "3_Dense/config.json: `in_features` is 24"),
        ((dense(16), ("LayerNorm", {"dimension": 8})), "config.json: `dimension` is 8, and the"),
    ],
)
def test_modules_that_do_not_follow_each_other_are_refused_as_they_are_read(
    tmp_path: Path, modules: tuple[Module, ...], message: str
) -> None:
    folder = Folder(head=modules)(tmp_path / "encoder")

    with pytest.raises(CheckpointError, match=message):
        read_layout(folder)


def test_a_first_module_that_does_not_take_the_pooled_embedding_is_refused(tmp_path: Path) -> None:
    head = load_head(read_layout(Folder(head=(dense(24, inputs=48),))(tmp_path / "encoder")))

    assert head.output_dim(48) == 24
    with pytest.raises(CheckpointError, match="`in_features` is 48, .* embeddings of 32 values"):
        head.output_dim(DIM)
