"""The data card of an import: counts, languages, license and digests, as JSON and Markdown."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from service.retrieval.language_quality import QueryKind
from service.retrieval.storage.checksums import sha256_of
from trainer.datasets.imported import ImportedDataset
from trainer.markdown import markdown_table


@dataclass(frozen=True, slots=True)
class DataCard:
    """What an import read, left out and wrote."""

    name: str
    licence: str
    url: str
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    sources: Mapping[str, str]  # file name -> sha256
    skipped: Mapping[str, int]
    contamination: Mapping[str, int]
    contamination_kept: bool
    rows: Mapping[str, int]  # language -> rows
    num_training_passages: int
    queries: Mapping[str, int]  # language -> queries
    passages: Mapping[str, int]  # language -> passages
    query_kind: QueryKind | None  # of the evaluation set
    outputs: Mapping[str, str]  # file name -> sha256

    def as_dict(self) -> dict[str, Any]:
        """Return the card as `card.json` holds it."""
        return asdict(self)

    def as_markdown(self) -> str:
        """Return the card as `README.md`, with the header that the Hub reads."""
        front_matter = DatasetCardData(  # quotes what YAML reads as another type: `no`
            language=sorted({*self.rows, *self.queries, *self.passages, "en"}),
            license=_hub_licence(self.licence),
        )
        lines = ["---", front_matter.to_yaml(), "---", "", f"# {self.name}", ""]
        lines += [f"From {self.url} ({self.licence})."]
        lines += [f"- {note}" for note in self.notes]
        lines += _table("Training rows", "language", {**self.rows, "all": sum(self.rows.values())})
        lines += [f"Distinct training passages: {self.num_training_passages}"] if self.rows else []
        lines += _table("Evaluation queries", "language", self.queries)
        lines += _table("Evaluation passages", "language", self.passages)
        lines += _table("Records left out", "reason", self.skipped)
        what = "kept" if self.contamination_kept else "removed"
        lines += _table(f"Rows also in evaluation sets ({what})", "reason", self.contamination)
        lines += _table("Source files", "file", self.sources, "sha256")
        lines += _table("Files written", "file", self.outputs, "sha256")
        return "\n".join(lines) + "\n"


def make_card(
    imported: ImportedDataset,
    output: Path,
    *,
    options: Mapping[str, Any],
    contamination: Mapping[str, int],
    contamination_kept: bool,
) -> DataCard:
    """Make the card of an import whose files have been written to a folder."""
    evaluation = imported.evaluation
    return DataCard(
        name=imported.name,
        licence=imported.licence,
        url=imported.url,
        options=dict(options),
        notes=imported.notes,
        sources={path.name: sha256_of(path) for path in imported.files},
        skipped=dict(imported.skipped),
        contamination=dict(contamination),
        contamination_kept=contamination_kept,
        rows=dict(sorted(Counter(row.language for row in imported.rows).items())),
        num_training_passages=len({row.passage_id for row in imported.rows if row.positive}),
        queries=_sizes(evaluation.queries) if evaluation else {},
        passages=_sizes(evaluation.passages) if evaluation else {},
        query_kind=evaluation.query_kind if evaluation else None,
        outputs={
            path.relative_to(output).as_posix(): sha256_of(path)
            for path in sorted(output.rglob("*"))
            if path.suffix in (".jsonl", ".tsv")
        },
    )


def _sizes(by_language: Mapping[str, Any]) -> dict[str, int]:
    return {language: len(each) for language, each in by_language.items()}


def _hub_licence(licence: str) -> str:
    return licence.lower().replace(" ", "-") if licence.startswith("CC") else "other"


def _table(title: str, key: str, entries: Mapping[str, Any], value: str = "count") -> list[str]:
    if not any(entries.values()):
        return []
    return ["", f"## {title}", "", markdown_table((key, value), list(entries.items()))]
