"""Low-rank adaptation (LoRA): the configuration of `peft`, and the product added to weights.

Source: Hu et al. 2021 (arXiv 2106.09685), equation 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.schema import Document, JsonText

Rank = Annotated[int, Field(ge=1, le=65_536)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
# A [R, I] and B [O, R] by the linear module that they change.
Pairs = dict[str, tuple[Tensor, Tensor]]


class LoraConfig(Document):
    """The fields of `adapter_config.json` that decide the change of the weights.

    Variants of LoRA whose change is not a factor times B A are not supported, nor are initial
    values (PiSSA, OLoRA, CorDA, LoftQ) that change the weights of the base as well.
    """

    peft_type: Literal["LORA"]
    r: Rank
    lora_alpha: Finite
    use_dora: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    bias: Literal["none"] = "none"
    lora_bias: Literal[False] = False
    use_qalora: Literal[False] = False
    init_lora_weights: Literal[True, False, "gaussian", "eva", "orthogonal"] = True
    target_parameters: Annotated[list[JsonText], Field(max_length=0)] | None = None
    layer_replication: None = None
    alora_invocation_tokens: None = None
    arrow_config: None = None
    kasa_config: None = None
    monteclora_config: None = None
    use_bdlora: None = None


def target_violation(targets: Sequence[str] | None, modules: Iterable[str]) -> str | None:
    """Return which of the targets and the modules with tensors do not match, or None.

    A target is a module's whole name, or its last parts, as in PEFT.
    """
    if targets is None:
        return None
    ends = {module: set(_endings(module)) for module in modules}
    named = set(targets)
    if without := sorted(module for module, names in ends.items() if not names & named):
        return f"does not name {quoted(without[0])}, which has tensors"
    if unused := sorted(named.difference(*ends.values())):
        return f"names {quoted(unused[0])}, which has no tensors"
    return None


def _endings(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[at:]) for at in range(len(parts)))


def add_product(
    model: nn.Module, name: str, lora_a: Tensor, lora_b: Tensor, scale: float, path: Path
) -> None:
    """Replace the weights W of a linear module by W + scale * B A.

    Args:
        model: has the module.
        name: of the module.
        lora_a: A, [R, I].
        lora_b: B, [O, R].
        scale: the factor.
        path: the file of the matrices, for messages.

    Raises:
        CheckpointError: the matrices do not fit the module.
    """
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Linear):
        raise CheckpointError(
            f"{path}: {quoted(name)} is not a linear module of the base encoder: use the "
            "adapter with the base that it was trained on"
        )
    if (lora_b.shape[0], lora_a.shape[1]) != tuple(module.weight.shape):
        raise CheckpointError(
            f"{path}: B times A of {quoted(name)} has the shape "
            f"{[lora_b.shape[0], lora_a.shape[1]]}, the base's weights are "
            f"{list(module.weight.shape)}: use the adapter with the base it was trained on"
        )
    merged = with_product(module.weight.detach(), lora_a, lora_b, scale)
    if not bool(torch.isfinite(merged).all()):
        raise CheckpointError(
            f"{path}: {quoted(name)} makes weights that are not finite numbers: restore the "
            "adapter from a copy or train it again"
        )
    module.weight = nn.Parameter(merged, requires_grad=False)


def with_product(weight: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float) -> Tensor:
    """Return W + scale * B A in fp32: W [O, I], A [R, I], B [O, R]."""
    merged: Tensor = weight + scale * (lora_b.float() @ lora_a.float())
    return merged
