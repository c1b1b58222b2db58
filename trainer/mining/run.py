"""The command `mine`: rows in, rows with hard negatives out; killed, it goes on where it was.

OUTPUT            the rows, each with its negatives
OUTPUT.part       what is done so far, while it runs: its first line says of what
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.retrieval.build.build import build_index
from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    open_current,
)
from service.retrieval.generation.manifest import VECTORS
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.storage.artifact import sha256_of, sync
from trainer.data.rows import Row, read_rows, row_line
from trainer.errors import DataError, OutputError
from trainer.mining.miner import Known, Miner, MiningOptions

WINDOW_ROWS = 256


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What became of the rows."""

    num_rows: int
    num_left_out: int
    num_resumed: int


def read_known(rows: Path, corpora: Sequence[Path], options: MiningOptions) -> Known:
    """Read all candidates: the rows' own passages and those of corpora.

    Args:
        rows: the file.
        corpora: files of passages, as `read_passages` reads them.
        options: what counts as a hard negative.

    Raises:
        DataError: a row is bad, or `corpora` come with paired queries, which nobody asks for them.
        PassageError: a passage is bad.
    """
    if corpora and options.is_paired:
        raise DataError("passages of a corpus have no queries: mine them with --unpaired")
    known = Known()
    for _, row in read_rows(rows):
        known.add(row)
    for path in corpora:
        for _, passage in read_passages(path):
            if passage.passage_id not in known.texts:
                known.add_passage(passage.passage_id, passage.encoder_text)
    return known


def mine_rows(
    rows: Path,
    known: Known,
    output: Path,
    encoder: Encoder,
    options: MiningOptions,
    *,
    keep_incomplete: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> MiningReport:
    """Mine hard negatives for a file of rows.

    Args:
        rows: the file.
        known: of the file and the corpora, by `read_known`.
        output: the file to write; its folder keeps the embedded passages meanwhile.
        encoder: ranks the candidates.
        options: what counts as a hard negative.
        keep_incomplete: keep rows with fewer negatives than were asked for, too.
        on_progress: is told of the stages encode and mine.

    Raises:
        DataError: no row got enough negatives.
        OutputError: the output cannot be written.
    """
    num_rows = sum(len(askers) for askers in known.askers.values())
    digest = _digest(rows, known, encoder, options)
    part = output.with_name(f".{output.name}.part")
    index = output.with_name(f".{output.name}.index")  # embedding is what takes long: kept, too
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        passage_ids, vectors = _embed(known, index / digest, encoder, on_progress)
        miner = Miner(encoder, known, passage_ids, vectors, options)
        num_resumed = _resume(part, digest)
        with part.open("ab") as file:
            _mine_rest(rows, file, miner, num_resumed, num_rows, on_progress)
        kept = _finish(part, output, 0 if keep_incomplete else options.num_negatives)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror})") from None
    shutil.rmtree(index, ignore_errors=True)
    if not kept:
        output.unlink()
        raise DataError(
            f"no row of {rows} has {options.num_negatives} negatives at the ranks "
            f"{options.first_rank} to {options.last_rank}: the pool is too small, choose better "
            "ranks or fewer negatives"
        )
    return MiningReport(num_rows, num_rows - kept, num_resumed)


def _digest(rows: Path, known: Known, encoder: Encoder, options: MiningOptions) -> str:
    """Hash all that decides the result."""
    facts = [
        [sha256_of(rows), sorted(known.hashes.items())],
        [encoder.fingerprint, encoder.max_tokens, encoder.runtime.name],
        asdict(options),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _embed(
    known: Known, index: Path, encoder: Encoder, on_progress: OnProgress
) -> tuple[list[str], Embeddings]:
    """Embed the candidates with the service's own index, or open what a killed run left."""
    passages = ((name, Passage(name, text)) for name, text in known.texts.items())
    try:
        generation = open_current(index)
    except GenerationError:
        build_index(passages, index, encoder, on_progress=on_progress)
        generation = open_current(index)
    path = generations_directory(index) / current_name(index) / VECTORS
    with flat_vectors(path) as vectors:
        return generation.passages.passage_ids(range(len(vectors))), np.array(vectors)


def _resume(part: Path, digest: str) -> int:
    """Cut a part to its last whole line and count its rows; one of other input starts anew."""
    header = json.dumps({"digest": digest}).encode() + b"\n"
    content = part.read_bytes() if part.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole.startswith(header):
        whole = header
    if whole != content:
        part.write_bytes(whole)
    return whole.count(b"\n") - 1


def _mine_rest(
    rows: Path,
    file: BinaryIO,
    miner: Miner,
    num_resumed: int,
    num_rows: int,
    on_progress: OnProgress,
) -> None:
    rest = (row for _, row in itertools.islice(read_rows(rows), num_resumed, None))
    done = num_resumed
    for window in _windows(rest):
        file.write("".join(row_line(row) for row in miner.mine(window)).encode())
        file.flush()
        done += len(window)
        on_progress("mine", done, num_rows)


def _windows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while window := list(itertools.islice(rows, WINDOW_ROWS)):
        yield window


def _finish(part: Path, output: Path, min_negatives: int) -> int:
    """Write the rows with enough negatives as one whole file; count them."""
    kept = 0
    with part.open("rb") as file, output.open("wb") as whole:
        next(file)
        for line in file:
            if len(json.loads(line).get("hard_negatives", ())) >= min_negatives:
                whole.write(line)
                kept += 1
    sync(output)
    part.unlink()
    return kept
