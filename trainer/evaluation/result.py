"""The result of an evaluation: values by task and query, their means and intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.retrieval.language_quality import QueryKind
from trainer.evaluation.measures import MAIN, mean
from trainer.evaluation.significance import Interval, Sample, bootstrap
from trainer.evaluation.tasks import Task


@dataclass(frozen=True, slots=True)
class Result:
    """The measures of one task, query by query."""

    task: Task
    articles: Mapping[str, str]  # query id -> article
    values: Mapping[str, Mapping[str, float]]  # measure -> query id -> value
    first: Mapping[str, str] = field(default_factory=dict)  # query id -> passage that came first

    @property
    def measures(self) -> dict[str, float]:
        """Return the mean of each measure over the queries."""
        return {key: mean(values) for key, values in self.values.items()}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of an encoder, and the conditions needed to reproduce them."""

    encoder_name: str
    fingerprint: str
    passage_fingerprint: str
    max_tokens: int
    device: str
    runtime: str
    control: str | None
    num_passages: Mapping[str, Mapping[str, int]]  # set -> language -> passages
    results: tuple[Result, ...]
    query_kinds: Mapping[str, QueryKind] = field(default_factory=dict)  # set -> kind

    def group(self, set_name: str, direction: str) -> list[Result]:
        """Return the results of one set in one direction."""
        return [
            each
            for each in self.results
            if (each.task.set_name, each.task.direction) == (set_name, direction)
        ]

    def macro(self, set_name: str, direction: str) -> dict[str, float]:
        """Return the unweighted mean of each measure over the languages of a direction."""
        chosen = [each.measures for each in self.group(set_name, direction)]
        return {key: mean([measures[key] for measures in chosen]) for key in chosen[0]}

    @property
    def label(self) -> str:
        """Return the encoder's name, with the control if there is one."""
        return f"{self.encoder_name} ({self.control})" if self.control else self.encoder_name

    def intervals(self, set_name: str, direction: str) -> dict[str, Interval]:
        """Return the confidence interval of each language's mean nDCG@10."""
        results = self.group(set_name, direction)
        found, _ = bootstrap([Sample(each.values[MAIN], each.articles) for each in results])
        return dict(zip((each.task.language for each in results), found, strict=True))

    def groups(self) -> list[tuple[str, str]]:
        """Return the pairs of set and direction, in the order of the results."""
        pairs = ((each.task.set_name, each.task.direction) for each in self.results)
        return list(dict.fromkeys(pairs))
