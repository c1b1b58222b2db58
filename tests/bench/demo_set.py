"""The command of a benchmark that writes an evaluation set on the demo's passages."""

import argparse
from collections.abc import Callable
from pathlib import Path

from service.demo.factbook import factbook_passages
from service.retrieval.corpus.reader import Passage
from tests.bench.options import say
from trainer.data.evaluation_set import EvaluationData
from trainer.data.evaluation_set_writer import write_evaluation_set

BuildSet = Callable[[list[Passage]], EvaluationData]


def write_demo_set(docstring: str | None, build_set: BuildSet) -> None:
    """Write the evaluation set that a function makes of the demo's passages.

    Args:
        docstring: of the command's module; its first line describes the command.
        build_set: makes the set.
    """
    parser = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    judged = build_set([passage for _, passage in factbook_passages()])
    write_evaluation_set(directory, judged)
    say(
        f"{len(judged.qrels)} questions in {len(judged.queries)} languages on "
        f"{len(judged.passages['en'])} passages: {directory}"
    )
