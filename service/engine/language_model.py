"""The language detector's model, mapped from a copy in the cache: what no text uses stays on disk.

The library unpacks the model into 73 MB of memory in .7 s at each start.
"""

import json
import logging
import shutil
from array import array
from importlib.metadata import version
from pathlib import Path

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from service.retrieval.errors import ArtifactError
from service.retrieval.storage import artifact, checksums

SCORES, MOVES, REST, MANIFEST = "scores.npy", "moves.npy", "rest.json", "manifest.json"
FORMAT_VERSION = 1

logger = logging.getLogger(__name__)


def load_identifier(cache: Path | None) -> LanguageIdentifier:
    """Load the model: from its copy in the cache, which is written if it is missing or damaged.

    Args:
        cache: a folder; without one, or where it cannot be written, memory holds the whole model.
    """
    if cache is None:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    folder = cache / f"language{FORMAT_VERSION}-{version('py3langid')}"
    try:
        return _read(folder)
    except (ArtifactError, OSError):
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    try:
        _write(folder, identifier)
        return _read(folder)
    except (ArtifactError, OSError) as error:  # another process may write it at this moment
        logger.warning("the language model is held in memory, as %s is not used: %s", folder, error)
        return identifier


def _write(folder: Path, identifier: LanguageIdentifier) -> None:
    with artifact.temporary_directory(folder.parent, f".{folder.name}-") as made:
        np.save(made / SCORES, identifier.nb_ptc)
        np.save(made / MOVES, np.asarray(identifier.tk_nextmove))
        rest = {
            "classes": identifier.nb_classes,
            "priors": identifier.nb_pc.tolist(),
            "rows": identifier.tk_row.tolist(),
            "features": identifier.tk_output,
        }
        (made / REST).write_text(json.dumps(rest))
        files = checksums.record_files(made, [SCORES, MOVES, REST])
        (made / MANIFEST).write_bytes(artifact.canonical_json({"files": files}))
        shutil.rmtree(folder, ignore_errors=True)  # it is damaged
        artifact.publish_directory(made, folder)


def _read(folder: Path) -> LanguageIdentifier:
    manifest = artifact.read_json_object(folder / MANIFEST, ArtifactError)
    checksums.verify_files(folder, manifest["files"], ArtifactError)
    rest = artifact.read_json_object(folder / REST, ArtifactError)
    moves = np.load(folder / MOVES, mmap_mode="r")
    return LanguageIdentifier(
        np.load(folder / SCORES, mmap_mode="r"),
        np.array(rest["priors"], np.float32),
        rest["classes"],
        memoryview(moves),  # whose numbers are Python's, faster than an array's
        rest["features"],
        norm_probs=True,
        tk_row=array("H", rest["rows"]),
    )
