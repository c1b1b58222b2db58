"""Exports a query-side adapter as one: its files unchanged, with the publisher's facts."""

import shutil
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import ADAPTER_FILES, DESCRIPTION
from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.checkpoint.checkpoint import Checkpoint
from service.retrieval.errors import CheckpointError
from service.retrieval.language_quality import languages_content
from service.retrieval.storage import artifact
from trainer.errors import DataError, OutputError
from trainer.publish.directory import Publication, calibration_content, publish_once


def write_adapter_publication(
    checkpoint: Checkpoint, directory: Path, publication: Publication
) -> None:
    """Copy an adapter, with name, license, languages and calibration in its `adapter.json`.

    Args:
        checkpoint: an adapter with its base.
        directory: a new folder, or that of the adapter itself, whose description is completed.
        publication: the publisher's facts; `results` and `data_cards` have no place here.

    Raises:
        DataError: the checkpoint is not an adapter, or the calibration is for another one.
        OutputError: the folder has other content, or cannot be written.
    """
    adapter = checkpoint.query.adapter
    if adapter is None:
        raise DataError(f"{checkpoint.name} is not an adapter: leave --as-adapter out")
    if directory.exists() and not (directory / DESCRIPTION).is_file():
        raise OutputError(f"{directory} has other content: name another folder")
    source = adapter.weights.parent
    content = artifact.read_json_object(source / DESCRIPTION, CheckpointError)
    content |= _facts(source, content, publication)
    if publication.calibration:
        content |= calibration_content(
            publication.calibration, checkpoint, checkpoint.query_fingerprint
        )
    try:
        with artifact.temporary_directory(directory.parent, ".publishing-") as temporary:
            for name in ADAPTER_FILES:
                if (source / name).is_file():
                    shutil.copyfile(source / name, temporary / name)
            (temporary / DESCRIPTION).write_bytes(artifact.canonical_json(content))
            read_adapter(temporary)
            if directory.exists() and directory.samefile(source):
                shutil.rmtree(directory)
            publish_once(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None


def _facts(source: Path, content: dict[str, Any], publication: Publication) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": publication.name}
    if publication.license:
        facts["license"] = publication.license
    if publication.languages:
        facts["languages"] = languages_content(publication.languages)
    base = content.get("base")
    if base and not Path(base).is_dir() and (source / base).is_dir():
        facts["base"] = str((source / base).resolve())  # it is relative to the source's folder
    return facts
