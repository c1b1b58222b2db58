"""A query-side adapter: low-rank changes of a base encoder's weights (LoRA), and their merge.

`adapter_files` describes, reads and writes its files.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from service.retrieval.checkpoint.lora import (
    Finite,
    LoraConfig,
    Pairs,
    Rank,
    add_product,
    target_violation,
)
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.language_quality import LanguageRecord
from service.retrieval.storage import artifact
from service.retrieval.storage.schema import Document, JsonText, OptionalSha256

DESCRIPTION = "adapter.json"
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OLD_WEIGHTS = "adapter.safetensors"
ADAPTER_FILES = (DESCRIPTION, PEFT_CONFIG, PEFT_WEIGHTS, OLD_WEIGHTS)

# The fields that are not facts: parameters of `write_adapter`, or computed, in either layout, or
# true of these weights alone.
COMPUTED_FIELDS = {
    *("base", "base_fingerprint", "format_version", "passage_fingerprint", "rank", "scale"),
    *("side", "weights_sha256", "languages"),
}
Fingerprint = Annotated[JsonText, Field(min_length=1)]


class AdapterDescription(Document):
    """The fields of `adapter.json` that are read; the training record is kept beside them."""

    format_version: int
    side: Literal["query"]
    base_fingerprint: Fingerprint
    passage_fingerprint: Fingerprint
    base: JsonText | None = None
    name: JsonText | None = None
    license: JsonText | None = None
    base_model: JsonText | None = None
    weights_sha256: OptionalSha256 = None
    languages: LanguageRecord | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts that `write_adapter` was given, such as the training record."""
        return self.model_dump(exclude=COMPUTED_FIELDS, exclude_unset=True)


class OldAdapterDescription(AdapterDescription):
    """The older `adapter.json`, which holds rank and scale."""

    rank: Rank
    scale: Finite


class OwnPeftConfig(LoraConfig):
    """The fields of `adapter_config.json` in an adapter of this project, beside `adapter.json`."""

    use_rslora: Literal[False] = False
    rank_pattern: Annotated[dict[str, int], Field(max_length=0)] = {}
    alpha_pattern: Annotated[dict[str, float], Field(max_length=0)] = {}
    target_modules: list[JsonText] | None = None

    @property
    def scale(self) -> float:
        """Return the factor of B A, as PEFT defines it."""
        return self.lora_alpha / self.r

    def target_violation(self, modules: Iterable[str]) -> str | None:
        """Return which of `target_modules` and the modules with tensors do not match, or None."""
        return target_violation(self.target_modules, modules)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A checked adapter.

    `pairs` holds A [R, I] and B [O, R] by the module that they change, `weights` is their file.
    """

    weights: Path
    description: AdapterDescription
    scale: float
    pairs: Pairs
    weights_sha256: str

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of the base's parameters that merging changes."""
        return frozenset(f"{name}.weight" for name in self.pairs)


def is_adapter(directory: Path) -> bool:
    """Return whether a folder holds an adapter.

    Raises:
        CheckpointError: it holds an adapter's files without their description.
    """
    refuse_undescribed_adapter(directory)
    return (directory / DESCRIPTION).is_file()


def refuse_undescribed_adapter(directory: Path) -> None:
    """Refuse an adapter's weights without a description: the plain base would be loaded silently.

    Raises:
        CheckpointError: naming the file that is missing.
    """
    described = [name for name in (DESCRIPTION, PEFT_CONFIG) if (directory / name).is_file()]
    found = [name for name in (PEFT_WEIGHTS, OLD_WEIGHTS) if (directory / name).is_file()]
    if found and not described:
        missing = directory / (PEFT_CONFIG if found[0] == PEFT_WEIGHTS else DESCRIPTION)
        raise CheckpointError(
            f"{missing} is missing beside {found[0]}: restore it from a copy of the adapter, or "
            "train the adapter again"
        )
    if described == [PEFT_CONFIG] and OLD_WEIGHTS in found:
        raise CheckpointError(
            f"{directory / DESCRIPTION} is missing beside {OLD_WEIGHTS}: restore it from a copy "
            "of the adapter, or train the adapter again"
        )


def check_base(adapter: Adapter, fingerprint: str, passage_fingerprint: str, base: str) -> None:
    """Refuse a base that the adapter was not trained on.

    Args:
        adapter: of a base encoder.
        fingerprint: of the base's queries.
        passage_fingerprint: of the base's passages.
        base: the base's name in messages.

    Raises:
        CheckpointError: naming both fingerprints.
    """
    description = adapter.description
    for field, stated, found in (
        ("base_fingerprint", description.base_fingerprint, fingerprint),
        ("passage_fingerprint", description.passage_fingerprint, passage_fingerprint),
    ):
        if stated != found:
            raise CheckpointError(
                f"{adapter.weights.parent / DESCRIPTION}: `{field}` is {quoted(stated[:16])}, "
                f"the encoder {base} has {found[:16]}: "
                "name the base that it was trained on as `base`, or train it again"
            )


def merge_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Add each pair's product to its module's weights: W + scale * B A.

    The tensors of the base are not changed in place; modules without a pair keep theirs.

    Args:
        model: the base in fp32, which has the modules that `adapter` names.
        adapter: of that base.

    Raises:
        CheckpointError: naming the tensor that does not fit the model.

    Source: Hu et al. 2021 (arXiv 2106.09685), equation 3.
    """
    for name, (lora_a, lora_b) in adapter.pairs.items():
        add_product(model, name, lora_a, lora_b, adapter.scale, adapter.weights)


@contextmanager
def without_adapter(directory: Path) -> Iterator[Path]:
    """Yield a folder with a checkpoint's files but without its adapter.

    If `peft` is installed, transformers and sentence-transformers apply an adapter that is in the
    folder of the weights; its change would be made twice.
    """
    if not (directory / PEFT_CONFIG).is_file():
        yield directory
        return
    others = [path for path in directory.iterdir() if path.name not in ADAPTER_FILES]
    with artifact.temporary_links(others) as temporary:
        yield temporary
