"""Steps that measure speed beside the card's own limits."""

import statistics
import time
from typing import Any

import torch

from service.lifespan import load_engine
from service.retrieval.searcher import Searcher
from service.telemetry.metrics import Metrics
from tests.gpu.material import encoder_of, ensure_index, seconds_of, settings_of, texts
from tests.gpu.step import Machine, Result

TOP_K = 10


def limits(machine: Machine) -> Result:
    """Measure the card's matrix products in half precision, and its copies."""
    facts: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if not machine.is_dry:
        facts["card"] = torch.cuda.get_device_name()
        facts["memory_gib"] = round(torch.cuda.mem_get_info()[1] / 2**30, 1)
    values = torch.empty(machine.size(2**30, 2**20), dtype=torch.int32, device=machine.device)
    other = torch.empty_like(values)
    copied = 2 * values.numel() * values.element_size()
    copy_seconds = seconds_of(machine, lambda: other.copy_(values))
    return {
        **facts,
        "matmul_tflops": matmul_flops(machine) / 1e12,
        "copy_gb_per_second": copied / copy_seconds / 1e9,
    }


def matmul_flops(machine: Machine) -> float:
    """Return the operations a second of a large product in half precision."""
    size = machine.size(8192, 256)
    left, right = torch.randn(2, size, size, device=machine.device).bfloat16()
    return 2 * size**3 / seconds_of(machine, lambda: left @ right)


def queries(machine: Machine) -> Result:
    """Measure questions in one process, by batch size: tokens, forward pass, search, hits."""
    engine = load_engine(settings_of(machine, index=ensure_index(machine)), Metrics())
    try:
        engine.warm_up()
        searcher, asked = engine.searcher, texts(machine.size(4096, 16))
        asked = [text.partition("?")[0] for text in asked]
        sizes = [size for size in (1, 8, 64, 512) if size <= len(asked)]
        found = {f"batch_{size}": _speed(searcher, asked[:size], machine) for size in sizes}
        return {"runtime": searcher.encoder.runtime.name, **found}
    finally:
        engine.close()


def _speed(searcher: Searcher, batch: list[str], machine: Machine) -> Result:
    encoder = searcher.encoder
    padded = encoder.pad(encoder.tokenize(batch, "query"))
    whole = seconds_of(machine, lambda: searcher.search(batch, TOP_K), 20)
    return {
        "milliseconds": whole * 1000,
        "forward_milliseconds": 1000 * seconds_of(machine, lambda: encoder.embed(padded), 20),
        "questions_per_second": len(batch) / whole,
    }


def bulk(machine: Machine) -> Result:
    """Measure bulk encoding: tokens a second, and the share of the card's matrix products."""
    encoder, given = encoder_of(machine), texts(machine.size(20_000, 32))
    lengths = [len(each.token_ids) for each in encoder.tokenize(given, "passage")]
    encoder.encode(given[: max(1, len(given) // 10)], "passage")
    started = time.perf_counter()
    encoder.encode(given, "passage")
    machine.synchronize()
    rate = sum(lengths) / (time.perf_counter() - started)
    weights = operations_a_token(machine)
    return {
        "runtime": encoder.runtime.name,
        "texts": len(given),
        "mean_tokens": statistics.mean(lengths),
        "tokens_per_second": rate,
        "share_of_matmul": rate * weights / matmul_flops(machine),
    }


def operations_a_token(machine: Machine) -> float:
    """Return the operations of the linear layers for a token; attention comes on top."""
    model: Any = encoder_of(machine, device="cpu", cpu_engine="torch", precision="fp32")
    linear = [each for each in model.runtime._model.modules() if isinstance(each, torch.nn.Linear)]
    return float(sum(2 * each.weight.numel() for each in linear))
