r"""Training speed of each objective against the bare passes over the same tokens; peak memory.

Run: python -m tests.bench.training_speed --rows data/afriqa/rows.jsonl
     python -m tests.bench.training_speed --rows data/afriqa/rows.jsonl --batch 256 \
         --micro-batch 64 --memory 64 256      (on an otherwise idle GPU)

A step is what training does for a batch without the optimizer: tokenize, encode, loss, backward.
Bare is the transformer alone on the same padded tokens, forward and backward; for the cached form
it includes the second forward pass. Bare and step run in turns (A B A B), so that other load on the
machine affects both. Memory is measured in a separate process for each micro-batch size. On a GPU,
the result also has the share of the half-precision matmul throughput: the operations of the bare
passes, relative to those of a large product in the same time.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from service.retrieval.defaults import default_cache
from tests.bench.options import parser, say
from tests.bench.record import write_result
from trainer.config import EncoderConfig, ObjectiveConfig
from trainer.data.rows import Row, read_rows
from trainer.objective.batch import FrozenBridgeObjective, InBatchObjective
from trainer.objective.columns import passage_codes, text_columns
from trainer.objective.frozen import build_frozen_pool
from trainer.objective.loss import RetrievalLoss
from trainer.training.model import TrainableEncoder, load_trainable_encoder

FORMS = ("clear-plain", "clear-cached", "frozen-bridge")
MATMUL_SIZE = 8192


def main() -> None:
    """Measure every objective and write a JSON file."""
    made = parser(__doc__)
    made.add_argument("--rows", type=Path, required=True, help="training rows, JSON lines")
    made.add_argument("--batch", type=int, default=32)
    made.add_argument("--micro-batch", type=int, default=8, help="micro-batch of the cached form")
    made.add_argument("--repeats", type=int, default=7)
    made.add_argument("--memory", type=int, nargs="*", default=[2, 8, 32], help="micro-batches")
    made.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = made.parse_args()
    result: dict[str, Any] = {"forms": {}, "peak_mb_by_micro_batch": {}}
    for form in FORMS:
        result["forms"][form] = facts = _in_own_process(_measure, form, options)
        say(
            f"{form}: {facts['rows_per_second']} rows/s, {facts['ratio']} of the bare passes "
            f"({facts['all_ratios']})"
        )
    for size in options.memory:
        peak = _in_own_process(_peak_mb, size, options)
        result["peak_mb_by_micro_batch"][size] = peak
        say(f"micro-batch {size}: peak {peak} MB")
    write_result("training_speed", options, result)


def _in_own_process(measure: Callable[..., Any], *arguments: object) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def _load(form: str, options: argparse.Namespace) -> tuple[TrainableEncoder, list[Row]]:
    rank = 16 if form == "frozen-bridge" else 0
    config = EncoderConfig(lora_rank=rank)
    trainable = load_trainable_encoder(
        config, default_cache(), options.device, options.precision, seed=0
    )
    rows = [row for _, row in read_rows(options.rows)][: options.batch]
    trainable.model.train()
    # As accelerate does; the cached form also encodes in the backward pass.
    if trainable.precision == "bf16":
        autocast = torch.autocast(trainable.base.device.type, torch.bfloat16)
        trainable.model.forward = autocast(trainable.model.forward)
    return trainable, rows


def _loss(
    form: str, trainable: TrainableEncoder, rows: list[Row], micro_batch_rows: int | None
) -> tuple[RetrievalLoss, Tensor]:
    if form == "frozen-bridge":
        config = ObjectiveConfig(name="frozen_bridge", temperature=0.02)
        pool = build_frozen_pool(rows, trainable.base, default_cache(), lambda *_: None)
        labels = torch.arange(len(rows), device=trainable.base.device)[:, None]
        return RetrievalLoss(trainable.model, FrozenBridgeObjective(config, pool, 0.02)), labels
    objective = InBatchObjective(ObjectiveConfig(), 0, 0.02)
    loss = RetrievalLoss(trainable.model, objective, micro_batch_rows=micro_batch_rows)
    return loss, torch.tensor(passage_codes(rows, 0), device=trainable.base.device)


def _measure(form: str, options: argparse.Namespace) -> dict[str, Any]:
    trainable, rows = _load(form, options)
    micro = options.micro_batch if form == "clear-cached" else None
    loss, labels = _loss(form, trainable, rows, micro)
    texts = text_columns(rows, loss.columns, trainable.base.prepare)
    is_bf16 = trainable.precision == "bf16"
    device = trainable.base.device

    def features() -> list[dict[str, Any]]:
        return _features(trainable, texts)

    batches = [each.features for each in loss.cut(features())]

    def step() -> None:
        terms = loss(features(), labels)
        torch.stack(list(terms.values())).sum().backward()

    def bare() -> None:
        for batch in batches:
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
                if micro:
                    with torch.no_grad():
                        trainable.transformer(**inputs)
                hidden = trainable.transformer(**inputs).last_hidden_state
            hidden.float().mean().backward()

    def seconds_of(run: Callable[[], None]) -> float:
        trainable.model.zero_grad(set_to_none=True)
        return _seconds_of(run, device)

    seconds_of(bare), seconds_of(step)  # warm-up
    pairs = [(seconds_of(bare), seconds_of(step)) for _ in range(options.repeats)]
    ratios = sorted(one / other for one, other in pairs)
    step_seconds = statistics.median(step for _, step in pairs)
    found = {
        "rows_per_second": round(len(rows) / step_seconds, 2),
        "ratio": round(statistics.median(ratios), 3),
        "all_ratios": [round(ratio, 3) for ratio in ratios],
        "tokens_per_row": round(sum(int(b["attention_mask"].sum()) for b in batches) / len(rows)),
        "precision": trainable.precision,
    }
    if device.type == "cpu":
        return found
    with FlopCounterMode(display=False) as counter:
        bare()
    return found | _gpu_utilization(counter.get_total_flops() / step_seconds, device)


def _features(trainable: TrainableEncoder, texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Tokenize each column, as the trainer's collator does, and move it to the device."""
    tokenized = [trainable.model.preprocess(column) for column in texts.values()]
    return [
        {
            name: value.to(trainable.base.device) if isinstance(value, Tensor) else value
            for name, value in column.items()
        }
        for column in tokenized
    ]


def _seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, including the work that it started on the device."""
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _gpu_utilization(flops: float, device: torch.device) -> dict[str, float]:
    """Compare operations per second with those of a half-precision matmul of random numbers."""
    left, right = torch.randn(2, MATMUL_SIZE, MATMUL_SIZE, device=device, dtype=torch.bfloat16)
    seconds = [_seconds_of(lambda: left @ right, device) for _ in range(13)]
    peak = 2 * MATMUL_SIZE**3 / statistics.median(seconds[3:])
    return {
        "tflop_per_second": round(flops / 1e12, 1),
        "matmul_tflop_per_second": round(peak / 1e12, 1),
        "share_of_matmul": round(flops / peak, 3),
    }


def _peak_mb(micro_batch_rows: int, options: argparse.Namespace) -> int:
    trainable, rows = _load("clear-cached", options)
    loss, labels = _loss("clear-cached", trainable, rows, micro_batch_rows)
    texts = text_columns(rows, loss.columns, trainable.base.prepare)
    terms = loss(_features(trainable, texts), labels)
    torch.stack(list(terms.values())).sum().backward()
    if trainable.base.device.type == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
