"""The check of `clear-service doctor --reference`: the encoder's embeddings against a reference."""

import time
from collections.abc import Iterator

from service.cli.doctor.examine import Finding
from service.components import checkpoint_of, load_encoder_of
from service.retrieval.encoder.reference.comparison import Comparison, compare, save_comparison
from service.retrieval.encoder.reference.computed import find_reference
from service.retrieval.errors import RetrievalError
from service.settings.settings import Settings

SUBJECT = "reference"
HOW_TO_FIX = (
    "set CLEAR_CPU_ENGINE=torch and CLEAR_PRECISION=fp32 and check again; if the figure stays, "
    "this program computes the encoder wrongly: report it, and serve another"
)


def check_reference(settings: Settings) -> Iterator[Finding]:
    """Compare the encoder with its reference, and record the figure in the cache."""
    start = time.monotonic()
    try:
        encoder = load_encoder_of(settings)
        checkpoint = checkpoint_of(settings)
        comparison = compare(encoder, find_reference(checkpoint, settings.max_tokens))
        save_comparison(settings.cache, encoder, comparison)
    except RetrievalError as error:
        yield Finding(SUBJECT, "not compared", str(error))
        return
    yield _figure(comparison, time.monotonic() - start)
    yield Finding(
        f"{SUBJECT} by script",
        ", ".join(f"{script} {cosine:.6f}" for script, cosine in comparison.by_script.items()),
    )


def _figure(found: Comparison, seconds: float) -> Finding:
    figure = (
        f"least cosine {found.least_cosine:.6f} (at least {found.bound}) of {found.runtime} to "
        f"{found.made_by}: 32 texts in {len(found.by_script)} scripts, alone and in batches, in "
        f"{seconds:.0f} s"
    )
    return Finding(SUBJECT, figure, "" if found.is_right else HOW_TO_FIX)
