"""What a training run is told, from a TOML file; a wrong field is named with its file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.retrieval.defaults import BUNDLED_BASE
from trainer.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the file: no unknown field, nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(Section):
    """What is trained."""

    name: str = BUNDLED_BASE
    max_tokens: Annotated[int, Field(ge=16)] = 256
    dropout: Share = 0.0
    # The word embeddings are most of a multilingual encoder, and nearly all of its optimiser.
    trains_word_embeddings: bool = False
    gradient_checkpointing: bool = False
    lora_rank: Annotated[int, Field(ge=0)] = 0  # 0: all weights learn
    lora_scale: Positive = 1.0


class DataConfig(Section):
    """What it is trained on."""

    rows: Annotated[list[Path], Field(min_length=1)]
    # How often an epoch shows each file's rows; 1 for all where left out.
    shares: list[Positive] = []
    languages: list[str] = []  # all where left out
    max_rows: Annotated[int, Field(ge=0)] = 0  # 0: all
    hard_negatives: Annotated[int, Field(ge=0)] = 0  # of each row's, so many
    mixing: Literal["mixed", "separate"] = "mixed"
    # Of the translated queries' words, to stand for poor translations.
    dropped_words: Share = 0.0
    shuffled_words: Share = 0.0
    # English queries as further "translated" ones: the share of rows that also come so.
    english_share: Share = 0.0

    @model_validator(mode="after")
    def _shares_match(self) -> Self:
        if self.shares and len(self.shares) != len(self.rows):
            raise ValueError(f"{len(self.shares)} shares for {len(self.rows)} files of rows")
        return self


class ObjectiveConfig(Section):
    """What it minimises."""

    name: Literal["clear", "info_nce", "frozen_bridge"] = "clear"
    temperature: Positive | Literal["matched"] = 0.05
    reverse_weight: Share = 0.4  # alpha
    kl_weight: Share = 0.2  # beta
    kl_direction: Literal["published", "opposite", "jsd"] = "published"
    kl_detach: Literal["none", "english", "translated"] = "none"
    is_search_time: bool = False
    info_nce_queries: Literal["english", "translated", "both"] = "translated"
    masks_false_negatives: bool = True
    gathers: bool = True
    # Of the frozen bridge.
    cross: Annotated[float, Field(ge=0)] = 0.5
    kl: Annotated[float, Field(ge=0)] = 0.5
    anchor: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _weights_sum(self) -> Self:
        if self.reverse_weight + self.kl_weight > 1:
            raise ValueError("reverse_weight and kl_weight are over 1 together")
        return self

    @property
    def freezes_passages(self) -> bool:
        """Return whether passages keep the embeddings of the base model."""
        return self.name == "frozen_bridge"


class OptimizerConfig(Section):
    """How it is minimised."""

    steps: Annotated[int, Field(ge=1)] = 50
    batch_rows: Annotated[int, Field(ge=2)] = 64  # of one device
    # Texts of a forward pass of the cached form; 0: plain; auto: probe for the most that fits.
    micro_batch_rows: Annotated[int, Field(ge=0)] | Literal["auto"] = 0
    # The same by tokens: many short texts share a pass, few long ones do. One of the two.
    micro_batch_tokens: Annotated[int, Field(ge=0)] = 0
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0)] = 0.05  # below 1 a share of the steps, else steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_gradient_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    is_deterministic: bool = False  # slower on a GPU; a CPU repeats itself anyway

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.micro_batch_rows and self.micro_batch_tokens:
            raise ValueError("micro_batch_rows and micro_batch_tokens are both set: leave one out")
        return self


class DevConfig(Section):
    """What is measured while training, and what it decides."""

    # Evaluation sets, as `clear-trainer import` writes them.
    sets: list[Path] = []
    every_steps: Annotated[int, Field(ge=1)] = 20
    patience: Annotated[int, Field(ge=0)] = 0  # evaluations without a gain; 0: never stop early
    keeps_best: bool = True
    english_margin: Annotated[float, Field(ge=0)] = 0.005
    max_queries: Annotated[int, Field(ge=0)] = 0  # of a language; 0: all


class RunConfig(Section):
    """A training run."""

    seed: int = 0
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    data: DataConfig
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    dev: DevConfig = Field(default_factory=DevConfig)
    # Where the best evaluation is kept, each evaluation is a checkpoint instead.
    checkpoint_steps: Annotated[int, Field(ge=1)] = 20
    tensorboard: bool = False


def read_config(path: Path) -> RunConfig:
    """Read a configuration; its paths are relative to its own folder.

    Raises:
        ConfigError: the file is missing, no TOML, or a field is unknown or of the wrong kind.
    """
    return parse_config(read_toml(path), path)


def read_toml(path: Path) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        ConfigError: it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse_config(content: dict[str, object], path: Path) -> RunConfig:
    """Check a configuration.

    Raises:
        ConfigError: naming the file and the fields.
    """
    try:
        config = RunConfig.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"{path}: {faults}") from None
    return config.model_copy(
        update={
            "data": _relative(config.data, path, "rows"),
            "dev": _relative(config.dev, path, "sets"),
        }
    )


def _relative(section: Section, path: Path, *names: str) -> Section:
    """Take a section's paths as seen from the file's folder."""
    paths = {name: [path.parent / each for each in getattr(section, name)] for name in names}
    return section.model_copy(update=paths)
