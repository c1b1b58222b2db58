"""Reference embeddings of fixed texts, stored in the checkpoint's folder when it is published.

reference/vectors.safetensors   `query` [N, D] and `passage` [N, D], unit-norm fp32; in its metadata
                                `format_version`, `made_by`, `texts_sha256` and `max_tokens`, and
                                `query_fingerprint` and `passage_fingerprint` of the two sides

N is the number of texts, D the dimension. The manifest holds the file's hash; fingerprints do not
cover it. It has a folder of its own, because each .safetensors file beside the weights is read as
weights.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from service.retrieval.checkpoint.writer import REFERENCE
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.unit_vectors import are_unit

PATH = REFERENCE
FORMAT_VERSION = "1"
ROLES = ("query", "passage")
FACTS = ("made_by", "texts_sha256", "max_tokens", "query_fingerprint", "passage_fingerprint")


@dataclass(frozen=True)
class StoredReference:
    """Embeddings [N, D] by role, and the facts of the file's metadata."""

    embeddings: dict[str, NDArray[np.float32]]
    facts: dict[str, str]

    def damage(self, num_texts: int) -> str | None:
        """Return which embeddings are not unit-norm fp32 vectors of the texts, or None."""
        for role, vectors in self.embeddings.items():
            if vectors.dtype != np.float32:
                return f"`{role}` is {vectors.dtype}, not float32"
            if vectors.ndim != 2 or len(vectors) != num_texts:
                return f"`{role}` has the shape {list(vectors.shape)}, not {num_texts} vectors"
            if not are_unit(vectors).all():
                return f"`{role}` has a vector that is not of unit length"
        return None


def write_reference(directory: Path, reference: StoredReference) -> None:
    """Write the file into a checkpoint's folder."""
    path = directory / PATH
    path.parent.mkdir(exist_ok=True)
    arrays = {role: np.ascontiguousarray(each) for role, each in reference.embeddings.items()}
    metadata = {"format_version": FORMAT_VERSION, **reference.facts}
    save_file(arrays, path, metadata=metadata)


def read_reference(directory: Path) -> StoredReference | None:
    """Read the file of a checkpoint's folder; None if there is none.

    Raises:
        CheckpointError: it is damaged, or a newer program wrote it.
    """
    path = directory / PATH
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            names = set(file.keys()).intersection(ROLES)
            embeddings = {role: file.get_tensor(role) for role in sorted(names)}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({quoted(str(error))}): restore it from a copy or remove it"
        ) from None
    version = facts.get("format_version")
    if version != FORMAT_VERSION or not embeddings or not facts.keys() >= set(FACTS):
        raise CheckpointError(
            f"{path} has format version {quoted(version)} or lacks its facts, this program reads "
            f"version {FORMAT_VERSION}: use a newer program, or publish the encoder again"
        )
    return StoredReference(embeddings, facts)
