"""Which rows meet in a batch: languages mixed in proportion, each passage once."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler

Mixing = Literal["mixed", "separate"]


class LanguageSampler(DefaultBatchSampler):
    """Batches of every group of rows in proportion, or of one group each.

    A group is a source's rows of one language. The order depends on the seed and the epoch alone,
    so that a resumed run sees the batches that an uninterrupted one does.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        *,
        groups: Sequence[str],
        passage_ids: Sequence[str],
        shares: Mapping[str, float],
        mixing: Mixing = "mixed",
        seed: int = 0,
        **_: object,
    ) -> None:
        """Plan batches of a data set.

        Args:
            dataset: as many rows as `groups`.
            batch_size: rows of a batch.
            drop_last: leave out what fills no batch.
            groups: each row's group.
            passage_ids: each row's passage; two rows of one passage are kept apart.
            shares: how often an epoch shows a group's rows, 1 where it is not named.
            mixing: whether a batch holds all groups or one.
            seed: of the order.
        """
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, seed=seed)
        self._passage_ids = passage_ids
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(groups):
            self._rows[group].append(row)
        self._counts = {
            group: round(len(rows) * shares.get(group, 1.0)) for group, rows in self._rows.items()
        }
        self._mixing = mixing

    def __len__(self) -> int:
        """Count an epoch's batches."""
        counts = list(self._counts.values())
        counts = [sum(counts)] if self._mixing == "mixed" else counts
        round_up = 0 if self.drop_last else self.batch_size - 1
        return sum((count + round_up) // self.batch_size for count in counts)

    def __iter__(self) -> Iterator[list[int]]:
        """Draw an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        drawn = {group: self._draw(group, generator) for group in sorted(self._rows)}
        if self._mixing == "mixed":
            yield from self._batches(_spread(list(drawn.values()), generator))
            return
        batches = [batch for rows in drawn.values() for batch in self._batches(rows)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number]

    def _draw(self, group: str, generator: torch.Generator) -> list[int]:
        """Shuffle a group's rows, again and again until there are as many as it should show."""
        rows = self._rows[group]
        drawn: list[int] = []
        while len(drawn) < self._counts[group]:
            order = torch.randperm(len(rows), generator=generator).tolist()
            drawn.extend(rows[position] for position in order)
        return drawn[: self._counts[group]]

    def _batches(self, order: Sequence[int]) -> Iterator[list[int]]:
        """Cut the order into batches; a passage that a batch has already waits for a later one."""
        waiting: deque[int] = deque()
        coming = iter(order)
        left = len(order)
        while left >= self.batch_size or (left and not self.drop_last):
            size = min(self.batch_size, left)
            batch: list[int] = []
            passages = Counter[str]()
            for _ in range(len(waiting)):
                self._place(waiting.popleft(), batch, passages, waiting, size)
            for row in coming:
                self._place(row, batch, passages, waiting, size)
                if len(batch) == size:
                    break
            while len(batch) < size:  # only passages that it has are left: the loss masks them
                batch.append(waiting.popleft())
            left -= size
            yield batch

    def _place(
        self,
        row: int,
        batch: list[int],
        passages: Counter[str],
        waiting: deque[int],
        size: int,
    ) -> None:
        passage_id = self._passage_ids[row]
        if len(batch) < size and not passages[passage_id]:
            passages[passage_id] += 1
            batch.append(row)
        else:
            waiting.append(row)


def _spread(groups: Sequence[Sequence[int]], generator: torch.Generator) -> list[int]:
    """Merge groups so that each lies evenly over the whole order."""
    places: list[tuple[float, int]] = []
    for rows in groups:
        offsets = torch.rand(len(rows), generator=generator).tolist()
        places.extend(
            ((number + offset) / len(rows), row)
            for number, (row, offset) in enumerate(zip(rows, offsets, strict=True))
        )
    return [row for _, row in sorted(places)]
