import random
from pathlib import Path

import numpy as np
import pytest
from py3langid.langid import LanguageIdentifier

from service.engine import language_model
from service.engine.language_model import MOVES, load_identifier
from tests.bench.soak_traffic import some_text


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    load_identifier(folder)
    return folder


@pytest.fixture(scope="module")
def whole() -> LanguageIdentifier:
    return load_identifier(None)


def test_the_copy_detects_as_the_librarys_model(cache: Path, whole: LanguageIdentifier) -> None:
    mapped = load_identifier(cache)
    rng = random.Random(2)
    texts = [some_text(rng) for _ in range(200)]

    assert isinstance(mapped.nb_ptc, np.memmap)
    assert [mapped.classify(text) for text in texts] == [whole.classify(text) for text in texts]


def test_a_damaged_copy_is_written_again(cache: Path, whole: LanguageIdentifier) -> None:
    [path] = cache.glob(f"*/{MOVES}")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\xff" * 8)

    assert load_identifier(cache).classify("Habari za asubuhi") == whole.classify(
        "Habari za asubuhi"
    )
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_leaves_the_model_in_memory(
    tmp_path: Path,
    whole: LanguageIdentifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(
        language_model.LanguageIdentifier, "from_model_file", lambda path, norm_probs: whole
    )
    (tmp_path / "file").write_text("")

    assert load_identifier(tmp_path / "file") is whole
    assert "held in memory" in caplog.text
