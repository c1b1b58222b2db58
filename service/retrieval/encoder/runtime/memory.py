"""The memory and the time that one text takes, by its length, and whether the longest one fits.

Attention runs in blocks: OpenVINO and PyTorch never hold the scores of all pairs of tokens, only
the mask of them. A few architectures compute attention step by step and do hold the scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.errors import MemoryShortError
from service.retrieval.hardware import free_bytes

VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
FILE_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}
# Values of a token that a layer holds at once at most: copies of the hidden state and of the
# intermediate state. An XLM-R of 24 layers and 1,024 dimensions took 110 kB a token, of 115 kB.
HIDDEN_COPIES, INTERMEDIATE_COPIES = 12, 4
# Bytes of a pair of tokens: the mask as truth values and as numbers.
MASK_BYTES = 5
# Architectures whose attention holds the scores, and the number of copies.
WITH_SCORES = {"mpnet", "deberta", "deberta-v2", "t5", "mt5", "umt5"}
SCORE_COPIES = 3
# Names of the same number in the configurations of different architectures.
HIDDEN = ("hidden_size", "d_model", "dim")
INTERMEDIATE = ("intermediate_size", "d_ff", "hidden_dim")
LAYERS = ("num_hidden_layers", "num_layers", "n_layers")
HEADS = ("num_attention_heads", "num_heads", "n_heads")
GIB = 2**30


@dataclass(frozen=True)
class TextCost:
    """What a text costs a transformer of this shape."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    holds_scores: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TextCost | None":
        """Read the shape from the content of a `config.json`; None if it does not tell it."""
        hidden, layers, heads = (_number(config, names) for names in (HIDDEN, LAYERS, HEADS))
        if not (hidden and layers and heads):
            return None
        intermediate = _number(config, INTERMEDIATE) or 4 * hidden
        return cls(hidden, intermediate, layers, heads, config.get("model_type") in WITH_SCORES)

    def num_bytes(self, num_tokens: int) -> int:
        """Return how many bytes a text takes at most, beside the weights.

        >>> TextCost(1024, 4096, 24, 16).num_bytes(8192) / 10**9
        1.275068416
        """
        values = HIDDEN_COPIES * self.hidden_size + INTERMEDIATE_COPIES * self.intermediate_size
        scores = 4 * SCORE_COPIES * self.num_heads if self.holds_scores else 0
        return 4 * values * num_tokens + (MASK_BYTES + scores) * num_tokens**2

    def seconds(self, num_tokens: int, sample_tokens: int, sample_seconds: float) -> float:
        """Predict the seconds of a text from those of a shorter one, by the number of products.

        >>> round(TextCost(1024, 4096, 24, 16).seconds(8192, 512, 1.0), 1)
        34.5
        """
        return sample_seconds * self.products(num_tokens) / self.products(sample_tokens)

    def longest_fitting(self, free: int, max_tokens: int) -> int:
        """Return the largest number of tokens, up to `max_tokens`, that `free` bytes hold."""
        low, high = 0, max_tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.num_bytes(middle) <= free else (low, middle - 1)
        return low

    def products(self, num_tokens: int) -> int:
        """Return the multiplications of a layer: its matrices, then the pairs of tokens."""
        matrices = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        return num_tokens * matrices + 2 * num_tokens**2 * self.hidden_size


def check_memory(
    layout: CheckpointLayout, device: str, precision: str, max_tokens: int, *, is_shared: bool
) -> None:
    """Check that the weights and the longest text fit in the memory that is free.

    Args:
        layout: the files of one side.
        device: `cpu` or a GPU.
        precision: of the weights in memory.
        max_tokens: tokens of the longest text.
        is_shared: whether the other side, loaded already, holds these weights.

    Raises:
        MemoryShortError: they do not fit.
    """
    cost = TextCost.of(layout.config)
    try:
        free = free_bytes(device)
    except MemoryShortError:  # the system does not tell
        return
    weights = 0 if is_shared else weight_bytes(layout, precision)
    text = cost.num_bytes(max_tokens) if cost else 0
    if weights + text <= free:
        return
    fitting = cost.longest_fitting(free - weights, max_tokens) if cost else 0
    fix = f"set CLEAR_MAX_TOKENS={fitting} or less, or " if fitting >= 8 else ""
    raise MemoryShortError(
        f"the encoder in {layout.transformer} needs {weights / GIB:.2f} GiB for its weights and "
        f"{text / GIB:.2f} GiB for a text of {max_tokens} tokens, but "
        f"{free / GIB:.2f} GiB are free on {device}: {fix}give it more memory, or name a smaller "
        "encoder"
    )


def weight_bytes(layout: CheckpointLayout, precision: str) -> int:
    """Return the size of a side's weights in memory."""
    stored = str(layout.config.get("dtype") or layout.config.get("torch_dtype")).rpartition(".")[2]
    num_weights = sum(path.stat().st_size for path in layout.weights) // FILE_BYTES.get(stored, 4)
    return num_weights * VALUE_BYTES[precision]


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    found = (config[name] for name in names if isinstance(config.get(name), int))
    return next(found, 0)
