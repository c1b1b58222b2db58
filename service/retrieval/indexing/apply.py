"""Applying changes to an index: the live generation and some changes in, a new generation out."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.reader import OnInvalid, refuse
from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.cpu import FIXED
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.generation.generation import (
    check_passage_side,
    current_name,
    generations_directory,
)
from service.retrieval.generation.manifest import (
    EVIDENCE,
    IDENTIFIERS,
    PASSAGES,
    GenerationManifest,
    chunking_of,
)
from service.retrieval.generation.optional_files import (
    open_evidence,
    open_postings,
    verify_but,
)
from service.retrieval.generation.vectors import check_vectors
from service.retrieval.generation.writer import exclusive_writer
from service.retrieval.indexing.assembly import Assembly
from service.retrieval.indexing.build import BeforePublish, BuildReport, do_nothing, publish_run
from service.retrieval.indexing.reuse import Base, identity_of, open_reusable
from service.retrieval.indexing.shards import InProcessEncoder, ShardEncoder
from service.retrieval.indexing.sources import stage_changes
from service.retrieval.progress import OnProgress, ignore_progress


def apply_changes(
    changes: Iterable[tuple[str, Change]],
    index: Path,
    encoder: Encoder,
    *,
    shard_encoder: ShardEncoder | None = None,
    before_publish: BeforePublish = do_nothing,
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = ignore_progress,
) -> BuildReport:
    """Replace the live generation by one in which some documents are put or deleted.

    The result has the same bytes as `build_index` of the resulting corpus, with the factory and the
    fields of the live generation. A flat index costs a copy of its files, and what changed; any
    other one is made again from the vectors that were kept. Memory holds one window of passages,
    the changes' ids and 17 bytes a passage; for an index that is not flat, also that.

    Args:
        changes: each with its origin, in order; of several of one document the last one counts.
        index: the index folder.
        encoder: the encoder that embedded the live generation.
        shard_encoder: as in `build_index`.
        before_publish: as in `build_index`.
        on_invalid: called with the error of a change that cannot be applied; it raises to stop, or
            returns to leave the change out, so that the document stays as it was.
        on_progress: as in `build_index`.

    Raises:
        EncoderMismatchError: another encoder embedded the live generation, or this one with
            another token limit, precision or runtime.
        GenerationError: there is no index, its live generation is damaged, or as in `build_index`.
        PassageError: a change is invalid (by default), or no passage would be left.
    """
    current_name(index)  # raises where the folder was removed, which is not made again
    with exclusive_writer(index):
        live = generations_directory(index) / current_name(index)
        manifest = _verify(live)
        check_identity(live, manifest, encoder)
        assembly = Assembly(
            encoder,
            manifest.factory,
            manifest.fields,
            chunking_of(manifest, encoder.side("passage").max_tokens),
            shard_encoder or InProcessEncoder(encoder),
            on_progress,
            EVIDENCE in manifest.files,
            bool(manifest.deduplicate),
        )
        stage = stage_changes(changes, assembly.fields, assembly.chunker, on_invalid, on_progress)
        table = PassageTable(live / PASSAGES, assembly.fields)
        with open_reusable(live, manifest, EncoderIdentity.of(encoder)) as reusable:
            optional = open_evidence(live, manifest), open_postings(live, manifest)
            base = Base(reusable, table, *optional)
            return publish_run(assembly, stage, index, base, before_publish, on_invalid)


def _verify(live: Path) -> GenerationManifest:
    """Verify a generation; identifiers that are damaged are made again from its passages."""
    try:
        _, manifest = verify_but(live, [IDENTIFIERS])
    except GenerationError as error:
        if EVIDENCE not in str(error):
            raise
        raise GenerationError(
            f"{error}; `clear-service index update` with the whole corpus makes this file again"
        ) from None
    check_vectors(live, manifest)
    return manifest


def check_identity(live: Path, manifest: GenerationManifest, encoder: Encoder) -> None:
    """Check that an encoder's vectors may stand beside those of a generation.

    Raises:
        EncoderMismatchError: they would differ from those of a build.
        GenerationError: the manifest does not say what embedded the generation.
    """
    check_passage_side(manifest.encoder, encoder.checkpoint)
    built_by, found = identity_of(live, manifest), EncoderIdentity.of(encoder)
    if found == replace(built_by, runtime=built_by.runtime + FIXED):
        raise EncoderMismatchError(
            f"the index was embedded by {built_by.runtime} of an earlier version, whose vectors "
            "differ in the last digits: run `clear-service index update` with the whole corpus "
            "once, which embeds it again"
        )
    if built_by != found:
        raise EncoderMismatchError(
            f"the index was embedded by {built_by}, and this encoder is {found}: changes are "
            "applied by the same token limit, precision and runtime only; set CLEAR_MAX_TOKENS, "
            "CLEAR_PRECISION and CLEAR_CPU_ENGINE as they were, or run `clear-service index "
            "update` with the whole corpus"
        )
