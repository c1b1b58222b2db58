"""Relevance judgments (qrels) and ranked output (runs), in TREC's formats."""

from collections.abc import Mapping
from pathlib import Path

from trainer.errors import OutputError

# Query id -> passage id -> relevance, or score.
Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]


def make_runs_directory(directory: Path) -> None:
    """Create the folder for run files, so that a wrong name fails before the work.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"run files cannot be written to {directory} ({error.strerror}): name another folder"
        ) from None


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run file with lines of `query Q0 passage rank score tag`; rank 1 is the best.

    Args:
        path: of the file.
        run: each query's passages, best first.
        tag: the name of the system; white space, which separates columns, becomes a hyphen.

    Raises:
        OutputError: the file cannot be written.
    """
    tag = "-".join(tag.split())
    try:
        with path.open("w", encoding="utf-8") as file:
            for query_id, scores in run.items():
                for rank, (passage_id, score) in enumerate(scores.items(), start=1):
                    file.write(f"{query_id} Q0 {passage_id} {rank} {score!r} {tag}\n")
    except OSError as error:
        raise OutputError(
            f"the run file {path} cannot be written ({error.strerror}): name another folder"
        ) from None
