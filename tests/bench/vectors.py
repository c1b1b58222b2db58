"""Vectors of the index benchmarks: up to millions of passages, and real questions.

A vector is the embedding of a real passage plus half the difference of two others, normalized to
unit length. The noise thus has the covariance of real embeddings; isotropic noise could not be
quantized. Questions are XQuAD's in eight languages, encoded without noise.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.components import load_encoder_of
from service.settings.settings import load_settings
from tests.bench.options import say
from tests.bench.texts import questions

Vectors = NDArray[np.float32]
BLOCK_ROWS = 65_536
NOISE = 0.5
NUM_QUERIES = 1000
SEED = 20_251


def ensure_vectors(options: argparse.Namespace, count: int) -> Vectors:
    """Return `count` memory-mapped vectors, [count, D]; draw them the first time."""
    path = Path(options.work) / f"vectors-{count}.f32"
    real = _real(options)["passages"]
    shape = (count, real.shape[1])
    if not path.is_file():
        generator = np.random.default_rng(SEED)
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            for start in range(0, count, BLOCK_ROWS):
                size = min(BLOCK_ROWS, count - start)
                base, plus, minus = real[generator.integers(len(real), size=(3, size))]
                file.write(_unit(base + NOISE * (plus - minus)).tobytes())
        partial.rename(path)
    return np.memmap(path, np.float32, "r", shape=shape)


def ensure_queries(options: argparse.Namespace) -> Vectors:
    """Return the embeddings of the questions, [NUM_QUERIES, D]."""
    return _real(options)["queries"]


def _real(options: argparse.Namespace) -> dict[str, Vectors]:
    path = Path(options.work) / "real-embeddings.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder = load_encoder_of(load_settings())
        passages = sorted(set(_passages(options.data.parent)))
        asked = [each.text for each in questions(options.data)][:NUM_QUERIES]
        say(f"encoding {len(passages)} passages and {len(asked)} questions")
        np.savez(
            path,
            passages=encoder.encode(passages, "passage").embeddings,
            queries=encoder.encode(asked, "query").embeddings,
        )
    with np.load(path) as content:
        return dict(content)


def _passages(data: Path) -> Iterator[str]:
    """Yield English passages: AfriQA's, XQuAD's paragraphs, NTREX's sentences."""
    for path in sorted(data.glob("afriqa/*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["context"]:
                yield f"{record['title'] or ''} {record['context']}".strip()
    for article in json.loads((data / "xquad" / "xquad.en.json").read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            yield f"{article['title']} {paragraph['context']}"
    yield from (data / "ntrex" / "newstest2019-src.eng.txt").read_text("utf-8").splitlines()


def _unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
