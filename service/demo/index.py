"""The demo's index: the Factbook with its published vectors, or embedded once per encoder."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from service.demo.factbook import factbook_passages
from service.demo.vectors import RUNTIME, open_published
from service.retrieval.corpus.fields import Fields
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    verify_generation,
)
from service.retrieval.generation.manifest import EVIDENCE
from service.retrieval.indexing.build import build_index
from service.retrieval.progress import OnProgress

logger = logging.getLogger(__name__)
FIELDS: Fields = {"country": "string", "region": "string", "section": "string"}


def demo_index_name(encoder: str) -> str:
    """Return the name of the folder of the demo's index, one per encoder.

    `bundled` and `bundled-base` share an index, because they have the same passage side.
    """
    if encoder in (BUNDLED, BUNDLED_BASE):
        return "demo-index"
    return f"demo-index-{hashlib.sha256(encoder.encode()).hexdigest()[:8]}"


def ensure_demo_index(
    index: Path, load_encoder: Callable[[], Encoder], on_progress: OnProgress
) -> Encoder | None:
    """Build the demo's index unless an undamaged one exists.

    Returns:
        The encoder, if it was loaded.

    Raises:
        RetrievalError: the corpus or the encoder is missing, or the index cannot be written.
    """
    if (index / "CURRENT").is_file():
        try:
            manifest = verify_generation(generations_directory(index) / current_name(index))
            if EVIDENCE in manifest.files or manifest.encoder.runtime != RUNTIME:
                return None  # an older version of this package published no sentences
        except GenerationError:
            logger.warning("the demo index is damaged: building it again")
    on_progress("load", 0, None)
    encoder = load_encoder()
    passages = list(factbook_passages())
    published = open_published([passage for _, passage in passages], encoder)
    build_index(
        passages,
        index,
        encoder,
        fields=FIELDS,
        evidence=published is not None and published.has_sentences,
        shard_encoder=published,
        on_progress=on_progress,
    )
    return encoder
