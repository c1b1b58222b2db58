"""Speed and memory of the training steps of a configuration, on its own rows and batches.

Run: python -m tests.bench.training_recipe --config trainer/configs/default.toml

A step is what training does for a batch without the optimizer: tokenize, encode, loss, backward.
`share_of_matmul` compares the operations of the encoder, without padding's, with those of a bare
matrix product in the same time. Processor seconds a row depend little on other processes.
"""

import itertools
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from service.retrieval.defaults import default_cache
from tests.bench.options import parser, say
from tests.bench.record import write_result
from trainer.config import read_config
from trainer.data.training_rows import read_training_rows
from trainer.objective.build import build_objective
from trainer.objective.columns import text_columns
from trainer.objective.loss import RetrievalLoss
from trainer.training.model import TrainableEncoder, load_trainable_encoder
from trainer.training.sampler import LanguageSampler

MATMUL_SHAPE = (2048, 384, 1536)  # the widest product of a small encoder's layer


def main() -> None:
    """Measure the steps and write a JSON file."""
    made = parser(__doc__)
    made.add_argument("--config", type=Path, required=True)
    made.add_argument("--steps", type=int, default=5)
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    result = _measure(options.config, options.steps, options.device)
    say(str(result))
    write_result("training_recipe", options, result)


def _measure(path: Path, steps: int, device: str) -> dict[str, Any]:
    config = read_config(path)
    is_bridge = config.objective.freezes_passages
    rows = read_training_rows(config.data, config.seed, is_bridge=is_bridge)
    trainable = load_trainable_encoder(
        config.encoder, default_cache(), device, config.optimizer.precision, config.seed
    )
    made = build_objective(config, rows.rows, trainable.base, default_cache(), lambda *_: None)
    loss = RetrievalLoss(
        trainable.model,
        made.objective,
        micro_batch_tokens=config.optimizer.micro_batch_tokens or None,
    )
    columns = text_columns(rows.rows, loss.columns, trainable.base.prepare)
    sampler = LanguageSampler(
        Dataset.from_dict({"label": made.labels}),
        config.optimizer.batch_rows,
        drop_last=True,
        groups=rows.groups,
        passage_ids=[row.passage_id for row in rows.rows],
        shares=rows.shares,
        seed=config.seed,
    )
    trainable.model.train()
    wall, processor, tokens = [], [], 0
    for number, batch in enumerate(itertools.islice(sampler, steps + 1)):
        texts = {name: [column[row] for row in batch] for name, column in columns.items()}
        labels = torch.tensor([made.labels[row] for row in batch], device=trainable.base.device)
        started, started_cpu = time.perf_counter(), time.process_time()
        count = _step(trainable, loss, texts, labels)
        if number:  # the first is a warm-up
            wall.append(time.perf_counter() - started)
            processor.append(time.process_time() - started_cpu)
            tokens += count
    batch_rows = config.optimizer.batch_rows
    with FlopCounterMode(display=False) as counter:
        _step(trainable, loss, texts, labels)
    flops = counter.get_total_flops()
    peak = _matmul_flops_per_second(trainable)
    return {
        "rows_per_second": round(batch_rows * len(wall) / sum(wall), 2),
        "processor_seconds_per_row": round(statistics.median(processor) / batch_rows, 4),
        "tokens_per_row": round(tokens / len(wall) / batch_rows, 1),
        "share_of_matmul": round(flops / wall[-1] / peak, 3),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "precision": trainable.precision,
        "threads": torch.get_num_threads(),
    }


def _step(
    trainable: TrainableEncoder, loss: RetrievalLoss, texts: dict[str, list[str]], labels: Tensor
) -> int:
    """Compute the gradients of a batch and return its number of tokens."""
    trainable.model.zero_grad(set_to_none=True)
    prompt = trainable.base.prompts["query"]
    features = [
        {
            name: value.to(labels.device) if isinstance(value, Tensor) else value
            for name, value in trainable.model.preprocess(column, prompt=prompt).items()
        }
        for column in texts.values()
    ]
    tokens = sum(int(column["attention_mask"].sum()) for column in features)
    is_bf16 = trainable.precision == "bf16"
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=is_bf16):
        terms = loss(features, labels)
    torch.stack(list(terms.values())).sum().backward()
    return tokens


def _matmul_flops_per_second(trainable: TrainableEncoder) -> float:
    rows, inner, columns = MATMUL_SHAPE
    dtype = torch.bfloat16 if trainable.precision == "bf16" else torch.float32
    left = torch.randn(rows, inner, device=trainable.base.device, dtype=dtype)
    right = torch.randn(inner, columns, device=trainable.base.device, dtype=dtype)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        product = left @ right
        _ = float(product[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 2 * rows * inner * columns / statistics.median(seconds)


if __name__ == "__main__":
    main()
