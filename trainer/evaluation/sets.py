"""Opens evaluation sets by name, and finds the queries whose passage was trained on."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from trainer.data.evaluation_set import EvaluationSet, evenly
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import read_rows
from trainer.datasets.decontamination import passage_hash, relevant_passages
from trainer.datasets.importer import EVALUATION
from trainer.datasets.registry import KINDS, read_dataset
from trainer.errors import DataError


def open_sets(words: Sequence[str], stack: ExitStack, max_queries: int = 0) -> list[EvaluationSet]:
    """Read evaluation sets; words such as `xquad FOLDER` import a published data set first.

    Args:
        words: folders of evaluation sets, or a kind of import and the folders of its data.
        stack: removes temporary folders when it closes.
        max_queries: of a language, spread evenly over a set; 0 for all.

    Raises:
        DataError: a set cannot be read, or two sets have the same name.
    """
    if len(words) > 1 and words[0] in KINDS:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clear-import-")))
        sets = [_import(words[0], word, temporary) for word in words[1:]]
    else:
        sets = [read_evaluation_set(_folder(Path(word))) for word in words]
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        raise DataError(
            f"two sets have the same name ({', '.join(names)}): evaluate them separately"
        )
    return [_thinned(each, max_queries) for each in sets]


def seen_queries(sets: Sequence[EvaluationSet], rows: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Return, for each set, the queries whose passage is in training rows, by hash of its text.

    Raises:
        DataError: a row is invalid.
    """
    trained = {
        passage_hash(row.positive)
        for path in rows
        for _, row in read_rows(path, is_bridge=True)  # whatever objective trained on them
        if row.positive
    }
    found = {}
    for each in sets:
        seen = {
            passage.passage_id
            for passage in relevant_passages(each)
            if {passage_hash(passage.encoder_text), passage_hash(passage.text)} & trained
        }
        found[each.name] = frozenset(
            query_id for query_id, judged in each.qrels.items() if seen & judged.keys()
        )
    return found


def _thinned(found: EvaluationSet, max_queries: int) -> EvaluationSet:
    queries = {language: evenly(each, max_queries) for language, each in found.queries.items()}
    return replace(found, queries=queries)


def _import(kind: str, source: str, temporary: Path) -> EvaluationSet:
    imported = read_dataset(kind, source, {})
    if imported.evaluation is None:
        raise DataError(f"{source} has no evaluation set: import it and see the data card")
    folder = temporary / imported.name
    write_evaluation_set(folder, imported.evaluation)
    return replace(read_evaluation_set(folder), query_kind=imported.evaluation.query_kind)


def _folder(path: Path) -> Path:
    """Return the evaluation set's folder; that of an import contains it."""
    inner = path / EVALUATION
    return inner if inner.is_dir() else path
