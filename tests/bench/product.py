"""The share of the machine's matrix product that serving and a build reach.

Run: python -m tests.bench.product --precision fp32 --clients 64 --seconds 15

The bare product is that of the encoder's own shapes on all cores, by PyTorch or OpenVINO, whichever
is faster, measured before and after each load. Of a load, only the products of real tokens count:
padding, tokenizer, index, HTTP and the client are losses.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.components import load_encoder_of
from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.runtime.memory import TextCost
from service.retrieval.encoder.runtime.openvino.core import compile_graph, import_openvino
from service.retrieval.indexing.build import build_index
from service.settings.settings import load_settings
from tests.bench.closed_loop import measure
from tests.bench.corpus import corpus_passages, ensure_index
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import our_service, served
from tests.bench.texts import questions, search_bodies, write_bodies
from tests.bench.wrk import find_wrk

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROWS = 2048
PRODUCT_SECONDS = 1.5
ENCODER = "bundled-base"
TOKENS = 'clear_batch_tokens_total{kind="text",lane="query"}'
ITEMS = "clear_batch_items_sum"


def main() -> None:
    """Measure the bare product, serving and a build."""
    made = parser(__doc__)
    made.add_argument("--precision", choices=list(TYPES), default="fp32")
    made.add_argument("--clients", type=int, default=64)
    made.add_argument("--seconds", type=float, default=15.0)
    made.add_argument("--passages", type=int, default=1500, help="of the build")
    made.add_argument("--rounds", type=int, default=2)
    options = made.parse_args()
    find_wrk()
    settings = load_settings(encoder=ENCODER, cpu_engine="openvino", precision=options.precision)
    config = open_checkpoint(ENCODER, settings.cache).passage.config
    cost = TextCost.of(config)
    assert cost is not None
    rounds = []
    for _ in range(options.rounds):
        products = [bare_product(cost, options.precision)]
        serving = serve(options, cost)
        products.append(bare_product(cost, options.precision))
        building = build(options, cost)
        products.append(bare_product(cost, options.precision))
        bare = statistics.mean(products)
        rounds.append(
            {
                "bare_gflops": [round(each, 1) for each in products],
                "serving": serving,
                "building": building,
                "serving_share": round(float(str(serving["gflops"])) / bare, 3),
                "building_share": round(float(str(building["gflops"])) / bare, 3),
            }
        )
        say(str(rounds[-1]))
    write_result("product", options, {"rounds": rounds})


def bare_product(cost: TextCost, precision: str) -> float:
    """Return the GFLOPS of the encoder's largest product on all cores, of the faster library."""
    hidden, inner = cost.hidden_size, cost.intermediate_size
    states = torch.randn(ROWS, hidden)
    weights = torch.randn(hidden, inner)
    by_torch = [each.to(TYPES[precision]) for each in (states, weights)]
    out = torch.empty(ROWS, inner, dtype=TYPES[precision])
    request = _product_graph(weights, precision).create_infer_request()
    inputs = [states.numpy()]
    runs: list[Callable[[], object]] = [
        lambda: torch.mm(*by_torch, out=out),
        lambda: request.infer(inputs, share_inputs=True),
    ]
    with torch.inference_mode():
        seconds = min(_median_seconds(run) for run in runs)
    return 2 * ROWS * hidden * inner / seconds / 10**9


def _product_graph(weights: Tensor, precision: str) -> Any:
    openvino = import_openvino()
    from openvino import opset13 as ops

    states = ops.parameter([ROWS, len(weights)], np.float32)
    product = ops.matmul(states, ops.constant(weights.numpy()), False, False)
    return compile_graph(openvino.Model([product], [states]), precision)


def _median_seconds(run: Callable[[], object]) -> float:
    seconds: list[float] = []
    run()
    while sum(seconds) < PRODUCT_SECONDS:
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def serve(options: argparse.Namespace, cost: TextCost) -> dict[str, object]:
    """Return the GFLOPS of the service under the load of some clients."""
    bodies = search_bodies(questions(options.data))
    path = write_bodies(bodies, options.work / "product-search.jsonl")
    environment = {
        **environment_of(options),
        "CLEAR_ENCODER": ENCODER,
        "CLEAR_CPU_ENGINE": "openvino",
        "CLEAR_PRECISION": options.precision,
    }
    log = options.work / "logs" / "product.log"
    with our_service(ensure_index(options.work), options.port, environment, log) as server:
        facts = {"served": served(server)}
        found = measure(server, "search", path, options.clients, options.seconds, options.warm_up)
    counters, costs = found["counters"], found["costs"]
    assert isinstance(counters, dict) and isinstance(costs, dict)
    tokens, items = float(counters[TOKENS]), float(counters[ITEMS])
    operations = items * operations_of(cost, [round(tokens / items)])
    gflops = operations / float(costs["seconds"]) / 10**9
    return {**found, **facts, "gflops": round(gflops, 1)}


def build(options: argparse.Namespace, cost: TextCost) -> dict[str, object]:
    """Return the GFLOPS of a build, from tokenizing to publishing."""
    settings = load_settings(encoder=ENCODER, cpu_engine="openvino", precision=options.precision)
    encoder = load_encoder_of(settings)
    made = islice(corpus_passages(), options.passages)
    passages = [(each["id"], Passage(each["id"], each["text"], each["title"], {})) for each in made]
    texts = [passage.encoder_text for _, passage in passages]
    lengths = [len(each.token_ids) for each in encoder.tokenize(texts, "passage")]
    encoder.encode(texts[:64], "passage")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        begun = time.monotonic()
        build_index(passages, Path(folder) / "index", encoder)
        seconds = time.monotonic() - begun
    gflops = operations_of(cost, lengths) / seconds / 10**9
    return {
        "passages_per_minute": round(len(texts) / seconds * 60),
        "tokens": round(statistics.mean(lengths)),
        "gflops": round(gflops, 1),
    }


def operations_of(cost: TextCost, lengths: Sequence[int]) -> float:
    """Return the floating-point operations of texts: two for each multiplication."""
    return sum(2.0 * cost.num_layers * cost.products(length) for length in lengths)


if __name__ == "__main__":
    main()
