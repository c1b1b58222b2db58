"""Padding-free attention (varlen) against buckets and graphs: the same texts and weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.encoder.batches import token_batches
from service.retrieval.encoder.runtime.cuda.runtime import MAX_BATCH_TOKENS
from service.settings.settings import load_settings
from tests.gpu.material import encoder_of, seconds_of, texts
from tests.gpu.step import Machine, Result

LEAST_COSINE = 0.999


class PackedBert:
    """A BERT in half precision that reads texts one after another, without padding or graphs."""

    def __init__(self, machine: Machine) -> None:
        """Load the bundled encoder's passage side."""
        from transformers import BertModel

        folder = bundled_checkpoint(load_settings().cache)
        precision = torch.float32 if machine.is_dry else torch.bfloat16
        self._model: Any = BertModel.from_pretrained(folder).to(machine.device, precision).eval()
        self._num_heads = self._model.config.num_attention_heads
        self._device = machine.device

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Embed B texts, [B, D], unit norm."""
        lengths = torch.tensor([len(each) for each in token_ids])
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        places = torch.arange(len(rows)) - ends[rows]
        packed = torch.tensor([token for each in token_ids for token in each])
        packed, places, rows, on_device = (
            each.to(self._device, non_blocking=True) for each in (packed, places, rows, ends)
        )
        hidden = self._model.embeddings(packed[None], position_ids=places[None])[0]
        for layer in self._model.encoder.layer:
            hidden = self._layer(layer, hidden, ends, on_device, int(lengths.max()))
        sums = torch.zeros(len(lengths), hidden.shape[1], device=self._device)
        sums.index_add_(0, rows, hidden.float())
        return normalize(sums)  # of sums and of means

    def _layer(self, layer: Any, hidden: Tensor, ends: Tensor, there: Tensor, most: int) -> Tensor:
        attention = layer.attention
        query, key, value = (
            each(hidden).view(len(hidden), self._num_heads, -1)
            for each in (attention.self.query, attention.self.key, attention.self.value)
        )
        if query.is_cuda:
            from torch.nn.attention.varlen import varlen_attn

            mixed = varlen_attn(query, key, value, there, there, most, most)
        else:  # there is no such kernel
            lengths = ends.diff().tolist()
            parts = zip(*(each.split(lengths) for each in (query, key, value)), strict=True)
            mixed = torch.cat([_attend(*part) for part in parts])
        hidden = attention.output.LayerNorm(attention.output.dense(mixed.flatten(1)) + hidden)
        inner = gelu(layer.intermediate.dense(hidden))
        return layer.output.LayerNorm(layer.output.dense(inner) + hidden)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within one text, [L, heads, D]."""
    whole = (each.transpose(0, 1)[None] for each in (query, key, value))
    return scaled_dot_product_attention(*whole)[0].transpose(0, 1)


def varlen(machine: Machine) -> Result:
    """Compare embeddings and tokens a second, by the number of texts of a batch."""
    encoder, packed = encoder_of(machine), PackedBert(machine)
    given = encoder.tokenize(texts(machine.size(8192, 8)), "passage")
    lengths = [len(each.token_ids) for each in given]
    found: dict[str, Any] = {}
    cosines: list[float] = []
    sizes = [size for size in (1, 8, 64, 512) if size <= len(given)]
    batches = token_batches(lengths, MAX_BATCH_TOKENS)
    bulk = batches[len(batches) // 2]
    for name, rows in [*((f"batch_{size}", range(size)) for size in sizes), ("bulk", bulk)]:
        batch = [given[row] for row in rows]
        padded, ids = encoder.pad(batch), [each.token_ids for each in batch]
        pair = encoder.embed(padded).float().cpu().numpy(), packed.embed(ids).cpu().numpy()
        cosines += np.sum(pair[0] * pair[1], axis=1).tolist()
        num_tokens = sum(map(len, ids))
        buckets = num_tokens / seconds_of(machine, lambda: encoder.embed(padded))  # noqa: B023
        free = num_tokens / seconds_of(machine, lambda: packed.embed(ids))  # noqa: B023
        found[name] = {
            "texts": len(batch),
            "padded_share": 1 - num_tokens / padded.token_ids.size,
            "buckets_tokens_per_second": buckets,
            "varlen_tokens_per_second": free,
            "varlen_times": free / buckets,
        }
    fails = [f"varlen: cosine {min(cosines)}"] if min(cosines) < LEAST_COSINE else []
    return {"runtime": encoder.runtime.name, "least_cosine": min(cosines), **found, "fails": fails}
