"""The manifest of a finished build: its facts, the hashes of its files, and its canaries."""

from collections.abc import Sequence
from pathlib import Path

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EmbeddingError
from service.retrieval.generation.generation import open_verified
from service.retrieval.generation.manifest import (
    EMBEDDINGS,
    EVIDENCE,
    FORMAT_VERSION,
    IDENTIFIERS,
    PASSAGES,
    TEXTS,
    VECTORS,
    Canary,
    ChunkingRecord,
    EncoderRecord,
    GenerationManifest,
)
from service.retrieval.hits import Hit
from service.retrieval.index.faiss.library import VERSION
from service.retrieval.index.options import IndexOptions
from service.retrieval.searcher import CANARY_TOP_K, Searcher
from service.retrieval.storage import checksums

NUM_CANARIES = 8
CANARY_CHARACTERS = 200
LEAST_LEAD = 0.001  # of scores; those of a text differ by less between batches, also in bf16


def describe_build(
    directory: Path,
    encoder: Encoder,
    identity: EncoderIdentity,
    factory: str,
    chunking: Chunking,
    table: PassageTable,
    num_truncated: int,
    num_unembedded: int,
    deduplicate: bool = False,
) -> GenerationManifest:
    """Return the manifest of a finished build, without canaries; its files are hashed."""
    names = [VECTORS, PASSAGES, TEXTS, IDENTIFIERS]
    if factory != "Flat":
        names.append(EMBEDDINGS)
    if (directory / EVIDENCE).exists():
        names.append(EVIDENCE)
    return GenerationManifest(
        format_version=FORMAT_VERSION,
        encoder=EncoderRecord(
            name=encoder.name,
            fingerprint=identity.fingerprint,
            max_tokens=identity.max_tokens,
            runtime=identity.runtime,
            query_fingerprint=(
                encoder.fingerprint if encoder.fingerprint != identity.fingerprint else None
            ),
            prompts=encoder.prompts if encoder.prompts != encoder.own_prompts else None,
        ),
        chunking=(
            ChunkingRecord.of(chunking)
            if table.has_chunks or chunking != Chunking.of(identity.max_tokens)
            else None
        ),
        count=len(table),
        dimension=encoder.embedding_dim,
        metric="inner product of unit vectors",
        backend="faiss",
        factory=factory,
        faiss_version=VERSION,
        fields=dict(table.fields),
        deduplicate=deduplicate or None,
        num_documents=table.num_documents if table.has_chunks else None,
        num_truncated=num_truncated,
        num_unembedded=num_unembedded or None,
        canaries=[],
        files=checksums.record_files(directory, names),
    )


def add_findings(
    manifest: GenerationManifest, directory: Path, encoder: Encoder, table: PassageTable
) -> GenerationManifest:
    """Open the generation as a reader does, and record what it finds for some passages' texts.

    The canary queries are the beginnings of a few passages, evenly spread.

    What general questions score is recorded as its background.

    A passage whose beginning has no unit vector as a query is left out of the canaries. Where
    more passages than a canary's hits have nearly equal scores, chance decides which are found: no
    hits are recorded then.

    Args:
        manifest: the generation's, without canaries.
        directory: the generation's folder.
        encoder: encodes the canary queries.
        table: the beginnings of some of its passages are the canary queries.

    Raises:
        EmbeddingError: no query has a unit vector.
    """
    searcher = Searcher(encoder, open_verified(directory, manifest, IndexOptions(is_mapped=True)))
    passages = table.read(spread_rows(len(table), NUM_CANARIES))
    queries = [passage.encoder_text[:CANARY_CHARACTERS] for passage in passages]
    found = None
    while found is None:
        try:
            found = searcher.search(queries, CANARY_TOP_K + 1, by_identifiers=False)
        except EmbeddingError as error:
            invalid = set(error.positions)
            queries = [query for row, query in enumerate(queries) if row not in invalid]
            if not queries:
                raise
    canaries = [
        Canary(query=query, passage_ids=_decided(hits))
        for query, hits in zip(queries, found, strict=True)
    ]
    background = searcher.measure_background()
    return manifest.model_copy(update={"canaries": canaries, "background": background})


def _decided(hits: Sequence[Hit]) -> list[str]:
    """Return the ids of a canary's hits, unless its first passage might not be among them."""
    if len(hits) > CANARY_TOP_K and hits[0].score - hits[CANARY_TOP_K].score < LEAST_LEAD:
        return []
    return [hit.passage.passage_id for hit in hits[:CANARY_TOP_K]]


def spread_rows(count: int, size: int) -> list[int]:
    """Return up to `size` of `count` rows, evenly spread.

    >>> spread_rows(10, 4)
    [0, 2, 5, 7]
    """
    return sorted({number * count // size for number in range(min(size, count * size))})
