"""Building and updating an index: passages in, a published generation out.

An interrupted run leaves the live generation unchanged, and its encoded shards for the next run.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.fields import NO_FIELDS, Fields
from service.retrieval.corpus.reader import OnInvalid, Passage, refuse
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import (
    check_passage_side,
    current_name,
    generations_directory,
)
from service.retrieval.generation.history import UNFINISHED, publish
from service.retrieval.generation.manifest import (
    EVIDENCE,
    IDENTIFIERS,
    MANIFEST,
    GenerationManifest,
    chunking_of,
    generation_name,
)
from service.retrieval.generation.optional_files import open_evidence, verify_but
from service.retrieval.generation.writer import BUILDING, exclusive_writer
from service.retrieval.indexing.assembly import Assembly, BuildCounts, Stage
from service.retrieval.indexing.reuse import Base, identity_of, open_reusable
from service.retrieval.indexing.shards import InProcessEncoder, ShardEncoder
from service.retrieval.indexing.sources import OnDuplicates, stage_corpus
from service.retrieval.progress import OnProgress, ignore_progress
from service.retrieval.storage import artifact

# Called with the folder of a finished generation and its future name.
BeforePublish = Callable[[Path, str], None]


@dataclass(frozen=True)
class BuildReport:
    """The published generation, and the numbers of its passages."""

    directory: Path
    counts: BuildCounts


def checked(chunking: Chunking, encoder: Encoder) -> Chunking:
    """Return how documents are split, if the encoder can embed the chunks.

    Raises:
        GenerationError: chunks are embedded late, and it pools otherwise than by the mean: the
            vector of a chunk in its window would not be that of its tokens.
    """
    modes = tuple(encoder.side("passage").pooling.modes)
    if chunking.window and modes != ("mean",):
        raise GenerationError(
            f"--late-chunking needs an encoder that pools the mean of its tokens, and "
            f"{encoder.name} pools by {' and '.join(modes)}: leave the option out"
        )
    return chunking


def do_nothing(directory: Path, name: str) -> None:
    """Do nothing before a generation is published; the default."""


def build_index(
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    encoder: Encoder,
    *,
    factory: str = "Flat",
    fields: Fields = NO_FIELDS,
    chunking: Chunking | None = None,
    evidence: bool = False,
    deduplicate: bool = False,
    shard_encoder: ShardEncoder | None = None,
    before_publish: BeforePublish = do_nothing,
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = ignore_progress,
    on_duplicates: OnDuplicates = lambda found: None,
) -> BuildReport:
    """Embed passages, index them, and make the result the live generation.

    Memory holds the FAISS index and one window of passages, whatever the size of the corpus.

    Args:
        passages: each with its origin, as `read_passages` yields them.
        index: the index folder, created if missing.
        encoder: encodes the canary queries; and the passages, unless `shard_encoder` does.
        factory: FAISS's description of the index.
        fields: metadata that hits can be filtered and counted by.
        chunking: how long documents are split; by default those over the encoder's limit are.
        evidence: whether to embed the segments of passages, too, for the evidence in hits.
        deduplicate: whether searches fold documents with equal texts (`corpus.duplicates`).
        shard_encoder: encodes the passages; by default this thread, with `encoder`.
        before_publish: called with the finished folder and the generation's name; if it raises,
            the live generation stays.
        on_invalid: called with the error of a passage that repeats an id, violates a field, or
            has no unit vector; it raises to stop, or returns to leave the passage out.
        on_progress: called during the stages read, encode, evidence, index, check.
        on_duplicates: called with the documents that repeat another one's text.

    Raises:
        PassageError: a passage is invalid (by default), or there are no passages.
        GenerationError: the index cannot be built, another build is running, or the disk is full.
    """
    chunking = chunking or Chunking.of(encoder.side("passage").max_tokens)
    with exclusive_writer(index):
        assembly = Assembly(
            encoder,
            factory,
            fields,
            checked(chunking, encoder),
            shard_encoder or InProcessEncoder(encoder),
            on_progress,
            evidence,
            deduplicate,
        )
        told = (on_invalid, on_progress, on_duplicates)
        stage = stage_corpus(passages, assembly.fields, assembly.chunker, *told)
        return publish_run(assembly, stage, index, Base(), before_publish, on_invalid)


def update_index(
    passages: Iterable[tuple[str, Passage]],
    index: Path,
    encoder: Encoder,
    *,
    factory: str | None = None,
    fields: Fields | None = None,
    chunking: Chunking | None = None,
    evidence: bool | None = None,
    deduplicate: bool | None = None,
    shard_encoder: ShardEncoder | None = None,
    before_publish: BeforePublish = do_nothing,
    on_invalid: OnInvalid = refuse,
    on_progress: OnProgress = ignore_progress,
    on_duplicates: OnDuplicates = lambda found: None,
) -> BuildReport:
    """Replace the live generation by one of these passages; encode new and changed ones only.

    The result has the same bytes as `build_index` of the same passages. All passages are encoded
    if the live generation was embedded with another token limit, precision or runtime.

    Args:
        passages: the whole corpus; passages that are missing from it leave the index.
        index: the index folder.
        encoder: the encoder that embedded the live generation.
        factory: FAISS's description of the index; by default the live generation's.
        fields: as in `build_index`; by default the live generation's.
        chunking: as in `build_index`; by default the live generation's.
        evidence: as in `build_index`; by default the live generation's.
        deduplicate: as in `build_index`; by default the live generation's.
        shard_encoder: as in `build_index`.
        before_publish: as in `build_index`.
        on_invalid: as in `build_index`.
        on_progress: as in `build_index`.
        on_duplicates: as in `build_index`.

    Raises:
        EncoderMismatchError: another encoder embedded the live generation.
        GenerationError: there is no index, its live generation is damaged, or as in `build_index`.
        PassageError: as in `build_index`.
    """
    live = generations_directory(index) / current_name(index)
    with exclusive_writer(index):
        manifest, usable = verify_but(live, [EVIDENCE, IDENTIFIERS])
        check_passage_side(manifest.encoder, encoder.checkpoint)
        chunking = chunking or chunking_of(manifest, encoder.side("passage").max_tokens)
        assembly = Assembly(
            encoder,
            factory or manifest.factory,
            manifest.fields if fields is None else fields,
            checked(chunking, encoder),
            shard_encoder or InProcessEncoder(encoder),
            on_progress,
            EVIDENCE in manifest.files if evidence is None else evidence,
            bool(manifest.deduplicate) if deduplicate is None else deduplicate,
        )
        parts = (assembly.fields, assembly.chunker, on_invalid, on_progress, on_duplicates)
        stage = stage_corpus(passages, *parts)
        with _open_base(live, usable, EncoderIdentity.of(encoder)) as base:
            return publish_run(assembly, stage, index, base, before_publish, on_invalid)


@contextmanager
def _open_base(
    live: Path, manifest: GenerationManifest, identity: EncoderIdentity
) -> Iterator[Base]:
    """Yield what an update takes from the live generation: nothing if it has another identity."""
    is_same = identity_of(live, manifest) == identity
    with open_reusable(live, manifest, identity) as reusable:
        yield Base(reusable, evidence=open_evidence(live, manifest) if is_same else None)


def publish_run(
    assembly: Assembly,
    stage: Stage,
    index: Path,
    base: Base,
    before_publish: BeforePublish,
    on_invalid: OnInvalid,
) -> BuildReport:
    """Run an assembly and make its result live; the caller is the `exclusive_writer`."""
    unfinished = index / UNFINISHED
    parent = generations_directory(index)
    with artifact.temporary_directory(parent, BUILDING) as directory:
        counts = assembly.run(directory, unfinished, stage, base, on_invalid)
        before_publish(directory, generation_name((directory / MANIFEST).read_bytes()))
        report = BuildReport(publish(directory, index), counts)
    shutil.rmtree(unfinished, ignore_errors=True)
    return report
