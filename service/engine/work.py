"""What the device does with a batch: pad, encode, search; the embeddings stay where they are."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.retrieval.corpus.filters import Filter
from service.retrieval.encoder.encoder import Encoder, PaddedBatch, Role, TokenizedText
from service.retrieval.index.backend import Ranking
from service.retrieval.searcher import Searcher


@dataclass(frozen=True, slots=True)
class Work:
    """One text for a batch: without a searcher it is embedded only; a known embedding is searched.

    A request's texts share the searcher that was live when it came, whatever batches they are in.
    """

    text: TokenizedText
    searcher: Searcher | None = None
    top_k: int = 0
    embedding: Tensor | None = None
    filter: Filter | None = None

    @property
    def num_tokens(self) -> int:
        """Tell what it costs to encode, 1 where nothing is left to encode."""
        return len(self.text.token_ids) if self.embedding is None else 1

    @property
    def side(self) -> Role:
        """Tell which side of the encoder embeds it: a batch is of one side."""
        return self.text.side


@dataclass(frozen=True, slots=True)
class Result:
    """What a batch made of one text, and how long the whole batch took."""

    embedding: Tensor  # [D], on the device
    ranking: Ranking | None
    encode_seconds: float
    search_seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch laid out for the device."""

    works: list[Work]
    padded: PaddedBatch | None


def prepare(encoder: Encoder, works: list[Work]) -> Prepared:
    """Pad the texts that are to be encoded."""
    texts = [work.text for work in works if work.embedding is None]
    return Prepared(works, encoder.pad(texts) if texts else None)


def run(encoder: Encoder, batch: Prepared) -> list[Result]:
    """Encode and search one batch."""
    started = time.monotonic()
    embeddings = _embeddings(encoder, batch)
    if embeddings.is_cuda:  # else the wait for the encoder would count as search
        torch.cuda.current_stream(embeddings.device).synchronize()
    encoded = time.monotonic()
    rankings = _rankings(batch.works, embeddings)
    searched = time.monotonic()
    return [
        Result(embedding, ranking, encoded - started, searched - encoded)
        for embedding, ranking in zip(embeddings, rankings, strict=True)
    ]


def _embeddings(encoder: Encoder, batch: Prepared) -> Tensor:
    fresh = None if batch.padded is None else encoder.embed(batch.padded)
    if fresh is not None and len(fresh) == len(batch.works):
        return fresh
    rows = iter(() if fresh is None else fresh)
    return torch.stack(
        [next(rows) if work.embedding is None else work.embedding for work in batch.works]
    )


def _rankings(works: Sequence[Work], embeddings: Tensor) -> list[Ranking | None]:
    """Search each text in its own generation: two of them only where one has just been swapped."""
    rankings: list[Ranking | None] = [None] * len(works)
    for searcher in {id(work.searcher): work.searcher for work in works}.values():
        if searcher is None:
            continue
        rows = [row for row, work in enumerate(works) if work.searcher is searcher]
        queries = embeddings if len(rows) == len(works) else embeddings[rows]
        found = searcher.rank(
            queries,
            max(works[row].top_k for row in rows),
            [works[row].filter for row in rows],
        )
        for row, ranking in zip(rows, found, strict=True):
            rankings[row] = ranking.first(works[row].top_k)
    return rankings
