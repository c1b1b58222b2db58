import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.retrieval.checkpoint.manifest import fingerprint_of
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.checkpoint.writer import with_other_weights
from service.retrieval.encoder.reference.stored import (
    FACTS,
    PATH,
    StoredReference,
    read_reference,
    write_reference,
)
from service.retrieval.errors import CheckpointError

STORED = StoredReference({"query": np.eye(2, dtype=np.float32)}, dict.fromkeys(FACTS, "x"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_reference(tmp_path, STORED)

    found = read_reference(tmp_path)

    assert found is not None
    assert found.embeddings.keys() == {"query"}
    assert np.array_equal(found.embeddings["query"], np.eye(2))
    assert found.facts == {"format_version": "1", **STORED.facts}
    assert read_reference(tmp_path / PATH) is None


def test_no_fingerprint_depends_on_it(checkpoint_copy: Path) -> None:
    before = fingerprint_of(checkpoint_copy, read_layout(checkpoint_copy))

    write_reference(checkpoint_copy, STORED)

    assert fingerprint_of(checkpoint_copy, read_layout(checkpoint_copy)) == before


def test_other_weights_do_not_take_it_over(checkpoint_copy: Path) -> None:
    write_reference(checkpoint_copy, STORED)

    files = with_other_weights(checkpoint_copy, read_layout(checkpoint_copy), {})

    assert not [name for name in files if name.startswith("reference")]


@pytest.mark.parametrize(
    "metadata", [{}, {**STORED.facts}, {"format_version": "2", **STORED.facts}]
)
def test_another_format_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    (tmp_path / PATH).parent.mkdir()
    save_file({"query": np.eye(2)}, tmp_path / PATH, metadata=metadata)

    with pytest.raises(CheckpointError, match="has format version .* publish the encoder again"):
        read_reference(tmp_path)


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / PATH).parent.mkdir()
    (tmp_path / PATH).write_bytes(b"x")

    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / PATH} cannot be read")):
        read_reference(tmp_path)
