"""The demo's published vectors of sentences, in int8, which travel with those of its passages."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import digest_of, encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.evidence.segments import segments_of
from service.retrieval.evidence.table import directions, quantized
from service.retrieval.progress import OnProgress, ignore_progress

logger = logging.getLogger(__name__)
SENTENCES = Path(__file__).parent / "sentences.safetensors"


def sentences_of(passages: Sequence[Passage]) -> list[str]:
    """Return the texts that stand for the segments of passages, each once."""
    found = (text for passage in passages for text in segments_of(passage)[1])
    return list(dict.fromkeys(found))


def read_sentences(
    path: Path, passages: Sequence[Passage], fingerprint: str, prepare: Callable[[str], str]
) -> tuple[NDArray[np.void], NDArray[np.float32]] | None:
    """Return digests [S] and unit vectors [S, D]; None, with the reason in the log, if unfit.

    Args:
        path: the file.
        passages: each of whose segments must be in it.
        fingerprint: of the passage side that must have made it.
        prepare: prepares a text for the encoder.
    """
    try:
        with safe_open(path, "numpy") as file:
            made_by = (file.metadata() or {})["fingerprint"]
            digests = file.get_tensor("digests").reshape(-1).view("V16")
            vectors = file.get_tensor("vectors")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s cannot be read (%s): the demo has no evidence", path, error)
        return None
    known = {digest.tobytes() for digest in digests}
    wanted = (digest_of(prepare(text)) for text in sentences_of(passages))
    if made_by != fingerprint or not all(digest in known for digest in wanted):
        logger.info("%s is of another encoder or corpus: the demo has no evidence", path)
        return None
    return digests, directions(vectors)


def write_sentences(
    passages: Sequence[Passage],
    encoder: Encoder,
    path: Path = SENTENCES,
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Encode the segments of passages and write their vectors."""
    texts = sentences_of(passages)
    prepare = encoder.side("passage").prepare
    done = 0

    def on_batch(num_texts: int) -> None:
        nonlocal done
        done += num_texts
        on_progress("evidence", done, len(texts))

    vectors = quantized(encode_passages(encoder, texts, on_batch).embeddings)
    digests = b"".join(digest_of(prepare(text)) for text in texts)
    tensors = {"digests": np.frombuffer(digests, np.uint8).reshape(-1, 16), "vectors": vectors}
    save_file(tensors, path, {"fingerprint": encoder.passage_fingerprint})
