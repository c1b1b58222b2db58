"""A mining run: a file of rows in, a file of rows with hard negatives out, resumed if killed.

OUTPUT            the rows with their negatives
.OUTPUT.part      the rows mined so far, while it runs; its first line is a digest of the input
.OUTPUT.index     the embedded candidates, while it runs
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    open_current,
)
from service.retrieval.generation.manifest import VECTORS
from service.retrieval.index.faiss.index import flat_vectors
from service.retrieval.indexing.build import build_index
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.storage.artifact import sync
from service.retrieval.storage.checksums import sha256_of
from trainer.data.rows import Row, read_rows, row_line
from trainer.errors import DataError, OutputError
from trainer.mining.candidates import CandidateTable
from trainer.mining.miner import Miner, MiningOptions
from trainer.output import exclusive_output, refuse_input

WINDOW_ROWS = 256


@dataclass(frozen=True, slots=True)
class MiningReport:
    """How many rows there were, were left out, and were mined by an earlier run."""

    num_rows: int
    num_left_out: int
    num_resumed: int


def mine_rows(
    rows: Path,
    candidates: CandidateTable,
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
        candidates: of the file and of corpora, by `read_candidates`.
        output: the file to write; its folder keeps the embedded candidates while it runs.
        encoder: ranks the candidates.
        options: which candidates are hard negatives.
        keep_incomplete: keep the rows with fewer negatives than were asked for, too.
        on_progress: is called with the stages encode and mine.

    Raises:
        DataError: no row got enough negatives.
        OutputError: another run writes to the output, or it cannot be written.
    """
    num_rows = candidates.num_rows()
    digest = _digest(rows, candidates, encoder, options)
    part = output.with_name(f".{output.name}.part")
    index = output.with_name(f".{output.name}.index")  # embedding takes the most time
    with exclusive_output(index, output):
        try:
            passage_ids, vectors = _embed(candidates, index / digest, encoder, on_progress)
            miner = Miner(encoder, candidates, passage_ids, vectors, options)
            num_resumed = _resume(part, digest)
            with part.open("ab") as file:
                _mine_rest(rows, file, miner, num_resumed, num_rows, on_progress)
            kept = _finish(part, output, 0 if keep_incomplete else options.num_negatives)
        except OSError as error:
            raise OutputError(
                f"{output} cannot be written ({error.strerror}): name another file"
            ) from None
        shutil.rmtree(index, ignore_errors=True)
    if not kept:
        raise DataError(
            f"no row of {rows} has {options.num_negatives} negatives at the ranks "
            f"{options.first_rank} to {options.last_rank}: the pool is too small, choose better "
            "ranks or fewer negatives"
        )
    return MiningReport(num_rows, num_rows - kept, num_resumed)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is an input, or a file that `mine` did not write.

    Raises:
        OutputError: naming the output.
    """
    refuse_input(output, inputs)
    if not output.exists():
        return
    try:
        with output.open("rb") as file:
            is_mined = any(b'"hard_negatives"' in line for line in file)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written ({error.strerror}): name another file"
        ) from None
    if not is_mined and output.stat().st_size:
        raise OutputError(f"{output} has other content, no mined rows: name another file")


def _digest(
    rows: Path, candidates: CandidateTable, encoder: Encoder, options: MiningOptions
) -> str:
    """Return a digest of everything that the result depends on."""
    facts = [
        [sha256_of(rows), sorted(candidates.hashes.items())],
        [encoder.fingerprint, encoder.max_tokens, encoder.runtime.name],
        asdict(options),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _embed(
    candidates: CandidateTable, index: Path, encoder: Encoder, on_progress: OnProgress
) -> tuple[list[str], Embeddings]:
    """Embed the candidates as an index of the service, or open that of a killed run."""
    passages = ((name, Passage(name, text)) for name, text in candidates.texts.items())
    try:
        generation = open_current(index)
    except GenerationError:
        chunking = Chunking.none(encoder.side("passage").max_tokens)
        build_index(passages, index, encoder, chunking=chunking, on_progress=on_progress)
        generation = open_current(index)
    path = generations_directory(index) / current_name(index) / VECTORS
    with flat_vectors(path) as vectors:
        return generation.passages.passage_ids(range(len(vectors))), np.array(vectors)


def _resume(part: Path, digest: str) -> int:
    """Cut a part to its last whole line and count its rows; empty a part of other input."""
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
    """Replace the output by the rows with enough negatives, if there are any; return their number.

    Raises:
        OSError: the output cannot be written.
    """
    kept, chosen = 0, output.with_name(f".{output.name}.chosen")
    with part.open("rb") as file, chosen.open("wb") as whole:
        next(file)
        for line in file:
            if len(json.loads(line).get("hard_negatives", ())) >= min_negatives:
                whole.write(line)
                kept += 1
    sync(chosen)
    if kept:
        chosen.replace(output)
    chosen.unlink(missing_ok=True)
    part.unlink()
    return kept
