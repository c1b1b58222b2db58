"""Batch sampling: languages in proportion, and each passage once in a batch."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler

from trainer.data.training_rows import TrainingRows
from trainer.training.epoch import rows_of_epoch

Mixing = Literal["mixed", "separate"]


class LanguageSampler(DefaultBatchSampler):
    """Samples batches that mix all groups of rows in proportion, or batches of one group each.

    A group is a file's rows of one language. The order depends only on the seed and the epoch, so
    that a resumed run draws the same batches as an uninterrupted one.
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
        """Count the rows of each group.

        Args:
            dataset: has as many rows as `groups`.
            batch_size: rows of a batch.
            drop_last: leave out the rows that do not fill a batch.
            groups: each row's group.
            passage_ids: each row's passage; rows with the same passage go to different batches;
                empty for a row without.
            shares: how often an epoch repeats a group's rows; 1 for a group that is not named.
            mixing: `mixed` for batches of all groups, `separate` for batches of one.
            seed: of the order.
        """
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, seed=seed)
        self._passage_ids = passage_ids
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(groups):
            self._rows[group].append(row)
        self._counts = rows_of_epoch(groups, shares)
        self._mixing = mixing

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        counts = list(self._counts.values())
        counts = [sum(counts)] if self._mixing == "mixed" else counts
        round_up = 0 if self.drop_last else self.batch_size - 1
        return sum((count + round_up) // self.batch_size for count in counts)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        drawn = {group: self._draw(group, generator) for group in sorted(self._rows)}
        if self._mixing == "mixed":
            yield from self._batches(_spread(list(drawn.values()), generator))
            return
        batches = [batch for rows in drawn.values() for batch in self._batches(rows)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number]

    def _draw(self, group: str, generator: torch.Generator) -> list[int]:
        """Shuffle a group's rows as often as needed for its share."""
        rows = self._rows[group]
        drawn: list[int] = []
        while len(drawn) < self._counts[group]:
            order = torch.randperm(len(rows), generator=generator).tolist()
            drawn.extend(rows[position] for position in order)
        return drawn[: self._counts[group]]

    def _batches(self, order: Sequence[int]) -> Iterator[list[int]]:
        """Cut the order into batches; a row whose passage is in the batch waits for a later one."""
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
            while len(batch) < size:  # only duplicates are left: the loss masks them
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
        if len(batch) < size and not (passage_id and passages[passage_id]):
            passages[passage_id] += 1
            batch.append(row)
        else:
            waiting.append(row)


def make_sampler(
    dataset: Any, *, rows: TrainingRows, mixing: Mixing, **planned: Any
) -> LanguageSampler:
    """Return the sampler of a run's rows, as sentence-transformers' trainer plans it."""
    return LanguageSampler(
        dataset,
        groups=rows.groups,
        passage_ids=[row.passage_id for row in rows.rows],
        shares=rows.shares,
        mixing=mixing,
        **{name: planned[name] for name in ("batch_size", "drop_last", "seed")},
    )


def _spread(groups: Sequence[Sequence[int]], generator: torch.Generator) -> list[int]:
    """Merge groups so that each is spread evenly over the order."""
    places: list[tuple[float, int]] = []
    for rows in groups:
        offsets = torch.rand(len(rows), generator=generator).tolist()
        places.extend(
            ((number + offset) / len(rows), row)
            for number, (row, offset) in enumerate(zip(rows, offsets, strict=True))
        )
    return [row for _, row in sorted(places)]
