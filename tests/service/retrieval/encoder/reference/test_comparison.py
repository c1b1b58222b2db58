import shutil
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.reference.comparison import (
    Comparison,
    compare,
    read_comparison,
    record_path,
    save_comparison,
)
from service.retrieval.encoder.reference.computed import compute_reference
from service.retrieval.encoder.reference.stored import StoredReference
from service.retrieval.encoder.reference.texts import SENTENCES
from tests.service.retrieval.checkpoint.peft.test_adapter import write_peft


def reference_of(folder: Path, query: str | None = None) -> StoredReference:
    return compute_reference(open_checkpoint(str(folder), folder, query))


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> StoredReference:
    return reference_of(tiny_checkpoint)


@pytest.fixture(scope="module")
def comparison(tiny_encoder: Encoder, reference: StoredReference) -> Comparison:
    return compare(tiny_encoder, reference)


def test_a_right_encoder_reaches_the_bound_in_every_script(comparison: Comparison) -> None:
    assert comparison.by_script.keys() == SENTENCES.keys()
    assert 0.99999 < comparison.least_cosine <= 1
    assert comparison.is_right
    assert (comparison.bound, comparison.runtime) == (0.9999, "torch-fp32")


def test_an_encoder_with_an_adapter_is_right_on_both_sides(
    tuned_checkpoint: Path, tuned_encoder: Encoder
) -> None:
    assert compare(tuned_encoder, reference_of(tuned_checkpoint)).is_right


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
@pytest.mark.parametrize("is_alone", [True, False])
def test_an_adapter_of_peft_alone_or_beside_modules_is_merged_into_the_reference(
    tmp_path: Path,
    tiny_checkpoint: Path,
    checkpoint_copy: Path,
    tiny_encoder: Encoder,
    is_alone: bool,
) -> None:
    folder = write_peft(tmp_path / "adapter", tiny_checkpoint)
    if not is_alone:
        for name in ("manifest.json", "model.safetensors", "config.json"):
            (checkpoint_copy / name).unlink()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(folder / name, checkpoint_copy)
        folder = checkpoint_copy
    encoder = load_encoder(str(folder), device="cpu")

    assert compare(encoder, reference_of(folder)).is_right
    assert not compare(tiny_encoder, reference_of(folder)).is_right


def test_a_prompt_of_the_settings_is_given_to_the_library(tiny_checkpoint: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", query_prompt="find: ")

    assert compare(encoder, reference_of(tiny_checkpoint, "find: ")).is_right
    assert not compare(encoder, reference_of(tiny_checkpoint)).is_right


def test_a_limit_of_the_settings_is_given_to_the_library(tiny_checkpoint: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=16)
    checkpoint = open_checkpoint(str(tiny_checkpoint), tiny_checkpoint)

    assert compare(encoder, compute_reference(checkpoint, 16)).is_right
    assert not compare(encoder, compute_reference(checkpoint)).is_right


def test_a_folder_that_transformers_saved_is_compared_with_the_pooling_of_the_settings(
    checkpoint_copy: Path,
) -> None:
    for name in ("modules.json", "manifest.json"):
        (checkpoint_copy / name).unlink()
    encoder = load_encoder(str(checkpoint_copy), device="cpu", pooling="cls")
    checkpoint = open_checkpoint(str(checkpoint_copy), checkpoint_copy, pooling="cls")

    assert compare(encoder, compute_reference(checkpoint)).is_right


@pytest.mark.parametrize("row", [0, 31])
def test_one_wrong_text_of_32_fails_and_its_script_is_told(
    tiny_encoder: Encoder, reference: StoredReference, row: int
) -> None:
    embeddings = {role: each.copy() for role, each in reference.embeddings.items()}
    embeddings["passage"][row] = np.roll(embeddings["passage"][row], 1)

    found = compare(tiny_encoder, StoredReference(embeddings, reference.facts))

    worst = min(found.by_script, key=found.by_script.__getitem__)
    assert not found.is_right
    assert worst == list(SENTENCES)[row // 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_value_that_is_no_number_fails(
    tiny_encoder: Encoder, reference: StoredReference, value: float
) -> None:
    embeddings = {"query": np.full_like(reference.embeddings["query"], value)}

    assert not compare(tiny_encoder, StoredReference(embeddings, reference.facts)).is_right


def test_the_length_of_a_vector_does_not_hide_its_direction(
    tiny_encoder: Encoder, reference: StoredReference
) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(32, 32)).astype(np.float32)
    others = {role: 50 * (each + noise) for role, each in reference.embeddings.items()}

    assert compare(tiny_encoder, StoredReference(others, reference.facts)).least_cosine < 0.95


def test_another_dimension_fails(tiny_encoder: Encoder, reference: StoredReference) -> None:
    embeddings = {"query": reference.embeddings["query"][:, :16]}

    assert not compare(tiny_encoder, StoredReference(embeddings, reference.facts)).is_right


def test_the_record_is_of_this_encoder_and_this_runtime(
    tmp_path: Path, tiny_encoder: Encoder, other_encoder: Encoder, comparison: Comparison
) -> None:
    save_comparison(tmp_path / "cache", tiny_encoder, comparison)

    assert read_comparison(tmp_path / "cache", tiny_encoder) == comparison
    assert read_comparison(tmp_path / "cache", other_encoder) is None
    assert "torch-fp32" in record_path(tmp_path, tiny_encoder).name


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"by_script": {}}', b"\xff"])
def test_a_damaged_record_is_no_record(
    tmp_path: Path, tiny_encoder: Encoder, content: bytes
) -> None:
    record_path(tmp_path, tiny_encoder).write_bytes(content)

    assert read_comparison(tmp_path, tiny_encoder) is None


def test_a_record_of_other_texts_is_no_record(
    tmp_path: Path, tiny_encoder: Encoder, comparison: Comparison
) -> None:
    save_comparison(
        tmp_path, tiny_encoder, comparison.model_copy(update={"texts_sha256": "0" * 64})
    )

    assert read_comparison(tmp_path, tiny_encoder) is None
