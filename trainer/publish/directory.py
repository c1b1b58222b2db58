"""An encoder as a Sentence Transformers directory that every tool of the field reads.

Two sides become that library's Router: the passage side's files as they are, so that its
fingerprint and all its indexes stay valid, and the query side with its adapter merged.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.writer import (
    FileContent,
    one_side,
    two_sides,
    write_checkpoint,
)
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.storage import artifact
from trainer.errors import DataError, OutputError
from trainer.publish.model_card import model_card

CARD = "README.md"
# The record of what made the weights.
RECORD_FIELDS = ("training", "blend", "metrics", "objective", "data", "seed", "git_commit")


@dataclass(frozen=True)
class Publication:
    """What a publisher adds to what the checkpoint says of itself."""

    name: str
    license: str | None = None
    results: str = ""  # Markdown
    data_cards: Sequence[Mapping[str, Any]] = ()


def open_sides(name: str, passage_name: str, cache: Path) -> tuple[Checkpoint, Checkpoint]:
    """Open an encoder, and for a query encoder alone the one of its passages.

    Args:
        name: of the encoder to publish.
        passage_name: of the encoder that a query encoder alone was trained for.
        cache: the folder of the bundled encoder.

    Raises:
        CheckpointError: one cannot be used.
        DataError: the two don't belong together.
    """
    query = open_checkpoint(name, cache)
    own = query.fingerprint(query.passage)
    trained_for = str(query.manifest.get("passage_fingerprint", own))
    if trained_for == own:
        return query, query
    passage = open_checkpoint(passage_name, cache)
    found = passage.fingerprint(passage.passage)
    if found != trained_for:
        raise DataError(
            f"{name} encodes queries alone, for passages of the fingerprint {trained_for[:16]}; "
            f"{passage_name} has {found[:16]}: name the right one with --passage-encoder"
        )
    return query, passage


def write_publication(
    query: Checkpoint, passage: Checkpoint, directory: Path, publication: Publication
) -> dict[str, Any]:
    """Write the directory; one that is there must be such a directory, and is replaced as a whole.

    Args:
        query: whose query side encodes queries.
        passage: whose passage side encodes passages; often the same checkpoint.
        directory: where.
        publication: the publisher's facts.

    Returns:
        The manifest.

    Raises:
        CheckpointError: weights cannot be read.
        DataError: no licence is known.
        OutputError: the folder holds something else, or cannot be written.
    """
    if directory.exists() and not (directory / "modules.json").is_file():
        raise OutputError(f"{directory} holds something else: name another folder")
    facts = _facts(query, passage, publication)
    card = model_card(query, passage, facts, publication.results, publication.data_cards)
    files = _files(query.query, passage.passage)
    try:
        with artifact.temporary_directory(directory.parent, ".publishing-") as temporary:
            manifest = write_checkpoint(temporary, files | {CARD: card.encode()}, **facts)
            shutil.rmtree(directory, ignore_errors=True)
            artifact.publish_directory(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None
    return manifest


def _facts(query: Checkpoint, passage: Checkpoint, publication: Publication) -> dict[str, Any]:
    """Gather the manifest's entries: the publisher's, the training record, the fingerprint."""
    adapter = query.query.adapter
    described = adapter.description if adapter else query.manifest
    license = publication.license or described.get("license") or passage.manifest.get("license")
    if not license:
        raise DataError("the encoder names no licence: give one with --license, such as mit")
    facts = {
        "name": publication.name,
        "license": license,
        "base_model": described.get("base_model") or passage.manifest.get("base_model"),
        "passage_fingerprint": passage.fingerprint(passage.passage),
        **{field: described[field] for field in RECORD_FIELDS if field in described},
    }
    if adapter:
        facts["adapter"] = {"scale": adapter.scale, "weights_sha256": adapter.weights_sha256}
    return {key: value for key, value in facts.items() if value is not None}


def _files(query: CheckpointLayout, passage: CheckpointLayout) -> dict[str, FileContent]:
    if query is passage:
        return one_side(passage)
    return two_sides(query, passage, load_model(query).state_dict() if query.adapter else None)
