"""How often evidence holds the answer, by language and by how segments are embedded.

Run: python -m tests.bench.evidence --data data/xquad --afriqa data/afriqa --ways titled late

XQuAD's questions are for exploring, AfriQA's dev set decides. The passage is the one that answers;
counted is the share of questions whose best segment holds the whole answer, among passages of at
least two segments. Chance is the mean share of the segments that hold it. `shown` is the share of
those for which a search shows evidence, because the best segment leads.

    untitled   each segment is embedded alone
    titled     the passage's title stands before it: what `index build --evidence` does
    neighbors  the segment before it, too
    late       its tokens are pooled from the passage's own forward pass (late chunking)
    late-title its tokens and the title's
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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
from service.retrieval.evidence.table import best_of, directions, quantized
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.bench.texts import LANGUAGES


@dataclass(frozen=True)
class Question:
    """A question, the row of the passage that answers it, and where in its text the answer is."""

    text: str
    row: int
    answer: Span


Questions = dict[str, list[Question]]
Segments = list[list[Span]]


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
            values = " ".join(f"{way} {share:.3f}" for way, share in shares.items())
            say(f"{name} {language:>3} {values}")
    write_result("evidence", options, {"found": found})


def read_xquad(folder: Path, most: int) -> tuple[list[Passage], Questions]:
    """Return the English paragraphs, and their questions in each language, evenly spread."""
    passages: list[Passage] = []
    places: dict[str, tuple[int, Span]] = {}
    for article, paragraph in _paragraphs(folder / "xquad.en.json"):
        title = article["title"].replace("_", " ")
        passages.append(Passage(str(len(passages)), paragraph["context"], title))
        for question in paragraph["qas"]:
            answer = question["answers"][0]
            start = answer["answer_start"]
            places[question["id"]] = len(passages) - 1, (start, start + len(answer["text"]))
    asked = {}
    for language in ("en", *(each for each in LANGUAGES if each != "en")):
        paragraphs = _paragraphs(folder / f"xquad.{language}.json")
        found = [each for _, paragraph in paragraphs for each in paragraph["qas"]]
        every = max(1, len(found) // most)
        asked[language] = [Question(each["question"], *places[each["id"]]) for each in found][
            ::every
        ]
    return passages, asked


def _paragraphs(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for article in json.loads(path.read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            yield article, paragraph


def read_afriqa(folder: Path, most: int) -> tuple[list[Passage], Questions]:
    """Return the English passages of the dev sets, and the questions, also as translated ("en")."""
    passages: dict[str, Passage] = {}
    asked: Questions = {"en": []}
    for path in sorted(folder.glob("gold_span_passages.afriqa.*.en.dev.json")):
        language = path.name.split(".")[2]
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            context, pivot = item["context"], item["answer_pivot"]
            places = zip(pivot["answer_start"], pivot["text"], strict=False)
            start, text = next(places, (0, ""))
            if not text or not context.startswith(text, start):
                continue
            passage = passages.setdefault(
                context, Passage(str(len(passages)), context, item["title"])
            )
            place = int(passage.passage_id), (start, start + len(text))
            if len(asked.setdefault(language, [])) < most:
                asked[language].append(Question(item["question_lang"], *place))
                asked["en"].append(Question(item["question_translated"], *place))
    return list(passages.values()), asked


def measure(
    questions: Sequence[Question],
    queries: Embeddings,
    segments: Segments,
    vectors: dict[str, list[Embeddings]],
) -> dict[str, float]:
    """Return the number of questions that count, chance, and the share of each way."""
    chances: list[float] = []
    hits: dict[str, list[bool]] = {way: [] for way in vectors}
    shown: dict[str, list[bool]] = {way: [] for way in vectors}
    for question, query in zip(questions, queries, strict=True):
        spans, (start, end) = segments[question.row], question.answer
        if len(spans) < 2:
            continue
        holds = [first <= start and end <= last for first, last in spans]
        chances.append(sum(holds) / len(holds))
        for way, found in vectors.items():
            scores = found[question.row] @ query
            hits[way].append(holds[int(scores.argmax())])
            if evidence := best_of(scores, np.array(spans, np.int32).ravel()):
                shown[way].append(holds[spans.index((evidence.start, evidence.end))])
    shares = {"questions": len(chances), "chance": float(np.mean(chances))}
    for way in vectors:
        shares[way] = float(np.mean(hits[way]))
        shares[f"{way}, shown"] = float(np.mean(shown[way]))
        shares[f"{way}, share shown"] = len(shown[way]) / len(chances)
    return shares


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
