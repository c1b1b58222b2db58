"""Canary queries: what they find shows that an encoder and an index belong together."""

from collections.abc import Sequence

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import FIX, GenerationError
from service.retrieval.generation.generation import Generation
from service.retrieval.hits import Hit


def invalid_canary(generation: Generation, encoder: Encoder, position: int) -> GenerationError:
    """Return the error of a canary query for which the encoder gives no unit vector."""
    return GenerationError(
        f"the generation {generation.name} fails its canary query {position + 1}: the "
        f"encoder {encoder.public_name} gives NaN, infinity or zero for it: {FIX}"
    )


def compare_canaries(
    generation: Generation, encoder: Encoder, answers: Sequence[Sequence[Hit]]
) -> None:
    """Compare the hits of the canary queries with those that the build recorded.

    A query misses if its recorded first passage is not among its hits. The query side that the
    build used must not miss any. A query side trained later may miss half of them; one that
    misses more does not belong to these vectors.

    Args:
        generation: searched.
        encoder: of the queries.
        answers: the hits of each canary query.

    Raises:
        GenerationError: too many canary queries miss.
    """
    canaries = generation.manifest.canaries
    misses = []
    for number, (canary, hits) in enumerate(zip(canaries, answers, strict=True), start=1):
        found = [hit.passage.passage_id for hit in hits]
        if canary.passage_ids and canary.passage_ids[0] not in found:
            misses.append(
                f"canary query {number}: {canary.passage_ids[0]} expected, {', '.join(found)} found"
            )
    is_other_side = generation.manifest.encoder.canary_fingerprint != encoder.fingerprint
    if len(misses) > (len(canaries) // 2 if is_other_side else 0):
        prompt = encoder.prompts_in_force.query
        raise GenerationError(
            f"the generation {generation.name} fails its {misses[0]} (a canary query is "
            "the beginning of a passage; the build recorded its hits): build again, or leave "
            "CLEAR_NPROBE and CLEAR_EF_SEARCH out if they are set"
            + (", or CLEAR_QUERY_PROMPT" if prompt.source == "CLEAR_QUERY_PROMPT" else "")
        )
