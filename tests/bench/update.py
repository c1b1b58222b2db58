"""What an update of one passage costs, and whether it has the bytes of a fresh build.

Run: python -m tests.bench.update                                          (100,000 passages)
     python -m tests.bench.update --encoder bundled --passages 2000        (equal bytes alone)

The default encoder has no weights, so that the update is measured without encoding. A stage's time
goes from the last report of the one before to its own last: `read` holds the live one's hashes.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from service.loading import load_encoder_of
from service.retrieval.build.build import BuildReport, build_index, update_index
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.settings.settings import load_settings
from tests.bench.corpus import corpus_passages
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.conftest import make_checkpoint
from tests.support.fake_runtime import FakeRuntime


class Clock:
    """Seconds by stage, from the reports of a build."""

    def __init__(self) -> None:
        """Start."""
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Count the time since the last report to this one's stage."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def stop(self) -> dict[str, float]:
        """Count the rest, and tell all."""
        self("publish", 1, 1)
        return {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}


def write_corpus(path: Path, count: int, changed: int | None = None) -> Path:
    """Write passages that all differ; the text of one may be another than in the last corpus."""
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
    """Build or update, and time it."""
    clock = Clock()
    report = write(read_passages(passages), index, encoder, on_progress=clock)
    stages = clock.stop()
    seconds = round(sum(stages.values()), 2)
    say(f"{write.__name__} {report.directory.name} {report.counts} {stages}: {seconds} s")
    return {"generation": report.directory.name, "stages": stages, "seconds": seconds}


def weightless(work: Path) -> Encoder:
    """Make an encoder that costs next to nothing: random embeddings of 384 by token ids."""
    encoder = load_encoder(str(make_checkpoint(work / "tiny", max_tokens=256)), device="cpu")
    runtime = FakeRuntime(384)
    encoder.runtime, encoder.embedding_dim = runtime, runtime.embedding_dim
    return encoder


def main() -> None:
    """Build, change one passage, update, build afresh, compare."""
    made = parser(__doc__)
    made.add_argument("--passages", type=int, default=100_000)
    made.add_argument("--encoder", default="", help="by default one without weights")
    options = made.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        if options.encoder:
            encoder = load_encoder_of(load_settings(encoder=options.encoder))
        else:
            encoder = weightless(work)
        old = write_corpus(work / "old.jsonl", options.passages)
        new = write_corpus(work / "new.jsonl", options.passages, options.passages // 2)
        built = timed(build_index, old, work / "updated", encoder)
        updated = timed(update_index, new, work / "updated", encoder)
        fresh = timed(build_index, new, work / "fresh", encoder)
    # A generation is named by the hash of its manifest, which holds those of all its files.
    is_equal = updated["generation"] == fresh["generation"]
    say(f"the update {'has' if is_equal else 'does not have'} the bytes of the fresh build")
    result = {"built": built, "updated": updated, "fresh": fresh, "is_equal": is_equal}
    write_result("update", options, {"runtime": encoder.runtime.name, **result})


if __name__ == "__main__":
    main()
