from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.encoder.reference.computed import compute_reference, find_reference
from service.retrieval.encoder.reference.stored import PATH, StoredReference, write_reference
from service.retrieval.errors import CheckpointError
from tests.support.layouts import Folder


@pytest.fixture
def checkpoint(checkpoint_copy: Path, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(checkpoint_copy), tmp_path)


@pytest.fixture(scope="module")
def computed(tiny_checkpoint: Path) -> StoredReference:
    return compute_reference(open_checkpoint(str(tiny_checkpoint), tiny_checkpoint))


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{compute_reference.__module__}.has_library", lambda: False)


def test_the_library_embeds_both_roles_and_is_named(computed: StoredReference) -> None:
    assert {role: each.shape for role, each in computed.embeddings.items()} == {
        "query": (32, 32),
        "passage": (32, 32),
    }
    norms = np.linalg.norm(computed.embeddings["query"], axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    assert not np.allclose(computed.embeddings["query"], computed.embeddings["passage"])
    assert computed.facts["made_by"].startswith("sentence-transformers 6.")
    assert computed.facts["max_tokens"] == "64 64"


def test_stored_embeddings_are_used_where_the_library_is_missing(
    checkpoint: Checkpoint, computed: StoredReference, without_library: None
) -> None:
    write_reference(checkpoint.directory, computed)

    found = find_reference(checkpoint)

    for role in ("query", "passage"):
        assert np.array_equal(found.embeddings[role], computed.embeddings[role])


def test_without_both_the_extra_is_named(checkpoint: Checkpoint, without_library: None) -> None:
    with pytest.raises(CheckpointError, match="is not installed, .* pip install 'clear-search"):
        find_reference(checkpoint)


@pytest.mark.parametrize(
    ("field", "max_tokens", "words"),
    [
        ("texts_sha256", None, "publish the encoder again"),
        ("made_by", 32, "`max_tokens` is 64 64, not 32 32: leave CLEAR_MAX_TOKENS out"),
    ],
)
def test_embeddings_of_other_texts_or_limits_are_refused(
    checkpoint: Checkpoint,
    computed: StoredReference,
    without_library: None,
    field: str,
    max_tokens: int | None,
    words: str,
) -> None:
    facts = computed.facts | {field: "0" * 64}
    write_reference(checkpoint.directory, replace(computed, facts=facts))

    with pytest.raises(CheckpointError, match=words):
        find_reference(checkpoint, max_tokens)


def test_of_stored_embeddings_only_those_of_the_same_weights_and_prompt_are_compared(
    checkpoint_copy: Path, tmp_path: Path, computed: StoredReference, without_library: None
) -> None:
    write_reference(checkpoint_copy, computed)

    def find(query: str | None, passage: str | None) -> set[str]:
        opened = open_checkpoint(str(checkpoint_copy), tmp_path, query, passage)
        return set(find_reference(opened).embeddings)

    assert find("q: ", None) == {"passage"}
    assert find(None, "p: ") == {"query"}
    with pytest.raises(CheckpointError, match="other weights or prompts"):
        find("q: ", "p: ")


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        (lambda vectors: vectors.astype(np.float64), "`query` is float64, not float32"),
        (lambda vectors: vectors[:-1], "`query` has the shape .31, 32., not 32 vectors"),
        (lambda vectors: vectors[0], "`query` has the shape .32., not 32 vectors"),
        (lambda vectors: 50 * vectors, "`query` has a vector that is not of unit length"),
        (lambda vectors: np.nan * vectors, "`query` has a vector that is not of unit length"),
    ],
)
def test_damaged_vectors_are_refused(
    checkpoint: Checkpoint,
    computed: StoredReference,
    without_library: None,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    damage: str,
) -> None:
    vectors = computed.embeddings | {"query": change(computed.embeddings["query"])}
    write_reference(checkpoint.directory, replace(computed, embeddings=vectors))

    with pytest.raises(CheckpointError, match=f"{PATH} is damaged: {damage}: restore it"):
        find_reference(checkpoint)


def test_texts_over_the_positions_of_the_model_are_cut_at_the_encoders_limit(
    tmp_path: Path,
) -> None:
    limit = {"sentence_bert_config.json": {"max_seq_length": 5_000}}
    opened = open_checkpoint(str(Folder(changes=limit)(tmp_path / "encoder")), tmp_path)

    found = compute_reference(opened)

    assert found.facts["max_tokens"] == "66 66"
    assert found.embeddings["passage"].shape == (32, 32)
