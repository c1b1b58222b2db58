"""Line-aligned texts of documents: training rows by the inverse cloze task.

A document is cut into passages of a few sentences. Each sentence in turn is the query, the same
line in another language is the translated query, and the passage without the sentence is the
positive. Passages that differ only in the sentence left out answer each other's queries, so they
are one group. Held-out documents make an evaluation set: from a sentence in another language to the
English sentence of the same line.

Source: Lee et al. 2019, section 3.1 (inverse cloze task).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.languages import ENGLISH
from trainer.data.rows import Row
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import open_source, read_files
from trainer.errors import DataError

DOCUMENTS = "documents.tsv"
# About 200 tokens of English news, which fits the token limit of the bundled encoder.
PASSAGE_SENTENCES = 8


def import_lines(
    name: str,
    files: Mapping[str, Path],
    documents: Sequence[str],
    *,
    languages: Sequence[str] = (),
    held_out_share: float,
    seed: int,
    own_passages: bool = False,
    licence: str = "unknown",
    url: str = "",
) -> ImportedDataset:
    """Make rows of most documents and an evaluation set of the others.

    Args:
        name: of the data set, the start of all ids.
        files: one for each language, with English.
        documents: each line's document; the lines of a document are consecutive.
        languages: to import besides English; all by default.
        held_out_share: of the documents, for evaluation.
        seed: selects them.
        own_passages: as in `cloze_rows`.
        licence: of the texts.
        url: where they are published.

    Raises:
        DataError: a file is not UTF-8, or has another number of lines than `documents`.
    """
    chosen = {
        language: path
        for language, path in files.items()
        if language == ENGLISH or not languages or language in languages
    }
    texts = read_files(chosen, read_lines)
    for language, lines in texts.items():
        if len(lines) != len(documents):
            raise DataError(
                f"{chosen[language]} has {len(lines)} lines, the documents have {len(documents)}: "
                "take all files from one release"
            )
    held_out = held_out_documents(documents, held_out_share, seed)
    return ImportedDataset(
        name=name,
        licence=licence,
        url=url or name,
        files=tuple(chosen.values()),
        rows=list(cloze_rows(name, texts, documents, held_out, own_passages=own_passages)),
        evaluation=_judged(name, texts, documents, held_out) if held_out else None,
        notes=(
            f"{len(held_out)} of {len(set(documents))} documents held out (seed {seed}): their "
            "sentences are the queries and the corpus, and in no row",
        ),
    )


def held_out_documents(documents: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Select documents by the hash of seed and name, independent of machine and order."""
    ranked = sorted(
        set(documents), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()
    )
    return frozenset(ranked[: round(len(ranked) * share)])


def cloze_rows(
    name: str,
    texts: Mapping[str, Sequence[str]],
    documents: Sequence[str],
    held_out: frozenset[str] = frozenset(),
    *,
    own_passages: bool = False,
) -> Iterator[Row]:
    """Yield a row for each sentence and language, without held-out documents.

    Args:
        name: of the data set, the start of all ids.
        texts: line-aligned, by language, with English.
        documents: each line's document; the lines of a document are consecutive.
        held_out: documents to leave out.
        own_passages: use the sentence's English line as its passage, not the passage around it, so
            that an encoder that learns questions does not forget translations.
    """
    english = texts[ENGLISH]
    for start, end in _passages(documents, held_out):
        group_id = f"{name}.{documents[start]}.{start}-{end - 1}"
        for line in range(start, end):
            rest = [english[other] for other in range(start, end) if other != line]
            for language, lines in texts.items():
                if language != ENGLISH and english[line] and lines[line] and any(rest):
                    yield Row(
                        query=english[line],
                        translated_query=lines[line],
                        language=language,
                        passage_id=(
                            f"{name}.{line}.line" if own_passages else f"{group_id}.without.{line}"
                        ),
                        positive=english[line] if own_passages else " ".join(filter(None, rest)),
                        query_id=f"{name}.{line}",
                        group_id=group_id,
                    )


def _passages(
    documents: Sequence[str], held_out: frozenset[str] = frozenset()
) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line (exclusive) of passages of similar length, at least two."""
    start = 0
    while start < len(documents):
        end = start
        while end < len(documents) and documents[end] == documents[start]:
            end += 1
        if documents[start] not in held_out and end - start > 1:
            count = math.ceil((end - start) / PASSAGE_SENTENCES)
            edges = [start + (end - start) * number // count for number in range(count + 1)]
            yield from zip(edges, edges[1:], strict=False)
        start = end


def _judged(
    name: str,
    texts: Mapping[str, Sequence[str]],
    documents: Sequence[str],
    held_out: frozenset[str],
) -> EvaluationData:
    """Make queries of held-out sentences, except English ones, which would equal their answers."""
    lines = [
        line
        for line, document in enumerate(documents)
        if document in held_out and texts[ENGLISH][line]
    ]
    passages = [Passage(f"{name}.{line}", texts[ENGLISH][line]) for line in lines]
    queries = {
        language: [
            Query(f"{name}.{line}", sentences[line], documents[line])
            for line in lines
            if sentences[line]
        ]
        for language, sentences in texts.items()
        if language != ENGLISH
    }
    qrels = {passage.passage_id: {passage.passage_id: 1} for passage in passages}
    return EvaluationData({ENGLISH: passages}, queries, qrels, "statements")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text, with white space normalized.

    Raises:
        DataError: the file cannot be read or has a line that is not UTF-8.
    """
    return [" ".join(line.split()) for line in read_raw_lines(path)]


def read_raw_lines(path: Path) -> list[str]:
    """Read the lines of a text as they are.

    Raises:
        DataError: the file cannot be read or has a line that is not UTF-8.
    """
    try:
        with open_source(path) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the folder") from None
    lines = content.removesuffix(b"\n").split(b"\n")
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.decode("utf-8-sig").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number} is not UTF-8 (byte {error.start + 1} of the line)"
            ) from None
    return texts
