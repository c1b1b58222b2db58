"""The settings of `config_sentence_transformers.json` beyond prompts."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError

NAME = "config_sentence_transformers.json"


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )


def without_normalize(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))


@pytest.mark.parametrize("name", ["cosine", "dot", None, "maxsim"])
def test_a_similarity_that_unit_vectors_have_is_served(
    checkpoint_copy: Path, name: str | None
) -> None:
    edit(checkpoint_copy / NAME, similarity_fn_name=name)

    assert read_layout(checkpoint_copy).prompts["query"] == "query: "


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan"])
def test_a_similarity_that_unit_vectors_do_not_have_is_refused_with_the_reason(
    checkpoint_copy: Path, name: str
) -> None:
    without_normalize(checkpoint_copy)
    edit(checkpoint_copy / NAME, similarity_fn_name=name)

    with pytest.raises(
        CheckpointError,
        match=f"/{NAME}: `similarity_fn_name` is '{name}', but an index holds unit vectors",
    ):
        read_layout(checkpoint_copy)


def test_dot_of_truncated_vectors_is_refused(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / NAME, similarity_fn_name="dot", truncate_dim=8)

    with pytest.raises(CheckpointError, match="`similarity_fn_name` is 'dot'"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize("dim", [8, 31, 32, 500])
def test_embeddings_are_truncated_as_sentence_transformers_does_and_of_unit_length(
    checkpoint_copy: Path, tmp_path: Path, dim: int
) -> None:
    from sentence_transformers import SentenceTransformer

    (checkpoint_copy / "manifest.json").unlink()
    before = open_checkpoint(str(checkpoint_copy), tmp_path).passage_fingerprint
    edit(checkpoint_copy / NAME, truncate_dim=dim)

    encoder = load_encoder(str(checkpoint_copy), device="cpu")

    texts = ["Lima lies on the coast.", "", "Tokyo"]
    theirs = SentenceTransformer(str(checkpoint_copy), device="cpu")
    expected = theirs.encode_document(texts, normalize_embeddings=True)
    found = encoder.encode(texts, "passage").embeddings
    assert encoder.embedding_dim == min(dim, 32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert encoder.fingerprint != before


@pytest.mark.parametrize("dim", [0, -8, "8", 1.5, True, [8]])
def test_another_truncate_dim_is_refused_by_file_and_field(
    checkpoint_copy: Path, dim: object
) -> None:
    edit(checkpoint_copy / NAME, truncate_dim=dim)

    with pytest.raises(CheckpointError, match=f"/{NAME}: `truncate_dim` "):
        read_layout(checkpoint_copy)
