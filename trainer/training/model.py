"""The encoder in training: which parameters are trained, and its view as a serving encoder."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from transformers.utils import logging

from service.retrieval.checkpoint.adapter import without_adapter
from service.retrieval.checkpoint.locator import locate_encoder
from service.retrieval.checkpoint.peft.adapter import refuse_unmerged
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.defaults import BUNDLED_BASE
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.head import Head
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.hardware import multiplies_bf16
from trainer.config import EncoderConfig
from trainer.errors import ConfigError
from trainer.training.lora import add_lora, check_rank


@dataclass(frozen=True, eq=False)
class TrainableEncoder:
    """A model in training, the untrained base encoder, and the folder of that encoder."""

    model: SentenceTransformer
    base: Encoder
    directory: Path
    precision: Literal["fp32", "bf16"]

    @property
    def transformer(self) -> Any:
        """Return the transformer, without pooling."""
        return self.model[0].model

    @property
    def head(self) -> Head:
        """Return the base's pooling and the modules after it, which are not trained."""
        assert isinstance(self.base.runtime, TorchRuntime)
        return self.base.runtime.head

    def trained_tensors(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name."""
        named = self.transformer.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def serving_encoder(self) -> Encoder:
        """Return the current model as a serving encoder; the model leaves training mode."""
        encoder = copy.copy(self.base)
        encoder.runtime = AutocastRuntime(
            self.transformer, self.head, self.base.device, self.precision
        )
        return encoder


class AutocastRuntime(TorchRuntime):
    """A runtime that computes as training does, so that base and trained scores are comparable.

    Weights and sums are fp32; matrix products are bf16 if that is the precision of training.
    """

    def __init__(
        self, model: Any, head: Head, device: torch.device, precision: Literal["fp32", "bf16"]
    ) -> None:
        """Move the model to the device."""
        super().__init__(model, head, device)
        self._is_bf16 = precision == "bf16"
        self.name = f"torch-fp32-autocast-{precision}" if self._is_bf16 else self.name

    @classmethod
    def of(cls, runtime: TorchRuntime, precision: Literal["fp32", "bf16"]) -> "AutocastRuntime":
        """Return a runtime of another's model and head."""
        return cls(runtime._model, runtime.head, runtime.device, precision)

    def hidden_states(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the transformer's last hidden states, [B, L] to [B, L, H]; the head is fp32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_bf16):
            return super().hidden_states(token_ids, attention_mask)


class Truncate(nn.Module):
    """Keeps the leading values of an embedding, which are those that the service compares."""

    def __init__(self, dim: int) -> None:
        """Keep `dim` values."""
        super().__init__()
        self.dim = dim

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Truncate the embeddings, [B, D] to [B, dim]."""
        embeddings = features["sentence_embedding"]
        return features | {"sentence_embedding": embeddings[:, : self.dim]}


def load_trainable_encoder(
    config: EncoderConfig, cache: Path, device: str, precision: str, seed: int
) -> TrainableEncoder:
    """Load an encoder twice: unchanged as the base, and as a model to train.

    Raises:
        RetrievalError: the encoder is missing, altered or not supported.
        ConfigError: it cannot be trained as the configuration asks.
    """
    location = locate_encoder(config.name, cache)
    refuse_unmerged(location.adapter, ConfigError, "encoder.name: ")
    directory = location.directory
    _refuse_folder_of_transformers(directory)
    check_rank(config.lora_rank, read_layout(directory).config)
    base = load_encoder(
        config.name, cache=cache, device=device, max_tokens=config.max_tokens, cpu_engine="torch"
    )
    if base.has_two_sides:
        raise ConfigError(
            f"encoder.name: {config.name} has two sides: name an encoder that embeds queries and "
            f"passages alike, without an adapter, such as {BUNDLED_BASE}"
        )
    model = _load_model(directory, base.device)
    model.max_seq_length = config.max_tokens
    chosen = precision_of(precision, base.device)
    transformer: Any = model[0].model
    assert isinstance(base.runtime, TorchRuntime)
    head = base.runtime.head
    shared = {id(each): each for each in _untrained(transformer, config)}
    base.runtime = AutocastRuntime(copy.deepcopy(transformer, shared), head, base.device, chosen)
    if base.device.type == "cpu" and transformer.config._attn_implementation == "sdpa":
        # The backward pass of torch's fused attention takes half of a step on a CPU.
        transformer.set_attn_implementation("eager")
    set_dropout(model, config.dropout)
    if head.truncate_dim:
        model.append(Truncate(head.truncate_dim))
    model.requires_grad_(False)  # the modules after the transformer stay those of the base
    _choose_trained(transformer, config, seed)
    if config.gradient_checkpointing:
        _enable_gradient_checkpointing(transformer)
    return TrainableEncoder(model, base, directory, chosen)


def _refuse_folder_of_transformers(directory: Path) -> None:
    if not (directory / "modules.json").is_file():
        raise ConfigError(
            f"encoder.name: {directory} has no modules.json, so that its pooling is unknown: save "
            "it by sentence-transformers, with a Transformer and the Pooling that its author states"
        )


def _load_model(directory: Path, device: torch.device) -> SentenceTransformer:
    with without_adapter(directory) as folder, _quiet():
        model = SentenceTransformer(
            str(folder),
            device=str(device),
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    if not isinstance(model[0], Transformer):
        raise ConfigError(
            f"encoder.name: {directory} embeds by {type(model[0]).__name__}, which has no "
            "transformer to train: name another encoder"
        )
    return model


def set_dropout(model: nn.Module, share: float) -> None:
    """Set all dropout of a model; some transformers keep that of attention in a number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, share)


def _enable_gradient_checkpointing(transformer: Any) -> None:
    if not transformer.supports_gradient_checkpointing:
        raise ConfigError(
            f"encoder.gradient_checkpointing: {type(transformer).__name__} does not support it: "
            "set it to false; optimizer.micro_batch_rows saves memory, too"
        )
    transformer.gradient_checkpointing_enable({"use_reentrant": False})


def precision_of(name: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the training precision; `auto` is bf16 on devices that multiply in it, else fp32."""
    if name == "auto":
        if device.type == "cpu":
            has_bf16 = multiplies_bf16()
        else:
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_bf16 else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def _untrained(transformer: Any, config: EncoderConfig) -> list[nn.Parameter]:
    """Return the weights that training does not change, which the base can share."""
    if config.lora_rank:
        return list(transformer.parameters())
    if config.trains_word_embeddings:
        return []
    return list(transformer.get_input_embeddings().parameters())


def _choose_trained(transformer: Any, config: EncoderConfig, seed: int) -> None:
    """Train all weights or an adapter; never the pooler, which no embedding depends on."""
    transformer.requires_grad_(True)
    if config.lora_rank:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_lora(transformer, config.lora_rank, config.lora_scale)
    elif not config.trains_word_embeddings:
        transformer.get_input_embeddings().requires_grad_(False)
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler.requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable the progress bars of transformers."""
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bars:
            logging.enable_progress_bar()


def load_trained_tensors(trainable: TrainableEncoder, state: dict[str, Tensor]) -> None:
    """Set all trained parameters.

    Raises:
        ConfigError: the state has other names or shapes than the trained parameters.
    """
    trained = trainable.trained_tensors()
    own, other = ({(n, tuple(t.shape)) for n, t in each.items()} for each in (trained, state))
    if missing := sorted({name for name, _ in own ^ other}):
        raise ConfigError(
            f"{missing[0]} and {len(missing) - 1} more are not parameters that this run trains: "
            "name a new run directory"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])
