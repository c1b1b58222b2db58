"""The head of an encoder: from token embeddings to unit-norm embeddings, in fp32.

B texts, L tokens, H hidden_dim, D embedding_dim.
"""

from collections.abc import Callable, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.modules.head import (
    DenseConfig,
    HeadModule,
    LayerNormConfig,
    check_inputs,
)
from service.retrieval.checkpoint.modules.pooling import Pooling
from service.retrieval.encoder.pooling import POOLING
from service.retrieval.errors import CheckpointError


class Dense(nn.Module):
    """A linear map, an activation and, if asked for, a residual connection around both."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.in_features, config.out_features, config.bias)
        self.activation_function = getattr(nn, config.activation_function)()
        self.residual: nn.Module | None = None
        if config.use_residual:
            is_square = config.in_features == config.out_features
            self.residual = (
                nn.Identity()
                if is_square
                else nn.Linear(config.in_features, config.out_features, bias=False)
            )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [B, in_features] to [B, out_features]."""
        mapped: Tensor = self.activation_function(self.linear(embeddings))
        return mapped if self.residual is None else mapped + self.residual(embeddings)


class LayerNorm(nn.Module):
    """A layer norm over an embedding."""

    def __init__(self, config: LayerNormConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dimension)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the normalized [B, D]."""
        normalized: Tensor = self.norm(embeddings)
        return normalized


class Normalize(nn.Module):
    """Scaling of an embedding to unit length."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the unit-norm [B, D]."""
        return nn.functional.normalize(embeddings, dim=-1)


class Head(nn.Module):
    """Pooling, the modules after it, truncation and unit norm."""

    def __init__(
        self,
        pooling: Pooling | None = None,
        modules: Sequence[nn.Module] = (),
        truncate_dim: int | None = None,
        described: Sequence[HeadModule] = (),
    ) -> None:
        """Join the parts.

        Args:
            pooling: its modes' results are concatenated; None is the mean.
            modules: run in order on the pooled embeddings.
            truncate_dim: number of leading values that are kept; None keeps all.
            described: the modules' files, for messages.
        """
        super().__init__()
        self.pooling = pooling or Pooling()
        self.truncate_dim = truncate_dim
        self._described = described
        self._pools: list[Callable[[Tensor, Tensor], Tensor]] = [
            POOLING[mode] for mode in self.pooling.modes
        ]
        self._after = nn.Sequential(*modules)

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the embeddings of a batch.

        Args:
            token_embeddings: last hidden states, [B, L, H], in any precision.
            attention_mask: as of a `PaddedBatch`, [B, L].

        Returns:
            [B, D], unit-norm fp32.
        """
        hidden = token_embeddings.float()
        attention_mask = (attention_mask == 1).to(attention_mask.dtype)
        pooled = [pool(hidden, attention_mask) for pool in self._pools]
        embeddings: Tensor = self._after(pooled[0] if len(pooled) == 1 else torch.cat(pooled, -1))
        return nn.functional.normalize(embeddings[..., : self.truncate_dim], dim=-1)

    def attended(self, attention_mask: Tensor) -> Tensor:
        """Return the mask that the transformer reads: 1 for a token that is not pooled, too."""
        return attention_mask.clamp(max=1)

    @torch.inference_mode()
    def output_dim(self, hidden_dim: int) -> int:
        """Return the length of an embedding that is made of hidden states of `hidden_dim`.

        Raises:
            CheckpointError: the first module takes another length.
        """
        check_inputs(self._described, hidden_dim * len(self._pools))
        device = next((each.device for each in self.parameters()), torch.device("cpu"))
        sample = torch.zeros(1, 1, hidden_dim, device=device)
        mask = torch.ones(1, 1, dtype=torch.int64, device=device)
        return int(self(sample, mask).shape[-1])


def load_head(layout: CheckpointLayout) -> Head:
    """Load the head that a layout describes.

    Raises:
        CheckpointError: the weights of a module are damaged or do not match its configuration.
    """
    described = layout.decisive_head
    modules = [_load_module(module) for module in described]
    head = Head(layout.pooling, modules, layout.truncate_dim, described)
    return head.eval().requires_grad_(False)


def _load_module(module: HeadModule) -> nn.Module:
    if isinstance(module.config, DenseConfig):
        loaded: nn.Module = Dense(module.config)
    elif isinstance(module.config, LayerNormConfig):
        loaded = LayerNorm(module.config)
    else:
        return Normalize()
    assert module.weights is not None
    try:
        state = {name: tensor.float() for name, tensor in load_file(module.weights).items()}
        loaded.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{module.weights} does not hold the weights of the {module.kind} that "
            f"{module.folder / 'config.json'} describes ({reason}): restore it from a copy"
        ) from None
    return loaded
