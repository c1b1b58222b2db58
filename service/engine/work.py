"""The program of a batch: pad, encode, search; embeddings stay on the device."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from service.batching.program import Fault, Limits, Program
from service.batching.request import Lane
from service.errors import InvalidEmbeddingError, RequestError
from service.retrieval.corpus.filters import Filter
from service.retrieval.encoder.batches import MAX_TRIAL_TOKENS, PaddedBatch, Role, TokenizedText
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.on_demand import is_loaded
from service.retrieval.errors import FIX
from service.retrieval.index.backend import Ranking
from service.retrieval.searcher import Searcher
from service.retrieval.unit_vectors import is_unit
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)
PROBE_TEXT = "probe"
MEMORY_WORDS = (
    *("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed"),
    "memory allocation error",  # of FAISS on a GPU, where it is built with cuVS
)
DEVICE_WORDS = ("cuda error", "cublas", "cudnn error", "device-side assert", "nvml")


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One text of a batch: without a searcher it is only encoded; a known embedding is searched.

    An item with a padded batch stands for its texts, which run together and with no others.
    All texts of a request use the searcher that was live when the request came; `position` is that
    of the text in its request.
    """

    text: TokenizedText
    searcher: Searcher | None = None
    top_k: int = 0
    embedding: Tensor | None = None
    filter: Filter | None = None
    position: int = 0
    padded: PaddedBatch | None = None

    @classmethod
    def all_of(
        cls,
        texts: Sequence[TokenizedText],
        searcher: Searcher | None = None,
        top_k: int = 0,
        filter: Filter | None = None,
    ) -> list["BatchItem"]:
        """Return the items of a request's texts, each with its position."""
        return [
            cls(text, searcher, top_k, filter=filter, position=position)
            for position, text in enumerate(texts)
        ]

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens to encode; 1 if the embedding is known."""
        if self.padded is not None:
            return self.padded.token_ids.size
        return len(self.text.token_ids) if self.embedding is None else 1


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The embedding and ranking of one text, and the stage times of its whole batch."""

    embedding: Tensor  # [D], on the device; of a padded batch [B, D]
    ranking: Ranking | None
    encode_seconds: float
    search_seconds: float


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch whose texts are padded for the device."""

    items: list[BatchItem]
    padded: PaddedBatch | None


class SearchProgram(Program[BatchItem, PreparedBatch, BatchResult]):
    """Encodes the texts of a batch and searches each one in its request's index generation."""

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        """Use one encoder for all batches, and count them in `metrics`."""
        self._encoder = encoder
        self._metrics = metrics

    @property
    def num_slots(self) -> int:
        """Return how many batches the encoder's device runs at once."""
        return self._encoder.num_slots

    def num_tokens(self, payload: BatchItem) -> int:
        """Return the number of tokens to encode; 1 if the embedding is known."""
        return payload.num_tokens

    def kind(self, payload: BatchItem) -> object:
        """Return the side of the encoder that encodes a text; a batch uses one side."""
        return payload.text.side if payload.padded is None else id(payload)

    def prepare(self, payloads: list[BatchItem]) -> PreparedBatch:
        """Pad the texts whose embedding is not known."""
        if (padded := payloads[0].padded) is not None:
            return PreparedBatch(payloads, padded)
        texts = [item.text for item in payloads if item.embedding is None]
        return PreparedBatch(payloads, self._encoder.pad(texts) if texts else None)

    def run(self, prepared: PreparedBatch) -> list[BatchResult | RequestError]:
        """Encode and search one batch; a text without a unit vector is not searched."""
        started = time.monotonic()
        if prepared.padded is not None and prepared.padded is prepared.items[0].padded:
            found = self._encoder.embed(prepared.padded)
            return [BatchResult(found, None, time.monotonic() - started, 0.0)]
        embeddings, items = self._embed(prepared), prepared.items
        is_valid = is_unit(embeddings).tolist()  # waits for a GPU; else that would count as search
        rows = [row for row, valid in enumerate(is_valid) if valid]
        if len(rows) < len(items):
            self._count_invalid(len(items) - len(rows), len(items))
            items, embeddings = [items[row] for row in rows], embeddings[rows]
        encoded = time.monotonic()
        rankings = rank(items, embeddings)
        searched = time.monotonic()
        results = iter(
            BatchResult(embedding, ranking, encoded - started, searched - encoded)
            for embedding, ranking in zip(embeddings, rankings, strict=True)
        )
        return [
            next(results) if valid else InvalidEmbeddingError(item.position)
            for item, valid in zip(prepared.items, is_valid, strict=True)
        ]

    def warm_up(self, searcher: Searcher, limits: Limits) -> Iterator[tuple[int, float]]:
        """Run the smallest and the largest batch of texts up to `MAX_TRIAL_TOKENS`.

        Yields:
            Tokens and seconds of each batch.
        """
        encoder = self._encoder
        encoder.warm_up(limits.max_batch_tokens)
        has_passages = encoder.encodes_passages and is_loaded(encoder.side("passage").runtime)
        bulk: Role = "passage" if has_passages else "query"
        length = min(encoder.max_tokens, MAX_TRIAL_TOKENS)
        longest = [
            replace(text, token_ids=text.token_ids[:length])
            for text in encoder.tokenize(["warm up " * length], bulk)
        ]
        count = max(1, limits.max_batch_tokens // len(longest[0].token_ids))
        short = encoder.tokenize([PROBE_TEXT], "query")
        for texts in (longest * count, short, short * 8, longest):
            batch = self.prepare([BatchItem(text, searcher, 10) for text in texts])
            for _ in range(2):  # the first run prepares the shape, which is small beside a second
                started = time.monotonic()
                self.run(batch)
                if (seconds := time.monotonic() - started) > 1:
                    break
            yield len(texts) * len(texts[0].token_ids), seconds

    @staticmethod
    def classify(error: Exception) -> Fault:
        """Return what an exception of a batch means.

        A CUDA context is unusable after any error except a refused allocation.
        """
        words = str(error).lower()
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            return "memory"
        if any(word in words for word in MEMORY_WORDS):
            return "memory"
        if isinstance(error, torch.AcceleratorError) or any(word in words for word in DEVICE_WORDS):
            return "device"
        return "text"

    def observe(
        self, lane: Lane, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float
    ) -> None:
        """Count a batch that succeeded in the metrics."""
        self._metrics.observe_batch(lane, num_texts, num_tokens, padded_tokens, seconds)

    def _count_invalid(self, num_invalid: int, num_texts: int) -> None:
        self._metrics.invalid_embeddings.inc(num_invalid)
        logger.error(
            "the encoder %s (%s) gives NaN, infinity or zero for %d of the %d texts of a batch: %s",
            *(self._encoder.name, self._encoder.runtime.name, num_invalid, num_texts, FIX),
        )

    def _embed(self, batch: PreparedBatch) -> Tensor:
        fresh = None if batch.padded is None else self._encoder.embed(batch.padded)
        if fresh is not None and len(fresh) == len(batch.items):
            return fresh
        rows = iter(() if fresh is None else fresh)
        return torch.stack(
            [next(rows) if item.embedding is None else item.embedding for item in batch.items]
        )


def rank(items: Sequence[BatchItem], embeddings: Tensor) -> list[Ranking | None]:
    """Search each text in the generation of its request.

    A batch has texts of two generations only where one has just replaced the other.
    """
    rankings: list[Ranking | None] = [None] * len(items)
    for searcher in {id(item.searcher): item.searcher for item in items}.values():
        if searcher is None:
            continue
        rows = [row for row, item in enumerate(items) if item.searcher is searcher]
        queries = embeddings if len(rows) == len(items) else embeddings[rows]
        found = searcher.rank(
            queries,
            max(items[row].top_k for row in rows),
            [items[row].filter for row in rows],
        )
        for row, ranking in zip(rows, found, strict=True):
            rankings[row] = ranking.first(items[row].top_k)
    return rankings
