"""Steps that run other programs: sentence-transformers, the training benchmark, the profiler."""

import itertools
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.settings.settings import load_settings
from tests.bench.corpus import ROOT
from tests.gpu.material import encoder_of, passages, texts
from tests.gpu.step import Machine, Result, Skip

ROWS = 512


def peers(machine: Machine) -> Result:
    """Measure sentence-transformers and plain transformers with the same weights and texts."""
    given = texts(machine.size(20_000, 32))
    folder = str(bundled_checkpoint(load_settings().cache))
    found: dict[str, Any] = {"texts": len(given), "ours": _rate(machine, _ours(machine), given)}
    found["transformers"] = _rate(machine, _transformers(machine, folder), given)
    if find_spec("sentence_transformers") is None:
        return {**found, "left_out": "sentence-transformers is not installed"}
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=machine.device).bfloat16()
    found["sentence_transformers"] = _rate(
        machine, lambda batch: model.encode(batch, batch_size=128, convert_to_tensor=True), given
    )
    return found


def training(machine: Machine) -> Result:
    """Measure the training of CLEAR plain, cached and with a frozen bridge."""
    if find_spec("sentence_transformers") is None:
        raise Skip("training needs sentence-transformers: pip install -e '.[trainer]'")
    rows = machine.work / "rows.jsonl"
    _write_rows(machine, rows)
    sizes = ["--batch", "256", "--micro-batch", "64", "--repeats", "5", "--memory", "64"]
    if machine.is_dry:
        sizes = ["--batch", "2", "--micro-batch", "1", "--repeats", "1", "--memory"]
    command = [sys.executable, "-m", "tests.bench.training_speed", "--rows", str(rows)]
    command += ["--device", machine.device, "--out", str(machine.work), "--label", "gpu"]
    subprocess.run([*command, *sizes], cwd=ROOT, check=True)
    (path,) = machine.work.glob("training_speed-gpu-*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return {name: content[name] for name in ("forms", "peak_mb_by_micro_batch")}


def profile(machine: Machine) -> Result:
    """Print where the time of a question and of bulk goes, and keep the longest operations."""
    encoder = encoder_of(machine)
    found = {}
    on_device = [] if machine.is_dry else [torch.profiler.ProfilerActivity.CUDA]
    order = "self_cpu_time_total" if machine.is_dry else "self_device_time_total"
    for name, given in (("question", texts(1)), ("bulk", texts(machine.size(4096, 16)))):
        encoder.encode(given, "query")
        activities = [torch.profiler.ProfilerActivity.CPU, *on_device]
        with torch.profiler.profile(activities=activities) as profiler:
            encoder.encode(given, "query")
            machine.synchronize()
        averages = profiler.key_averages()
        sys.stdout.write(averages.table(sort_by=order, row_limit=25))
        longest = sorted(averages, key=lambda each: -getattr(each, order))[:10]
        found[name] = {each.key: getattr(each, order) for each in longest}
    return found


def _ours(machine: Machine) -> Any:
    encoder = encoder_of(machine)
    return lambda batch: encoder.encode(batch, "query")


def _transformers(machine: Machine, folder: str) -> Any:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).to(machine.device, torch.bfloat16).eval()

    @torch.inference_mode()
    def encode(batch: list[str]) -> None:
        for start in range(0, len(batch), 128):
            some = batch[start : start + 128]
            inputs = tokenizer(
                some, padding=True, truncation=True, max_length=512, return_tensors="pt"
            )
            hidden = model(**inputs.to(machine.device)).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).cpu()

    return encode


def _rate(machine: Machine, encode: Any, given: list[str]) -> float:
    """Return texts a second."""
    encode(given[:256])
    machine.synchronize()
    started = time.perf_counter()
    encode(given)
    machine.synchronize()
    return len(given) / (time.perf_counter() - started)


def _write_rows(machine: Machine, path: Path) -> None:
    """Write training rows of the corpus; their languages are no matter for the speed."""
    with path.open("w", encoding="utf-8") as file:
        rows = itertools.islice(passages(machine), machine.size(ROWS, 4))
        for number, (_, passage) in enumerate(rows):
            query = passage.text[:60]
            row = {
                "query_id": str(number),
                "query": query,
                "translated_query": query,
                "language": "de",
                "passage_id": passage.passage_id,
                "positive": passage.text,
            }
            file.write(json.dumps(row) + "\n")
