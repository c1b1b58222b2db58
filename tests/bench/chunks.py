"""Quality of search in long documents by the size of their chunks, beside paragraphs as given.

Run: python -m tests.bench.chunks --data data/xquad

The documents are XQuAD's English articles, their paragraphs joined by empty lines or, with
`--joined`, by spaces. A query's answer is found where the chunk lies mostly in its paragraph; of
chunks in one paragraph only the best counts. nDCG@10 by language of the query. `160+32` are chunks
of 160 tokens that repeat 32, `160 late` such that are embedded late.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import numpy as np

from service.retrieval.corpus.chunks.chunker import Chunker
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import encode_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.parts import EncodedText
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.bench.texts import LANGUAGES
from trainer.datasets.formats.squad_format import read_squad

DEPTH = 100


def main() -> None:
    """Measure each size of chunks."""
    made = parser(__doc__)
    made.add_argument("--encoder", default="bundled")
    made.add_argument("--sizes", nargs="+", type=int, default=[96, 128, 160, 192, 256, 384])
    made.add_argument("--overlaps", nargs="+", type=int, default=[0])
    made.add_argument("--late", action="store_true", help="embed chunks late, too")
    made.add_argument("--joined", action="store_true", help="paragraphs are joined by spaces")
    made.add_argument("--every", type=int, default=1, help="ask only one of so many questions")
    options = made.parse_args()
    encoder = load_encoder(options.encoder, device="cpu")
    paragraphs = read_squad(options.data / "xquad.en.json").passages
    queries = {}
    for language in ("en", *(each for each in LANGUAGES if each != "en")):
        asked = read_squad(options.data / f"xquad.{language}.json").questions[:: options.every]
        vectors = encoder.encode([each.text for each in asked], "query").embeddings
        queries[language] = (vectors, [each.passage_id for each in asked])
    names = [each.passage_id for each in paragraphs]
    found = {"paragraphs": measure(encoder, [each.text for each in paragraphs], names, queries)}
    show("paragraphs", found["paragraphs"])
    documents, places = articles(paragraphs, " " if options.joined else "\n\n")
    ways = (options.sizes, options.overlaps, [False, True] if options.late else [False])
    for size, overlap, is_late in product(*ways):
        name = f"{size}{f'+{overlap}' if overlap else ''}{' late' if is_late else ''}"
        chunking = Chunking.of(encoder.side("passage").max_tokens, size, overlap, is_late)
        chunker = Chunker(chunking, encoder.count_passage_tokens)
        chunks = [chunk for each in documents for chunk in chunker.passages_of(each)]
        golds = [paragraph_of(chunk, places) for chunk in chunks]
        found[name] = measure(encoder, [each.encoded_text for each in chunks], golds, queries)
        show(name, found[name])
    write_result("chunks", options, {"found": found})


def show(name: str, values: dict[str, float]) -> None:
    """Print the values of one way to split."""
    say(f"{name:>10} " + " ".join(f"{each} {value:.3f}" for each, value in values.items()))


def articles(
    paragraphs: Sequence[Passage], between: str
) -> tuple[list[Passage], dict[str, list[tuple[int, str]]]]:
    """Return the articles, and where each of their paragraphs ends."""
    texts: defaultdict[str, str] = defaultdict(str)
    places: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for paragraph in paragraphs:
        name = str(paragraph.metadata["article"])
        texts[name] += (between if texts[name] else "") + paragraph.text
        places[name].append((len(texts[name]), paragraph.passage_id))
    return [Passage(name, text) for name, text in texts.items()], places


def paragraph_of(chunk: Passage, places: dict[str, list[tuple[int, str]]]) -> str:
    """Return the paragraph in which a chunk mostly lies."""
    start, end = (chunk.chunk.start, chunk.chunk.end) if chunk.chunk else (0, len(chunk.text))
    shares, begin = {}, 0
    for stop, name in places[chunk.document_id]:
        shares[name] = min(end, stop) - max(start, begin)
        begin = stop
    return max(shares, key=lambda name: shares[name])


def measure(
    encoder: Encoder,
    texts: Sequence[EncodedText],
    golds: Sequence[str],
    queries: dict[str, tuple[Embeddings, list[str]]],
) -> dict[str, float]:
    """Return nDCG@10 by language, the number of passages and their mean length in tokens."""
    vectors = encode_passages(encoder, texts).embeddings
    values: dict[str, float] = {}
    for language, (asked, wanted) in queries.items():
        best = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :DEPTH]
        gains = []
        for row, gold in zip(best.tolist(), wanted, strict=True):
            ranked = list(dict.fromkeys(golds[place] for place in row))[:10]
            gains.append(1 / np.log2(ranked.index(gold) + 2) if gold in ranked else 0.0)
        values[language] = float(np.mean(gains))
    values["passages"] = len(texts)
    own = [text if isinstance(text, str) else text[1] for text in texts]
    values["tokens"] = float(np.mean(encoder.count_passage_tokens(own)))
    return values


if __name__ == "__main__":
    main()
