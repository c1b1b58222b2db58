"""Low-rank adapters (LoRA) of a transformer's linear layers: W + scale B A.

The layers are the project's own and not those of peft, so that resumption is exact and a merged
layer is a plain linear layer again.

Source: Hu et al. 2021, section 4.1.
"""

import math
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

# All linear layers of a BERT-like block: query, key, value and the three dense ones.
BLOCK_LINEAR = r"encoder\.layer\.\d+\..*"


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained difference of rank r."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        """Initialize the difference to zero: A is random, B is zero."""
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = scale
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute W x + b + scale B A x."""
        low = nn.functional.linear(hidden, self.lora_a)
        adapted: Tensor = self.base(hidden) + nn.functional.linear(low, self.lora_b) * self.scale
        return adapted


def add_lora(transformer: nn.Module, rank: int, scale: float, pattern: str = BLOCK_LINEAR) -> None:
    """Freeze a transformer and add an adapter to each linear layer whose path matches.

    Raises:
        ValueError: no layer matches.
    """
    transformer.requires_grad_(False)
    names = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name)
    ]
    if not names:
        raise ValueError(f"no linear layer of the transformer matches {pattern!r}")
    for name in names:
        parent, _, child = name.rpartition(".")
        layer = LoraLinear(transformer.get_submodule(name), rank, scale)  # type: ignore[arg-type]
        setattr(transformer.get_submodule(parent), child, layer)


def lora_layers(transformer: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with their module paths."""
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def merge_lora(transformer: nn.Module, share: float = 1.0) -> None:
    """Add a share of each difference to its base weight and restore the plain layers."""
    for name, layer in list(lora_layers(transformer)):
        with torch.no_grad():
            layer.base.weight += share * layer.scale * (layer.lora_b @ layer.lora_a)
        parent, _, child = name.rpartition(".")
        setattr(transformer.get_submodule(parent), child, layer.base)
