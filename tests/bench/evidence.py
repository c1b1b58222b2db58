"""How often evidence holds the answer, by language and by how segments are embedded.

Run: python -m tests.bench.evidence --data data/xquad --afriqa data/afriqa --ways titled late

XQuAD's questions are for exploring, AfriQA's dev set decides. The passage is the one that answers,
of at least two segments. Shares of the questions:

    segment      the best segment holds the whole answer
    evidence     the one or two segments that are the evidence hold it
    chance       so many segments side by side, anywhere in the passage, hold it
    marked       of the passage's characters that are evidence
    shown        the evidence leads the other segments, so that a search shows it
    shown right  of these: it holds the answer

Ways to embed segments:

    untitled   each segment is embedded alone
    titled     the passage's title stands before it: what `index build --evidence` does
    neighbors  the segment before it, too
    late       its tokens are pooled from the passage's own forward pass (late chunking)
    late-title its tokens and the title's
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import encode_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.on_demand import load
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.evidence.segments import Span, segment_texts, spans_of
from service.retrieval.evidence.table import answering, best_of, directions, quantized
from tests.bench.answer_sets import Question, read_afriqa, read_xquad
from tests.bench.options import parser, say
from tests.bench.record import write_result

Segments = list[list[Span]]


@dataclass(frozen=True)
class Judged:
    """Whether the best segment and the evidence hold the answer, and what chance would give."""

    is_best_right: bool
    is_right: bool
    chance: float
    marked: float
    is_shown: bool


def main() -> None:
    """Measure each way on each set."""
    made = parser(__doc__)
    made.add_argument("--encoder", default="bundled")
    made.add_argument("--afriqa", type=Path, help="the folder of AfriQA's gold passages")
    made.add_argument("--ways", nargs="+", choices=WAYS, default=["untitled", "titled"])
    made.add_argument("--most", type=int, default=300, help="questions of a language")
    options = made.parse_args()
    engine = "torch" if any(way.startswith("late") for way in options.ways) else "auto"
    encoder = load_encoder(options.encoder, device="cpu", cpu_engine=engine)
    sets = {"xquad": read_xquad(options.data, options.most)}
    if options.afriqa:
        sets["afriqa"] = read_afriqa(options.afriqa, options.most)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (passages, asked) in sets.items():
        segments = [spans_of(passage.text) for passage in passages]
        vectors = {way: WAYS[way](encoder, passages, segments) for way in options.ways}
        for language, questions in asked.items():
            queries = encoder.encode([each.text for each in questions], "query").embeddings
            shares = measure(questions, queries, segments, vectors)
            found.setdefault(name, {})[language] = shares
            values = ", ".join(f"{way} {share:.3f}" for way, share in shares.items())
            say(f"{name} {language:>3} {values}")
    write_result("evidence", options, {"found": found})


def measure(
    questions: Sequence[Question],
    queries: Embeddings,
    segments: Segments,
    vectors: dict[str, list[Embeddings]],
) -> dict[str, float]:
    """Return the number of questions that count, and the shares of each way."""
    found: dict[str, list[Judged]] = {way: [] for way in vectors}
    for question, query in zip(questions, queries, strict=True):
        spans = segments[question.row]
        if len(spans) < 2:
            continue
        for way, embeddings in vectors.items():
            scores = (embeddings[question.row] @ query).tolist()
            found[way].append(judge(scores, spans, question.answer))
    shares: dict[str, float] = {}
    for way, judged in found.items():
        shown = [each for each in judged if each.is_shown]
        values = {
            "segment": [each.is_best_right for each in judged],
            "evidence": [each.is_right for each in judged],
            "chance": [each.chance for each in judged],
            "marked": [each.marked for each in judged],
            "shown": [each.is_shown for each in judged],
            "shown right": [each.is_right for each in shown],
        }
        shares["questions"] = len(judged)
        shares |= {f"{way}, {name}": float(np.mean(each)) for name, each in values.items()}
    return shares


def judge(scores: list[float], spans: list[Span], answer: Span) -> Judged:
    """Judge the evidence that scores choose for a question."""
    start, end = answer
    first, last = answering(scores)

    def holds(row: int, following: int) -> bool:
        return spans[row][0] <= start and end <= spans[following][1]

    size = last - first
    windows = [holds(row, row + size) for row in range(len(spans) - size)]
    best = scores.index(max(scores))
    length = sum(b - a for a, b in spans)
    return Judged(
        holds(best, best),
        holds(first, last),
        sum(windows) / len(windows),
        sum(b - a for a, b in spans[first : last + 1]) / length,
        best_of(scores, [place for span in spans for place in span]) is not None,
    )


def embed(encoder: Encoder, texts: list[list[str]]) -> list[Embeddings]:
    """Return the embeddings of each passage's texts, as the index keeps them: in int8."""
    vectors = directions(quantized(encode_passages(encoder, sum(texts, [])).embeddings))
    return np.split(vectors, np.cumsum([len(each) for each in texts])[:-1])


def untitled(encoder: Encoder, passages: Sequence[Passage], segments: Segments) -> list[Embeddings]:
    """Embed each segment alone."""
    rows = zip(passages, segments, strict=True)
    return embed(encoder, [[each.text[a:b] for a, b in spans] for each, spans in rows])


def titled(encoder: Encoder, passages: Sequence[Passage], segments: Segments) -> list[Embeddings]:
    """Embed each segment with the title before it."""
    return embed(encoder, list(map(segment_texts, passages, segments)))


def neighbors(
    encoder: Encoder, passages: Sequence[Passage], segments: Segments
) -> list[Embeddings]:
    """Embed each segment with the title and the segment before it."""
    wider = [
        [(spans[max(0, row - 1)][0], end) for row, (_, end) in enumerate(spans)]
        for spans in segments
    ]
    return embed(encoder, list(map(segment_texts, passages, wider)))


def late(encoder: Encoder, passages: Sequence[Passage], segments: Segments) -> list[Embeddings]:
    """Pool each segment's tokens from the forward pass of its passage."""
    return [
        _pooled(encoder, passage, [[span] for span in spans])
        for passage, spans in zip(passages, segments, strict=True)
    ]


def late_title(
    encoder: Encoder, passages: Sequence[Passage], segments: Segments
) -> list[Embeddings]:
    """Pool the tokens of the title and of each segment from the forward pass of its passage."""
    return [
        _pooled(encoder, passage, [[(-1 - len(passage.title or ""), -1), span] for span in spans])
        for passage, spans in zip(passages, segments, strict=True)
    ]


@lru_cache(maxsize=1)
def _library_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer that knows where in a text its tokens are."""
    return Tokenizer.from_file(str(path))


@torch.inference_mode()
def _pooled(encoder: Encoder, passage: Passage, wanted: list[list[Span]]) -> Embeddings:
    """Return the embeddings of parts of a passage, whose places count from its text's start."""
    side = encoder.side("passage")
    runtime = load(side.runtime)
    assert isinstance(runtime, TorchRuntime)
    tokenizer = _library_tokenizer(side.checkpoint.passage.tokenizer)
    before = side.prompts["passage"] + (f"{passage.title} " if passage.title else "")
    encoding = tokenizer.encode(before + passage.text)
    ids = torch.tensor([encoding.ids[: side.max_tokens]])
    hidden = runtime.hidden_states(ids, torch.ones_like(ids))
    middles = np.array([sum(place) / 2 - len(before) for place in encoding.offsets])
    middles = middles[: ids.shape[1]]
    masks = np.array(
        [[any(a <= middle < b for a, b in parts) for middle in middles] for parts in wanted]
    )
    masks[~masks.any(axis=1)] = True  # cut off: as good as the whole passage
    found = runtime.head(hidden.expand(len(wanted), -1, -1), torch.from_numpy(masks.astype(int)))
    return directions(quantized(found.numpy()))


WAYS: dict[str, Callable[[Encoder, Sequence[Passage], Segments], list[Embeddings]]] = {
    "untitled": untitled,
    "titled": titled,
    "neighbors": neighbors,
    "late": late,
    "late-title": late_title,
}


if __name__ == "__main__":
    main()
