"""Passages in, a published index generation out: from scratch, or with what an older one holds.

A run that stops early leaves the live generation as it was, and for the next run what it encoded.
"""

import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.build.assembly import Assembly, BuildCounts
from service.retrieval.build.reuse import ReusableEmbeddings, open_reusable
from service.retrieval.build.shards import InProcessEncoder, ShardEncoder
from service.retrieval.corpus.fields import NO_FIELDS, Fields
from service.retrieval.corpus.reader import OnInvalid, Passage, refuse
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EncoderMismatchError
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    verify_generation,
)
from service.retrieval.generation.history import BUILDING, UNFINISHED, exclusive_writer, publish
from service.retrieval.generation.manifest import MANIFEST, generation_name
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.storage import artifact

# A finished generation's folder and the name that it will have.
BeforePublish = Callable[[Path, str], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build made of its input."""

    directory: Path
    counts: BuildCounts


def do_nothing(directory: Path, name: str) -> None:
    """Do nothing more with a finished generation."""


def build_index(
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    encoder: Encoder,
    *,
    factory: str = "Flat",
    fields: Fields = NO_FIELDS,
    shard_encoder: ShardEncoder | None = None,
    before_publish: BeforePublish = do_nothing,
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = ignore_progress,
) -> BuildReport:
    """Embed passages, index them, and make the result the live generation.

    Memory holds one window of passages and the FAISS index, whatever the length of the corpus.

    Args:
        passages: each with its origin, as `read_passages` streams them.
        index: the index folder, made where it is missing.
        encoder: embeds the passages, or checks what others embed.
        factory: FAISS's description of the index.
        fields: metadata that hits can be filtered and counted by.
        shard_encoder: where passages are encoded; by default here.
        before_publish: is given the finished folder and the generation's name; where it raises,
            the live generation stays.
        on_invalid: is given the error of a passage that repeats an id or doesn't fit the fields.
        on_progress: is told of the stages read, encode, index, check.

    Raises:
        PassageError: a passage is invalid (by default), or there is none.
        GenerationError: the index cannot be built, another build is running, the disk is full.
    """
    with exclusive_writer(index):
        assembly = Assembly(
            encoder, factory, fields, shard_encoder or InProcessEncoder(encoder), on_progress
        )
        return _publish(assembly, passages, index, nullcontext(), before_publish, on_invalid)


def update_index(
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    encoder: Encoder,
    *,
    factory: str | None = None,
    fields: Fields | None = None,
    shard_encoder: ShardEncoder | None = None,
    before_publish: BeforePublish = do_nothing,
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = ignore_progress,
) -> BuildReport:
    """Make the live generation one of these passages; only what is new or changed is encoded.

    The result has the bytes that `build_index` makes of the same passages. Nothing is reused
    where the same encoder ran with another limit of tokens, in another precision or by another
    program: then all passages are encoded.

    Args:
        passages: the whole corpus; what is not among them is dropped.
        index: the index folder.
        encoder: the one that embedded the live generation.
        factory: FAISS's description of the index; by default as it is.
        fields: as in `build_index`; by default as they are.
        shard_encoder: where passages are encoded; by default here.
        before_publish: as in `build_index`.
        on_invalid: as in `build_index`.
        on_progress: as in `build_index`.

    Raises:
        EncoderMismatchError: another encoder embedded the live generation.
        GenerationError: there is no index, its live generation is damaged, or as `build_index`.
        PassageError: as `build_index`.
    """
    live = generations_directory(index) / current_name(index)
    with exclusive_writer(index):
        manifest = verify_generation(live)
        if manifest.encoder.fingerprint != encoder.passage_fingerprint:
            raise EncoderMismatchError(
                f"the live generation was embedded by the encoder {manifest.encoder.name} "
                f"(fingerprint {manifest.encoder.fingerprint[:16]}), not by {encoder.name} "
                f"({encoder.passage_fingerprint[:16]}): nothing of it can be reused; update with "
                "that encoder, or start anew with `clear-service index build`"
            )
        assembly = Assembly(
            encoder,
            factory or manifest.factory,
            manifest.fields if fields is None else fields,
            shard_encoder or InProcessEncoder(encoder),
            on_progress,
        )
        lent = open_reusable(live, manifest, EncoderIdentity.of(encoder))
        return _publish(assembly, passages, index, lent, before_publish, on_invalid)


def _publish(
    assembly: Assembly,
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    lent: AbstractContextManager[ReusableEmbeddings | None],
    before_publish: BeforePublish,
    on_invalid: OnInvalid,
) -> BuildReport:
    unfinished = index / UNFINISHED
    parent = generations_directory(index)
    with artifact.temporary_directory(parent, BUILDING) as directory, lent as reusable_ones:
        counts = assembly.run(directory, unfinished, passages, reusable_ones, on_invalid)
        before_publish(directory, generation_name((directory / MANIFEST).read_bytes()))
        report = BuildReport(publish(directory, index), counts)
    shutil.rmtree(unfinished, ignore_errors=True)
    return report
