"""Cost of an index update of one passage, and whether its bytes equal those of a fresh build.

Run: python -m tests.bench.update                                          (100,000 passages)
     python -m tests.bench.update --encoder bundled --passages 2000        (checks only the bytes)

The default encoder has no weights, so that the update is measured without encoding. The time of a
stage runs from the last report of the previous stage to its own last report; `read` includes the
hashing of the current generation.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from service.components import load_encoder_of
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.indexing.build import BuildReport, build_index, update_index
from service.settings.settings import load_settings
from tests.bench.corpus import corpus_passages
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.conftest import make_checkpoint
from tests.support.fake_runtime import FakeRuntime


class Clock:
    """A progress callback that records the seconds of each stage of a build."""

    def __init__(self) -> None:
        """Start the clock."""
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Add the time since the last report to the stage of this one."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def stop(self) -> dict[str, float]:
        """Add the remaining time; return the seconds by stage."""
        self("publish", 1, 1)
        return {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}


def write_corpus(path: Path, count: int, changed: int | None = None) -> Path:
    """Write distinct passages; optionally change the text of one; return the file."""
    entries = list(corpus_passages())
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            entry = entries[number % len(entries)]
            text = f"{'changed ' * (number == changed)}{number} {entry['text']}"
            record = {**entry, "id": f"{number:08}", "text": text}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def timed(
    write: Callable[..., BuildReport], passages: Path, index: Path, encoder: Encoder
) -> dict[str, object]:
    """Build or update an index and measure the time."""
    clock = Clock()
    report = write(read_passages(passages), index, encoder, on_progress=clock)
    stages = clock.stop()
    seconds = round(sum(stages.values()), 2)
    say(f"{write.__name__} {report.directory.name} {report.counts} {stages}: {seconds} s")
    return {"generation": report.directory.name, "stages": stages, "seconds": seconds}


def load_weightless_encoder(work: Path) -> Encoder:
    """Return an encoder without weights: random embeddings of 384 dimensions by token ids."""
    encoder = load_encoder(str(make_checkpoint(work / "tiny", max_tokens=256)), device="cpu")
    runtime = FakeRuntime(384)
    encoder.runtime, encoder.embedding_dim = runtime, runtime.embedding_dim
    return encoder


def main() -> None:
    """Build an index, update one passage, build again from scratch, compare."""
    made = parser(__doc__)
    made.add_argument("--passages", type=int, default=100_000)
    made.add_argument("--encoder", default="", help="default: one without weights")
    options = made.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        if options.encoder:
            encoder = load_encoder_of(load_settings(encoder=options.encoder))
        else:
            encoder = load_weightless_encoder(work)
        old = write_corpus(work / "old.jsonl", options.passages)
        new = write_corpus(work / "new.jsonl", options.passages, options.passages // 2)
        built = timed(build_index, old, work / "updated", encoder)
        updated = timed(update_index, new, work / "updated", encoder)
        fresh = timed(build_index, new, work / "fresh", encoder)
    # The name of a generation is the hash of its manifest, which has the hashes of all its files.
    is_equal = updated["generation"] == fresh["generation"]
    say(f"the update {'has' if is_equal else 'does not have'} the bytes of the fresh build")
    result = {"built": built, "updated": updated, "fresh": fresh, "is_equal": is_equal}
    write_result("update", options, {"runtime": encoder.runtime.name, **result})


if __name__ == "__main__":
    main()
