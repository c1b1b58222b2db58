"""Start, memory and time of an encoder of 8,192 tokens: a random XLM-R of bge-m3's shape.

Run: python -m tests.bench.long_encoder --precisions fp32 bf16

The encoder has 24 layers, 16 heads, 1,024 dimensions and 568 million parameters, and the bundled
encoder's tokenizer. Each start is a process of its own. Another process samples its memory (PSS),
and that of the process that makes the graph, ten times a second. Made once in `--work` (2.3 GB).
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from service.components import load_encoder_of
from service.engine.engine import Engine
from service.lifespan import load_engine
from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.corpus.reader import read_passages
from service.retrieval.indexing.build import build_index
from service.settings.settings import load_settings
from service.telemetry.metrics import Metrics
from tests.bench.options import parser, say
from tests.bench.record import write_result

MAX_TOKENS = 8192
TEXT = "Nairobi ist die Hauptstadt; القاهرة عاصمة مصر; 東京は日本の首都です. "
SECONDS_BETWEEN_SAMPLES = 0.1
MEGABYTE = 10**6


def make_encoder(directory: Path) -> Path:
    """Write the random encoder, unless it is there."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    if (directory / "modules.json").exists():
        return directory
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
    )
    XLMRobertaModel(config).save_pretrained(directory)
    shutil.copy(bundled_checkpoint(load_settings().cache) / "tokenizer.json", directory)
    modules = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    files: dict[str, object] = {
        "1_Pooling/config.json": {"pooling_mode": "cls", "embedding_dimension": 1024},
        "tokenizer_config.json": {"model_max_length": MAX_TOKENS},
        "modules.json": [
            {"idx": index, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (kind, path) in enumerate(modules.items())
        ],
    }
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    return directory


def serve_in_process(encoder: Path, index: Path, cache: Path, precision: str) -> None:
    """Do what a start does, then one question and one passage of 8,192 tokens; say each step."""
    settings = load_settings(
        encoder=str(encoder), index=index, cache=cache, device="cpu", precision=precision
    )
    say("imported")
    if not index.exists():
        records = [{"id": str(number), "text": TEXT * number} for number in range(1, 4)]
        file = index.with_suffix(".jsonl")
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        build_index(read_passages(file), index, load_encoder_of(settings))
        say("built")
        return
    engine = load_engine(settings, Metrics())
    say(f"loaded by {engine.searcher.encoder.runtime.name}")
    engine.warm_up()
    say("started")
    asyncio.run(ask(engine))
    say("one question")
    engine.close()
    long_text = engine.searcher.encoder.tokenize([TEXT * MAX_TOKENS], "passage")
    assert len(long_text[0].token_ids) == MAX_TOKENS
    engine.searcher.encoder.encode_tokenized(long_text)
    say("one passage of 8192 tokens")


async def ask(engine: Engine) -> None:
    """Search one question."""
    deadline = time.monotonic() + 60
    await engine.search(
        ["What is the capital of Kenya?"], top_k=3, min_score=-1, language=None, deadline=deadline
    )


def measured_steps(command: list[str]) -> Iterator[dict[str, object]]:
    """Run a process; yield the seconds, and the peak of its memory and its children's, by step."""
    peaks = {"own": 0.0, "children": 0.0}
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines: list[str] = []
        reading = _read_in_thread(process, lines)
        while reading.is_alive() or lines:
            peaks["own"] = max(peaks["own"], _pss(process.pid))
            children = sum(map(_pss, _children_of(process.pid)))
            peaks["children"] = max(peaks["children"], children)
            while lines:
                yield {
                    "step": lines.pop(0),
                    "seconds": round(time.monotonic() - started, 1),
                    "peak_mb": round(peaks["own"]),
                    "peak_mb_of_children": round(peaks["children"]),
                }
                peaks, started = {"own": 0.0, "children": 0.0}, time.monotonic()
            time.sleep(SECONDS_BETWEEN_SAMPLES)
    if process.returncode:
        raise SystemExit(f"the process ended with {process.returncode}")


def _read_in_thread(process: "subprocess.Popen[str]", lines: list[str]) -> threading.Thread:
    def read() -> None:
        assert process.stdout
        lines.extend(line.strip() for line in process.stdout)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _pss(process_id: int) -> float:
    try:
        text = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 / MEGABYTE if found else 0.0


def _children_of(process_id: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process_id}/task").iterdir())
        return [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    """Make the encoder, start it from a cold and a warm cache, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    made.add_argument("--serve", nargs=4, metavar=("ENCODER", "INDEX", "CACHE", "PRECISION"))
    options = made.parse_args()
    if options.serve:
        encoder, index, cache = map(Path, options.serve[:3])
        return serve_in_process(encoder, index, cache, options.serve[3])
    encoder = make_encoder(options.work / "long_encoder")
    weights = (encoder / "model.safetensors").stat().st_size / MEGABYTE
    say(f"weights: {weights:.0f} MB")
    results = {"weights_mb": round(weights), "starts": list(starts(options, encoder))}
    write_result("long_encoder", options, results)


def starts(options: argparse.Namespace, encoder: Path) -> Iterator[dict[str, object]]:
    """Yield the steps of each start: a cold cache first, then a warm one for each precision."""
    cache = options.work / "long_encoder_cache"
    shutil.rmtree(cache, ignore_errors=True)
    for precision in options.precisions:
        index = options.work / f"long_encoder_index_{precision}"
        shutil.rmtree(index, ignore_errors=True)
        for kind in ("build", "start"):
            arguments = [str(encoder), str(index), str(cache), precision]
            command = [sys.executable, "-m", "tests.bench.long_encoder", "--serve", *arguments]
            for step in measured_steps(command):
                found = {"precision": precision, "kind": kind, **step}
                say(json.dumps(found))
                yield found


if __name__ == "__main__":
    main()
