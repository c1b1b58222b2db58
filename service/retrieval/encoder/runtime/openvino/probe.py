"""The probe: fixed texts and their fp32 reference embeddings, which a fast runtime must match.

The export computes the reference and stores it with the graph, so that a start can check a runtime
without loading PyTorch's model.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from torch import Tensor

from service.retrieval.encoder.batches import MAX_TRIAL_TOKENS
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.errors import CheckpointError, WeightsError
from service.retrieval.unit_vectors import are_unit

logger = logging.getLogger(__name__)
FILE_NAME = "probe.safetensors"
TEXTS = (
    "",
    "tea",
    "how much protein should a female eat",
    "Je, mwanamke anapaswa kula protini kiasi gani?",
    "Wie viel Eiweiß sollte eine Frau am Tag zu sich nehmen?",
    "¿Cuántas proteínas debe comer una mujer?",
    "Phụ nữ nên ăn bao nhiêu protein mỗi ngày?",
    "Сколько белка должна есть женщина?",
    "كم من البروتين يجب أن تأكل المرأة؟",
    "एक महिला को कितना प्रोटीन खाना चाहिए?",
    "একজন মহিলার কতটা প্রোটিন খাওয়া উচিত?",
    "స్త్రీ ఎంత ప్రోటీన్ తినాలి?",
    "女性应该吃多少蛋白质？",
    "女性はどのくらいのタンパク質を摂るべきですか\N{FULLWIDTH QUESTION MARK}",
    "1,234.56 kg = 2,721.6 lb; E = mc\N{SUPERSCRIPT TWO} \N{RICE BALL}",
)
LONG_TEXT = "Nairobi ist die Hauptstadt; القاهرة عاصمة مصر; 東京は日本の首都です. "


# Lowest cosine to fp32 PyTorch, and largest difference of a component. In fp32 another order of
# summation changes a component by about 1e-6. The bundled encoder's lowest cosine on 9,520 queries
# is .99993 in bf16 and .9993 in int8; a wrong mask or layer gives far lower cosines.
BOUNDS = {"fp32": (0.99999, 1e-4), "bf16": (0.999, 2.0), "int8": (0.99, 2.0)}


@dataclass(frozen=True)
class ProbeBatch:
    """One padded batch, [B, L], with its reference embeddings, [B, D]."""

    token_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    embeddings: NDArray[np.float32]

    def within(self, max_tokens: int) -> "ProbeBatch":
        """Return the texts of at most `max_tokens`; there may be none."""
        lengths = self.attention_mask.sum(axis=1)
        rows = lengths <= max_tokens
        longest = int(lengths[rows].max(initial=0))
        return ProbeBatch(
            self.token_ids[rows, :longest],
            self.attention_mask[rows, :longest],
            self.embeddings[rows],
        )

    def over(self, num_tokens: int) -> "ProbeBatch":
        """Return the texts as often as makes a batch of more than so many tokens."""
        times = 1 + num_tokens // max(1, self.token_ids.size)
        return ProbeBatch(
            np.tile(self.token_ids, (times, 1)),
            np.tile(self.attention_mask, (times, 1)),
            np.tile(self.embeddings, (times, 1)),
        )


def write_probe(
    directory: Path, reference: Runtime, tokenizer: Tokenizer, max_tokens: int, pad_id: int
) -> None:
    """Embed the fixed texts, short ones in one batch and a long one, and keep both.

    Args:
        directory: where the file is written.
        reference: computes the embeddings.
        tokenizer: its padding and truncation are set here.
        max_tokens: the encoder's own limit; the long text has at most `MAX_TRIAL_TOKENS`.
        pad_id: id of the padding token.
    """
    max_tokens = min(max_tokens, MAX_TRIAL_TOKENS)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    short = [tokenizer.encode(text).ids for text in TEXTS]
    longest = [tokenizer.encode(LONG_TEXT * max_tokens).ids]
    arrays = {}
    for name, token_ids in {"short": short, "long": longest}.items():
        length = max(map(len, token_ids))
        padded = np.full((len(token_ids), length), pad_id, dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, ids in enumerate(token_ids):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        arrays[f"{name}.token_ids"] = padded
        arrays[f"{name}.attention_mask"] = mask
        arrays[f"{name}.embeddings"] = reference.embed(padded, mask).cpu().numpy()
    save_file(arrays, directory / FILE_NAME)


def read_probe(directory: Path) -> Iterator[ProbeBatch]:
    """Read the probe's batches.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = directory / FILE_NAME
    try:
        with safe_open(path, framework="np") as file:
            for name in ("short", "long"):
                yield ProbeBatch(
                    file.get_tensor(f"{name}.token_ids"),
                    file.get_tensor(f"{name}.attention_mask"),
                    file.get_tensor(f"{name}.embeddings"),
                )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): remove its folder") from None


def check_runtime(
    runtime: Runtime, directory: Path, precision: str, max_tokens: int = MAX_TRIAL_TOKENS
) -> None:
    """Check a runtime against the reference on the fixed texts.

    A text whose reference is no unit vector is not compared: the encoder is at fault there, not
    the runtime.

    Args:
        runtime: embeds the texts.
        directory: holds the probe.
        precision: selects the tolerance.
        max_tokens: longer texts are left out, as are those over `MAX_TRIAL_TOKENS`.

    Raises:
        CheckpointError: an embedding differs by more than the precision explains.
        WeightsError: no text has a reference.
    """
    min_cosine, max_difference = BOUNDS[precision]
    batches = list(read_probe(directory))
    _check_reference(batches)
    limit = min(max_tokens, MAX_TRIAL_TOKENS)
    checked = [batch.within(limit) for batch in batches]
    # A runtime may compute a large batch by another graph, and on many cores this one is small.
    for batch in (*checked, checked[0].over(MAX_TRIAL_TOKENS)):
        is_valid = are_unit(batch.embeddings)
        if not is_valid.any():
            continue
        found = runtime.embed(batch.token_ids, batch.attention_mask).cpu()[is_valid]
        cosine, difference = compare(found, torch.from_numpy(batch.embeddings[is_valid]))
        # NaN must fail, too.
        if not (cosine >= min_cosine and difference <= max_difference):
            raise CheckpointError(
                f"the runtime {runtime.name} is wrong on this machine: on fixed texts its cosine "
                f"to fp32 torch is {cosine:.5f} (at least {min_cosine}), its difference "
                f"{difference:.1e} (at most {max_difference:.0e}): "
                "set CLEAR_CPU_ENGINE=torch and CLEAR_PRECISION=fp32"
            )


def _check_reference(batches: Sequence[ProbeBatch]) -> None:
    """Check that torch in fp32 has a unit vector for some of the fixed texts; warn of others."""
    is_valid = np.concatenate([are_unit(batch.embeddings) for batch in batches])
    if not is_valid.any():
        raise WeightsError(
            "the encoder gives NaN, infinity or zero for every probe text, also by torch in fp32: "
            "its weights are damaged; restore the checkpoint, or name another encoder"
        )
    if not is_valid.all():
        logger.warning(
            "the encoder gives NaN, infinity or zero for %d of %d probe texts, also by torch in "
            "fp32: requests with such texts will fail, and builds stop at such passages",
            *(int((~is_valid).sum()), len(is_valid)),
        )


def compare(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the lowest cosine and the largest difference of a component of two arrays [B, D]."""
    cosine = (found * expected).sum(dim=-1).min()
    return float(cosine), float((found - expected).abs().max())
