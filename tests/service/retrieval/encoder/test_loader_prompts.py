"""Prompts of a folder, of a family and of the settings, from the file to the embedding."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.conftest import make_adapter, make_checkpoint

TEXTS = ["Lima is in Peru", "tea"]
CONFIG = "config_sentence_transformers.json"


@pytest.fixture(scope="module")
def e5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named as a published family, which states no prompts."""
    folder = make_checkpoint(tmp_path_factory.mktemp("hub") / "e5-base", with_manifest=False)
    (folder / CONFIG).write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    return folder


def load(folder: Path, query: str | None = None, passage: str | None = None) -> Encoder:
    return load_encoder(str(folder), device="cpu", query_prompt=query, passage_prompt=passage)


def embed(encoder: Encoder, role: str) -> bytes:
    return encoder.encode(TEXTS, role).embeddings.tobytes()  # type: ignore[arg-type]


def test_an_override_is_put_before_the_texts_of_its_side(
    tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = load(tiny_checkpoint, query="find: ")

    theirs = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    expected = theirs.encode_query(TEXTS, prompt="find: ", normalize_embeddings=True)
    found = encoder.encode(TEXTS, "query").embeddings
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert embed(encoder, "passage") == embed(tiny_encoder, "passage")
    assert encoder.prompts == {"query": "find: ", "passage": "passage: "}


def test_a_query_prompt_enters_the_fingerprint_of_the_queries_only(
    tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    encoder = load(tiny_checkpoint, query="find: ")

    assert encoder.fingerprint != tiny_encoder.fingerprint
    assert encoder.passage_fingerprint == tiny_encoder.passage_fingerprint
    assert (encoder.encodes_passages, encoder.has_two_sides) == (True, False)


def test_a_passage_prompt_enters_the_fingerprint_of_the_passages_only(
    tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    encoder = load(tiny_checkpoint, passage="text: ")

    assert encoder.fingerprint == tiny_encoder.fingerprint
    assert encoder.passage_fingerprint != tiny_encoder.passage_fingerprint
    assert embed(encoder, "query") == embed(tiny_encoder, "query")
    assert embed(encoder, "passage") != embed(tiny_encoder, "passage")


def test_an_override_that_equals_the_encoder_s_own_prompt_changes_nothing(
    tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    encoder = load(tiny_checkpoint, query="query: ", passage="passage: ")

    assert encoder.fingerprint == tiny_encoder.fingerprint
    assert encoder.passage_fingerprint == tiny_encoder.passage_fingerprint


def test_each_side_of_two_takes_its_own_override(
    tuned_checkpoint: Path, tuned_encoder: Encoder
) -> None:
    encoder = load(tuned_checkpoint, query="q: ", passage="p: ")

    assert encoder.fingerprint != tuned_encoder.fingerprint
    assert encoder.passage_fingerprint == encoder.side("passage").fingerprint
    assert encoder.passage_fingerprint != tuned_encoder.passage_fingerprint
    assert embed(encoder, "query") != embed(tuned_encoder, "query")
    assert embed(encoder, "passage") != embed(tuned_encoder, "passage")


def test_an_encoder_of_queries_alone_takes_no_passage_prompt(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "bridge", passage_fingerprint="f" * 64)

    assert load(folder, query="q: ").passage_fingerprint == "f" * 64
    with pytest.raises(CheckpointError, match="queries alone: leave CLEAR_PASSAGE_PROMPT out"):
        load(folder, passage="p: ")


def test_a_known_family_embeds_with_the_prompts_of_its_authors(
    e5: Path, tiny_encoder: Encoder
) -> None:
    encoder = load(e5)

    assert encoder.prompts == {"query": "query: ", "passage": "passage: "}
    assert encoder.prompts_in_force.query.source.startswith("family E5")
    for role in ("query", "passage"):
        assert embed(encoder, role) == embed(tiny_encoder, role)


def test_a_family_s_prompt_enters_the_fingerprint_of_its_own_side(e5: Path, tmp_path: Path) -> None:
    plain = load(Path(shutil.copytree(e5, tmp_path / "copy")))  # of no family
    family = load(e5)

    assert plain.prompts == {"query": "", "passage": ""}
    assert plain.fingerprint == plain.passage_fingerprint
    assert len({plain.fingerprint, family.fingerprint, family.passage_fingerprint}) == 3
    assert load(e5, passage="").passage_fingerprint == plain.passage_fingerprint
    assert load(e5, query="").fingerprint == plain.fingerprint
    assert load(tmp_path / "copy", "query: ", "passage: ").fingerprint == family.fingerprint


def test_a_family_without_a_passage_prompt_keeps_the_fingerprint_of_its_passages(
    e5: Path, tmp_path: Path
) -> None:
    plain = load(Path(shutil.copytree(e5, tmp_path / "copy")))
    bge = load(Path(shutil.copytree(e5, tmp_path / "bge-base-en-v1.5")))

    assert bge.prompts["query"].startswith("Represent this sentence")
    assert bge.passage_fingerprint == plain.passage_fingerprint
    assert bge.fingerprint != plain.fingerprint


def test_an_adapter_of_a_known_family_is_checked_with_the_family_s_prompts(
    e5: Path, tmp_path: Path
) -> None:
    base = load(e5)
    folder = make_adapter(
        tmp_path / "mine", base, base=str(e5), passage_fingerprint=base.passage_fingerprint
    )

    tuned = load(folder)

    assert tuned.prompts == base.prompts
    assert tuned.passage_fingerprint == base.passage_fingerprint
    assert load(folder, query="q: ").passage_fingerprint == base.passage_fingerprint
