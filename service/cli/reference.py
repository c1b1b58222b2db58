"""The check of `clear-service doctor --reference`: the encoder's embeddings against a reference."""

import time
from collections.abc import Iterator

from service.cli.doctor import Finding
from service.components import checkpoint_of, load_encoder_of
from service.retrieval.encoder.reference.library import find_reference
from service.retrieval.encoder.reference.proof import Proof, prove, save_proof
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
        proof = prove(encoder, find_reference(checkpoint, settings.max_tokens))
        save_proof(settings.cache, encoder, proof)
    except RetrievalError as error:
        yield Finding(SUBJECT, "not compared", str(error))
        return
    yield _figure(proof, time.monotonic() - start)
    yield Finding(
        f"{SUBJECT} by script",
        ", ".join(f"{script} {cosine:.6f}" for script, cosine in proof.by_script.items()),
    )


def _figure(proof: Proof, seconds: float) -> Finding:
    found = (
        f"least cosine {proof.least_cosine:.6f} (at least {proof.bound}) of {proof.runtime} to "
        f"{proof.made_by}: 32 texts in {len(proof.by_script)} scripts, alone and in batches, in "
        f"{seconds:.0f} s"
    )
    return Finding(SUBJECT, found, "" if proof.is_right else HOW_TO_FIX)
