"""Exports an encoder as a Sentence Transformers directory.

An encoder with two sides becomes a Router of that library. The passage side's files are copied
unchanged, so that its fingerprint and its indexes stay valid; its adapter is merged into the query
side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import CheckpointManifest, write_manifest
from service.retrieval.checkpoint.peft.adapter import refuse_unmerged
from service.retrieval.checkpoint.writer import (
    REFERENCE,
    FileContent,
    one_side,
    two_sides,
    write_checkpoint,
)
from service.retrieval.encoder.reference.computed import compute_reference
from service.retrieval.encoder.reference.stored import write_reference
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError
from service.retrieval.language_quality import LanguageRecord, languages_content
from service.retrieval.relevance.calibration import Calibration, checked
from service.retrieval.storage import artifact
from service.retrieval.storage.checksums import sha256_of
from trainer.errors import DataError, OutputError
from trainer.output import refuse_run_folder
from trainer.publish.model_card import model_card

CARD = "README.md"
# Fields of the training record that the manifest takes over.
RECORD_FIELDS = ("training", "blend", "metrics", "objective", "data", "seed", "git_commit")


@dataclass(frozen=True)
class Publication:
    """What the publisher states beyond the checkpoint's own manifest."""

    name: str
    license: str | None = None
    results: str = ""  # Markdown
    data_cards: Sequence[Mapping[str, Any]] = ()
    languages: LanguageRecord | None = None  # replaces the checkpoint's own
    calibration: Calibration | None = None


def open_sides(name: str, passage_name: str, cache: Path) -> tuple[Checkpoint, Checkpoint]:
    """Open the checkpoints of the query side and the passage side; often they are the same.

    Args:
        name: of the encoder to publish.
        passage_name: of the passage encoder, used if `name` encodes only queries.
        cache: the folder of the bundled encoder.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        DataError: the query encoder was trained for other passages, or `name` is a run's folder.
    """
    refuse_run_folder(name)
    query = open_checkpoint(name, cache)
    refuse_unmerged(query.peft_folder)
    trained_for = query.trained_for
    if trained_for is None:
        return query, query
    passage = open_checkpoint(passage_name, cache)
    refuse_unmerged(passage.peft_folder)
    found = passage.own_passage_fingerprint
    if found != trained_for:
        raise DataError(
            f"{name} encodes only queries, for passages of the fingerprint {trained_for[:16]}; "
            f"{passage_name} has {found[:16]}: name the right encoder with --passage-encoder"
        )
    return query, passage


def write_publication(
    query: Checkpoint, passage: Checkpoint, directory: Path, publication: Publication
) -> CheckpointManifest:
    """Write the directory with its reference embeddings; one that is equal already is left.

    Args:
        query: the checkpoint whose query side encodes queries.
        passage: the checkpoint whose passage side encodes passages; often the same.
        directory: the folder to write.
        publication: the publisher's facts.

    Returns:
        The manifest.

    Raises:
        CheckpointError: weights cannot be read.
        DataError: no license is known.
        OutputError: the folder has other content, or cannot be written.
    """
    if directory.exists() and not (directory / "modules.json").is_file():
        raise OutputError(f"{directory} has other content: name another folder")
    facts = _facts(query, passage, publication)
    card = model_card(query, passage, facts, publication.results, publication.data_cards)
    files = _files(query, passage)
    try:
        with artifact.temporary_directory(directory.parent, ".publishing-") as temporary:
            write_checkpoint(temporary, files | {CARD: card.encode()}, **facts)
            written = open_checkpoint(str(temporary), temporary)
            if publication.calibration:
                facts |= calibration_content(
                    publication.calibration, query, written.query_fingerprint
                )
            write_reference(temporary, compute_reference(written))
            manifest = write_manifest(temporary, **facts)
            publish_once(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None
    return manifest


def publish_once(complete: Path, directory: Path) -> None:
    """Publish a complete folder, unless the directory has the same content already.

    Raises:
        OutputError: the directory has other content.
    """
    if not directory.exists():
        artifact.publish_directory(complete, directory)
        return
    if _content(complete) != _content(directory):
        raise OutputError(f"{directory} has other content: name another folder")


def _content(directory: Path) -> dict[str, object]:
    """Return the digests of a publication's files, and its manifest.

    The file of reference embeddings is left out: equal ones have other bytes, as safetensors writes
    their facts in any order, and other machines compute other last bits.
    """
    paths = {
        path.relative_to(directory).as_posix(): path
        for path in directory.rglob("*")
        if path.is_file()
    }
    kept = paths.keys() - {MANIFEST, REFERENCE}
    content: dict[str, object] = {name: sha256_of(paths[name]) for name in kept}
    if MANIFEST in paths:
        manifest = artifact.read_json_object(paths[MANIFEST], CheckpointError)
        files = manifest.get("files")
        known = files.keys() - {REFERENCE} if isinstance(files, dict) else None
        content[MANIFEST] = manifest | {"digest": None, "files": known}
    return content


def _facts(query: Checkpoint, passage: Checkpoint, publication: Publication) -> dict[str, Any]:
    """Return the manifest's entries: publisher's facts, training record, fingerprint."""
    adapter = query.query.adapter
    described = query.facts
    base = passage.manifest.facts if passage.manifest else {}
    license = publication.license or described.get("license") or base.get("license")
    if not license:
        raise DataError("the encoder names no license: name one with --license, such as mit")
    facts = {
        "name": publication.name,
        "license": license,
        "base_model": described.get("base_model") or base.get("base_model") or _hub_base(described),
        "passage_fingerprint": passage.own_passage_fingerprint,
        **{field: described[field] for field in RECORD_FIELDS if field in described},
    }
    if languages := publication.languages or query.languages:
        facts["languages"] = languages_content(languages)
    if adapter:
        facts["adapter"] = {"scale": adapter.scale, "weights_sha256": adapter.weights_sha256}
    if passage.fingerprint_prompts != _prompts(query, passage):
        facts["fingerprint_prompts"] = passage.fingerprint_prompts
    return {key: value for key, value in facts.items() if value is not None}


def calibration_content(
    calibration: Calibration, query: Checkpoint, fingerprint: str
) -> dict[str, object]:
    """Return the manifest's entry of a calibration, bound to the query side as it is written.

    A merged adapter gives the query side another fingerprint, not other embeddings.

    Raises:
        DataError: the calibration was fitted for another query side than `query`'s.
    """
    fitted = checked(calibration, query.query_fingerprint, "the calibration")
    if isinstance(fitted, str):
        raise DataError(fitted)
    bound = fitted.model_copy(update={"fingerprint": fingerprint})
    return {"calibration": bound.model_dump(mode="json")}


def _hub_base(described: Mapping[str, Any]) -> str | None:
    """Return the Hub name of the encoder that training started from, by the training record."""
    training = described.get("training")
    base = training.get("base") if isinstance(training, Mapping) else None
    if not isinstance(base, Mapping) or not base.get("revision"):
        return None
    return str(base.get("name"))


def _prompts(query: Checkpoint, passage: Checkpoint) -> dict[str, str]:
    return {"query": query.prompts.query.text, "passage": passage.prompts.passage.text}


def _files(query: Checkpoint, passage: Checkpoint) -> dict[str, FileContent]:
    prompts = _prompts(query, passage)
    passage_side = replace(passage.passage, prompts=prompts)
    if query.query is passage.passage:
        return one_side(passage_side)
    query_side = replace(query.query, prompts=prompts)
    state = load_model(query_side).state_dict() if query_side.adapter else None
    return two_sides(query_side, passage_side, state)
