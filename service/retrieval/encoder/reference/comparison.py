"""Comparison with the reference: the least cosine of the embeddings by script, and its record.

The record is stored in the cache beside the exported graphs, by fingerprint and runtime. It is not
stored in a generation, because a generation's name must not depend on the machine.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.reference.stored import StoredReference
from service.retrieval.encoder.reference.texts import reference_texts, texts_digest
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact
from service.retrieval.storage.schema import Document, JsonText, parse_document

FORMAT_VERSION = 1
# Least cosine by precision. Half precisions and int8 as measured on the bundled encoder.
BOUNDS = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999, "int8": 0.99}
LIBRARIES = ("torch", "transformers", "openvino")


class Comparison(Document):
    """The least cosine of 32 texts, as queries and passages, alone and in batches, by script."""

    format_version: int = FORMAT_VERSION
    fingerprint: JsonText
    passage_fingerprint: JsonText
    runtime: JsonText
    max_tokens: list[int]
    made_by: JsonText
    texts_sha256: JsonText
    bound: float
    by_script: dict[JsonText, float] = Field(min_length=1)

    @property
    def least_cosine(self) -> float:
        """Return the least cosine of all scripts."""
        return min(self.by_script.values())

    @property
    def is_right(self) -> bool:
        """Return whether every cosine reaches the bound."""
        return self.least_cosine >= self.bound

    def describe(self) -> dict[str, object]:
        """Return the figure as `/info` shows it."""
        return {
            "least_cosine": self.least_cosine,
            "bound": self.bound,
            "is_right": self.is_right,
            "reference": self.made_by,
            "by_script": self.by_script,
        }


def compare(encoder: Encoder, reference: StoredReference) -> Comparison:
    """Embed the reference texts, alone and in batches, and compare.

    Args:
        encoder: on the runtime that is to be checked.
        reference: embeddings of the same texts, of one side or both.
    """
    texts = reference_texts()
    by_script: dict[str, float] = {}
    for role, expected in reference.embeddings.items():
        for found in _embed(encoder, [text for _, text in texts], role):
            for (script, _), cosine in zip(texts, _cosines(found, expected), strict=True):
                by_script[script] = min(by_script.get(script, 1.0), float(cosine))
    precision = encoder.runtime.name.rpartition("-")[2]
    return Comparison(
        fingerprint=encoder.fingerprint,
        passage_fingerprint=encoder.passage_fingerprint,
        runtime=encoder.runtime.name,
        max_tokens=_limits(encoder),
        made_by=reference.facts["made_by"],
        texts_sha256=texts_digest(),
        bound=BOUNDS[precision],
        by_script=by_script,
    )


def _embed(encoder: Encoder, texts: list[str], role: str) -> tuple[Embeddings, Embeddings]:
    """Embed texts alone and in batches, [N, D] each."""
    side: Role = "query" if role == "query" else "passage"
    alone = np.concatenate([encoder.encode([text], side).embeddings for text in texts])
    return alone, encoder.encode(texts, side).embeddings


def _cosines(found: Embeddings, expected: Embeddings) -> NDArray[np.float64]:
    if found.shape != expected.shape:  # another dimension is a mismatch
        return np.full(len(expected), -1.0)
    # In double precision, because the bound is 0.0001 from 1. NaN counts as a mismatch.
    pair = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(pair[0], axis=1) * np.linalg.norm(pair[1], axis=1)
        cosines = np.einsum("nd,nd->n", *pair) / lengths
    return np.asarray(np.nan_to_num(cosines, nan=-1.0), dtype=np.float64)


def record_path(cache: Path, encoder: Encoder) -> Path:
    """Return the path of an encoder's record, named by fingerprints, runtime and libraries."""
    sides = f"{encoder.fingerprint[:16]}-{encoder.passage_fingerprint[:16]}"
    return cache / f"reference{FORMAT_VERSION}-{sides}-{encoder.runtime.name}-{_versions()}.json"


def save_comparison(cache: Path, encoder: Encoder, comparison: Comparison) -> None:
    """Write a comparison to the cache.

    Raises:
        CheckpointError: the cache cannot be written.
    """
    path = record_path(cache, encoder)
    content = artifact.canonical_json(comparison.model_dump(mode="json"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        artifact.replace_file(path, content)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {artifact.write_failure(cache, error)}: free some space or "
            "set CLEAR_CACHE to another folder"
        ) from None


def read_comparison(cache: Path, encoder: Encoder) -> Comparison | None:
    """Return the recorded comparison of an encoder, or None if none was made with these texts."""
    path = record_path(cache, encoder)
    try:
        content = artifact.read_json_object(path, CheckpointError)
        comparison = parse_document(Comparison, content, path, CheckpointError, "check it again")
    except CheckpointError:
        return None
    made = (comparison.format_version, comparison.texts_sha256, comparison.max_tokens)
    return comparison if made == (FORMAT_VERSION, texts_digest(), _limits(encoder)) else None


def _limits(encoder: Encoder) -> list[int]:
    """Return the limit of tokens of each side."""
    roles: tuple[Role, ...] = ("query", "passage") if encoder.encodes_passages else ("query",)
    return [encoder.side(role).max_tokens for role in roles]


def _versions() -> str:
    return "-".join(filter(None, map(_version, LIBRARIES)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
