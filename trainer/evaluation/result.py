"""What an encoder reached, task by task, and the means that are told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.evaluation.measures import MAIN, mean
from trainer.evaluation.significance import Interval, Sample, bootstrap
from trainer.evaluation.tasks import Task


@dataclass(frozen=True, slots=True)
class Result:
    """What was reached in one task, query by query."""

    task: Task
    articles: Mapping[str, str]  # query id -> article
    values: Mapping[str, Mapping[str, float]]  # measure -> query id -> value

    @property
    def measures(self) -> dict[str, float]:
        """Average each measure over the queries."""
        return {key: mean(values) for key, values in self.values.items()}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an encoder reached, and what it takes to repeat that."""

    encoder_name: str
    fingerprint: str
    passage_fingerprint: str
    max_tokens: int
    device: str
    runtime: str
    control: str | None
    num_passages: Mapping[str, Mapping[str, int]]  # set -> language -> passages
    results: tuple[Result, ...]

    def group(self, set_name: str, direction: str) -> list[Result]:
        """List the results of one set in one direction."""
        return [
            each
            for each in self.results
            if (each.task.set_name, each.task.direction) == (set_name, direction)
        ]

    def macro(self, set_name: str, direction: str) -> dict[str, float]:
        """Average the measures over a direction's languages, each counting the same."""
        chosen = [each.measures for each in self.group(set_name, direction)]
        return {key: mean([measures[key] for measures in chosen]) for key in chosen[0]}

    @property
    def label(self) -> str:
        """Name the encoder, and the control where it is one."""
        return f"{self.encoder_name} ({self.control})" if self.control else self.encoder_name

    def intervals(self, set_name: str, direction: str) -> dict[str, Interval]:
        """Bound each language's mean nDCG@10, articles resampled jointly."""
        results = self.group(set_name, direction)
        found, _ = bootstrap([Sample(each.values[MAIN], each.articles) for each in results])
        return dict(zip((each.task.language for each in results), found, strict=True))

    def groups(self) -> list[tuple[str, str]]:
        """List sets with their directions, in the order of the results."""
        pairs = ((each.task.set_name, each.task.direction) for each in self.results)
        return list(dict.fromkeys(pairs))
