"""The files of a corpus: what paths, patterns and folders name."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from service.retrieval.errors import PassageError
from service.retrieval.storage.compression import STDIN, decompressed_suffix

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*JSON_LINES, ".parquet", ".csv", ".tsv")
READABLE = ".jsonl, .ndjson, .csv, .tsv (each also .gz or .zst) or .parquet"
BEIR_CORPUS = "corpus.jsonl"


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files that paths name, in the order given, each once.

    Args:
        paths: a file or pipe; a pattern (`news/*.csv`, `**`), in the order of names; a folder, with
            all readable files in it and below, but for hidden ones, or with BEIR's `corpus.jsonl`
            alone, if it holds one; `-`, the standard input.

    Raises:
        PassageError: a path names nothing that can be read.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(path):
            found.setdefault(file if file == STDIN else file.resolve(), file)
    return list(found.values())


def _files_of(path: Path) -> Iterator[Path]:
    if path == STDIN:
        yield path
    elif path.is_dir():
        yield from _files_in(path)
    elif path.exists():
        _check_suffix(path)
        yield path
    elif glob.has_magic(str(path)):
        yield from _matches(path)
    else:
        raise PassageError(f"{path} does not exist: name a file ({READABLE}) or a folder of them")


def _matches(pattern: Path) -> Iterator[Path]:
    names = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207  pathlib's needs a root
    files = [path for path in map(Path, names) if not path.is_dir()]
    if not files:
        raise PassageError(f"no file matches {pattern}: correct the pattern")
    for file in files:
        _check_suffix(file)
        yield file


def _files_in(folder: Path) -> Iterator[Path]:
    corpus = folder / BEIR_CORPUS
    if corpus.is_file():
        yield corpus
        return
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if decompressed_suffix(path) in SUFFIXES
        and not path.is_dir()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise PassageError(f"{folder} holds no file of passages: put {READABLE} files into it")
    yield from files


def _check_suffix(path: Path) -> None:
    """Check that a file has a suffix that says how to read it; a pipe needs none."""
    if path.is_file() and decompressed_suffix(path) not in SUFFIXES:
        raise PassageError(f"{path} is not {READABLE}: convert or rename it")
