"""Low-rank adapters (LoRA) of a transformer's linear layers: W + scale B A.

The layers are the project's own and not those of peft, so that resumption is exact and a merged
layer is a plain linear layer again.

Source: Hu et al. 2021, section 4.1.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trainer.errors import ConfigError

# What architectures call the size of their hidden states in `config.json`.
HIDDEN_SIZES = ("hidden_size", "d_model", "dim", "n_embd")


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

    @property
    def weight(self) -> Tensor:
        """Return the base's weight: some transformers ask a layer for its data type."""
        return self.base.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute W x + b + scale B A x."""
        low = nn.functional.linear(hidden, self.lora_a)
        adapted: Tensor = self.base(hidden) + nn.functional.linear(low, self.lora_b) * self.scale
        return adapted


def add_lora(transformer: nn.Module, rank: int, scale: float) -> None:
    """Freeze a transformer and add an adapter to each linear layer of its blocks.

    Raises:
        ConfigError: its blocks have no linear layers.
    """
    transformer.requires_grad_(False)
    names = [name for name, module in _block_modules(transformer) if isinstance(module, nn.Linear)]
    if not names:
        kinds = ", ".join(sorted(set(matrices_without_adapter(transformer).values())))
        raise ConfigError(
            f"encoder.lora_rank: the blocks of {type(transformer).__name__} have no linear layers "
            f"that could take an adapter{f', only {kinds}' if kinds else ''}: set lora_rank to 0, "
            "which trains all weights"
        )
    for name in names:
        layer = LoraLinear(transformer.get_submodule(name), rank, scale)  # type: ignore[arg-type]
        transformer.set_submodule(name, layer)


def check_rank(rank: int, config: Mapping[str, object]) -> None:
    """Refuse a rank over the hidden size of an encoder, which is as good as its full rank.

    Args:
        rank: of the adapter.
        config: the content of the encoder's `config.json`.

    Raises:
        ConfigError: naming the field and the hidden size.
    """
    size = next((config[name] for name in HIDDEN_SIZES if name in config), None)
    if isinstance(size, int) and rank > size:
        raise ConfigError(
            f"encoder.lora_rank: {rank} is over {size}, the hidden size of the encoder: lower it"
        )


def matrices_without_adapter(transformer: nn.Module) -> dict[str, str]:
    """Return the matrices of a transformer's blocks that `add_lora` leaves as they are.

    An example is the experts of a mixture, which share one tensor, or GPT-2's `Conv1D`.

    Returns:
        The class of the module that holds a matrix, by the parameter's name.
    """
    return {
        f"{name}.{parameter_name}": type(module).__name__
        for name, module in _block_modules(transformer)
        if not isinstance(module, nn.Linear | LoraLinear | nn.Embedding)
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1
    }


def _block_modules(transformer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules inside a transformer's blocks, which every architecture keeps in a list.

    Embeddings, their projection and the pooler are outside of it.
    """
    blocks: tuple[str, ...] = ()
    for name, module in transformer.named_modules():
        if name.startswith(blocks):
            yield name, module
        elif isinstance(module, nn.ModuleList):
            blocks += (f"{name}.",)


def lora_layers(transformer: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with their module paths."""
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def merge_lora(transformer: nn.Module, share: float = 1.0) -> None:
    """Add a share of each difference to its base weight and restore the plain layers."""
    for name, layer in list(lora_layers(transformer)):
        with torch.no_grad():
            difference = share * layer.scale * (layer.lora_b @ layer.lora_a)
            # Not in place: the untrained base shares the weight.
            layer.base.weight = nn.Parameter(layer.base.weight + difference, requires_grad=False)
        transformer.set_submodule(name, layer.base)
