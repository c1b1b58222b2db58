"""The configuration of a training run, read from a TOML file; errors name file and field."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.retrieval.defaults import BUNDLED_BASE
from trainer.toml import FilePath, Positive, Section, Seed, Share, parse_section, read_toml


class EncoderConfig(Section):
    """The encoder that is trained, and which of its weights."""

    name: str = BUNDLED_BASE
    max_tokens: Annotated[int, Field(ge=16)] = 256
    dropout: Share = 0.0
    # Word embeddings are most of a multilingual encoder's weights and of the optimizer's state.
    trains_word_embeddings: bool = False
    gradient_checkpointing: bool = False
    lora_rank: Annotated[int, Field(ge=0)] = 0  # 0: train all weights
    lora_scale: Positive = 1.0


class DataConfig(Section):
    """The training rows, and how they are sampled and augmented."""

    rows: Annotated[list[FilePath], Field(min_length=1)]
    # How often an epoch repeats the rows of each file; 1 by default.
    shares: list[Positive] = []
    languages: list[str] = []  # all by default
    max_rows: Annotated[int, Field(ge=0)] = 0  # 0: all
    hard_negatives: Annotated[int, Field(ge=0)] = 0  # of each row
    mixing: Literal["mixed", "separate"] = "mixed"
    # Shares of the words of translated queries, to simulate poor translations.
    dropped_words: Share = 0.0
    shuffled_words: Share = 0.0
    # Share of rows that come again with the English query as the translated one; one, or one a file
    english_share: Share | list[Share] = 0.0
    # In a file, a language of n rows is sampled in proportion to n^(1/temperature); inf: equally.
    language_temperature: Annotated[float, Field(ge=1, allow_inf_nan=True)] = 1.0

    def english_share_of(self, number: int) -> float:
        """Return the share of English rows to add to a file's rows."""
        shares = self.english_share
        return shares[number] if isinstance(shares, list) else shares

    @model_validator(mode="after")
    def _shares_match(self) -> Self:
        if isinstance(self.english_share, list) and len(self.english_share) != len(self.rows):
            raise ValueError(
                f"{len(self.english_share)} english_share for {len(self.rows)} files of rows: "
                "give one each, or one number"
            )
        if self.shares and len(self.shares) != len(self.rows):
            raise ValueError(
                f"{len(self.shares)} shares for {len(self.rows)} files of rows: give one each"
            )
        return self


# The fields of `ObjectiveConfig` that only some objectives read.
OBJECTIVE_FIELDS = {
    "clear": {"reverse_weight", "kl_weight", "kl_direction", "kl_detach", "is_search_time"},
    "info_nce": {"info_nce_queries"},
    "frozen_bridge": {"cross", "kl", "anchor"},
}


def ignored_fields(name: str) -> set[str]:
    """Return the fields that an objective does not read, but another one does."""
    return set[str]().union(*OBJECTIVE_FIELDS.values()) - OBJECTIVE_FIELDS.get(name, set())


class ObjectiveConfig(Section):
    """The objective that is minimized."""

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
    # Weights of the frozen bridge's terms.
    cross: Annotated[float, Field(ge=0)] = 0.5
    kl: Annotated[float, Field(ge=0)] = 0.5
    anchor: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _weights_sum(self) -> Self:
        if self.reverse_weight + self.kl_weight > 1:
            raise ValueError("reverse_weight and kl_weight are over 1 together: lower one")
        return self

    @model_validator(mode="after")
    def _each_field_is_read(self) -> Self:
        if ignored := sorted(self.model_fields_set & ignored_fields(self.name)):
            raise ValueError(
                f"{', '.join(ignored)}: no effect on {self.name}: leave out what it does not read"
            )
        return self

    @property
    def reads_hard_queries(self) -> bool:
        """Return whether a hard negative passage needs a query that asks for it."""
        return self.name == "clear" and bool(self.reverse_weight or self.kl_weight)

    @property
    def untrained_columns(self) -> str:
        """Return the columns that `kl_detach` leaves without any gradient, or an empty text."""
        english = round(1 - self.reverse_weight - self.kl_weight, 12)
        other_weight = {"english": english, "translated": self.reverse_weight}.get(self.kl_detach)
        is_untrained = self.name == "clear" and self.kl_weight and other_weight == 0
        return f"the {self.kl_detach} queries" if is_untrained else ""

    @property
    def freezes_passages(self) -> bool:
        """Return whether passages keep the embeddings of the base model."""
        return self.name == "frozen_bridge"


class OptimizerConfig(Section):
    """The optimizer, its schedule and its batches."""

    steps: Annotated[int, Field(ge=1)] = 50
    batch_rows: Annotated[int, Field(ge=2)] = 64  # of one device
    # Texts of a forward pass of the cached loss; 0: plain loss; auto: the most that fits memory.
    micro_batch_rows: Annotated[int, Field(ge=0)] | Literal["auto"] = 0
    # The same in tokens, so that many short texts share a pass. Set at most one of the two.
    micro_batch_tokens: Annotated[int, Field(ge=0)] = 0
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0)] = 0.05  # below 1 a share of the steps, else a number
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_gradient_norm: Positive = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    is_deterministic: bool = False  # slower on a GPU; a CPU is deterministic anyway

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.micro_batch_rows and self.micro_batch_tokens:
            raise ValueError("micro_batch_rows and micro_batch_tokens are both set: leave one out")
        return self

    @property
    def warmup_steps(self) -> float:
        """Return the warmup of the schedule; the only step of a run would have the rate 0."""
        return self.warmup if self.steps > 1 else 0


class DevConfig(Section):
    """Evaluation during training, and what its scores decide."""

    # Evaluation sets, as `clear-trainer import` writes them.
    sets: list[FilePath] = []
    every_steps: Annotated[int, Field(ge=1)] = 20
    patience: Annotated[int, Field(ge=0)] = 0  # evaluations without a gain; 0: no early stopping
    keeps_best: bool = True
    english_margin: Annotated[float, Field(ge=0)] = 0.005
    worst_language_weight: Annotated[float, Field(ge=0)] = 0.0  # of its loss, off a score
    max_queries: Annotated[int, Field(ge=0)] = 0  # of a language; 0: all


class RunConfig(Section):
    """The configuration of a training run."""

    seed: Seed = 0
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    data: DataConfig
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    dev: DevConfig = Field(default_factory=DevConfig)
    # Where the best weights are kept, a checkpoint is saved at each evaluation instead.
    checkpoint_steps: Annotated[int, Field(ge=1)] = 20
    tensorboard: bool = False

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.objective.freezes_passages and self.data.hard_negatives:
            raise ValueError("data.hard_negatives: no effect on frozen_bridge: leave it out")
        if self.encoder.lora_rank and self.encoder.trains_word_embeddings:
            raise ValueError("encoder.trains_word_embeddings: no effect on an adapter: omit it")
        is_cached = self.optimizer.micro_batch_rows or self.optimizer.micro_batch_tokens
        if is_cached and (columns := self.objective.untrained_columns):
            raise ValueError(
                f"objective.kl_detach = {self.objective.kl_detach!r} leaves {columns} without a "
                "gradient, which the cached form needs: leave out optimizer.micro_batch_rows and "
                "micro_batch_tokens, or give these queries a term of their own"
            )
        return self


def read_config(path: Path) -> RunConfig:
    """Read a configuration; its paths are relative to the file's folder.

    Raises:
        ConfigError: the file is missing or not valid TOML, or a field is unknown or not valid.
    """
    return parse_config(read_toml(path), path)


def parse_config(content: dict[str, object], path: Path) -> RunConfig:
    """Validate the content of a configuration file.

    Raises:
        ConfigError: fields are unknown or not valid; the message names the file and the fields.
    """
    config = parse_section(RunConfig, content, path)
    return config.model_copy(
        update={
            "data": _relative(config.data, path, "rows"),
            "dev": _relative(config.dev, path, "sets"),
        }
    )


def _relative(section: Section, path: Path, *names: str) -> Section:
    """Resolve paths of a section against the file's folder."""
    paths = {name: [path.parent / each for each in getattr(section, name)] for name in names}
    return section.model_copy(update=paths)
