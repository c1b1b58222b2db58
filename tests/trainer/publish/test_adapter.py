import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.language_quality import LanguageQuality
from trainer.errors import DataError, OutputError
from trainer.publish.adapter import write_adapter_publication
from trainer.publish.directory import Publication

RECORD = {"sw": LanguageQuality(questions=0.7, statements=0.9, n=10)}
PUBLICATION = Publication("tuned", "mit", languages=RECORD)


def test_an_adapter_is_copied_with_the_record_and_embeds_as_before(
    tmp_path: Path, tuned_checkpoint: Path, tuned_encoder: Encoder
) -> None:
    write_adapter_publication(
        open_checkpoint(str(tuned_checkpoint), tmp_path), tmp_path / "out", PUBLICATION
    )

    found = load_encoder(str(tmp_path / "out"), device="cpu")
    assert found.checkpoint.languages == RECORD
    assert found.fingerprint == tuned_encoder.fingerprint
    embeddings = [each.encode(["tea"], "query").embeddings for each in (found, tuned_encoder)]
    assert np.array_equal(*embeddings)
    before = json.loads((tuned_checkpoint / "adapter.json").read_text())
    after = json.loads((tmp_path / "out/adapter.json").read_text())
    languages = {"sw": {"questions": 0.7, "statements": 0.9, "n": 10}}
    assert after == before | {"name": "tuned", "license": "mit", "languages": languages}


def test_an_equal_adapter_stays_and_another_folder_is_not_replaced(
    tmp_path: Path, tuned_checkpoint: Path
) -> None:
    checkpoint = open_checkpoint(str(tuned_checkpoint), tmp_path)
    target = tmp_path / "target"
    write_adapter_publication(checkpoint, target, PUBLICATION)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")

    write_adapter_publication(checkpoint, target, PUBLICATION)
    with pytest.raises(OutputError, match="mine has other content: name another folder"):
        write_adapter_publication(checkpoint, tmp_path / "mine", PUBLICATION)
    with pytest.raises(OutputError, match="target has other content: name another folder"):
        write_adapter_publication(checkpoint, target, Publication("tuned", "mit"))

    assert open_checkpoint(str(target), tmp_path).languages == RECORD
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_adapter_may_be_published_into_its_own_folder(
    tmp_path: Path, tuned_checkpoint: Path
) -> None:
    own = Path(shutil.copytree(tuned_checkpoint, tmp_path / "own"))

    write_adapter_publication(open_checkpoint(str(own), tmp_path), own, PUBLICATION)

    assert open_checkpoint(str(own), tmp_path).languages == RECORD


def test_a_relative_base_is_found_from_the_copy(
    tmp_path: Path, tiny_checkpoint: Path, tuned_checkpoint: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "base")
    adapter = Path(shutil.copytree(tuned_checkpoint, tmp_path / "adapter"))
    content = json.loads((adapter / "adapter.json").read_text())
    (adapter / "adapter.json").write_text(json.dumps(content | {"base": "../base"}))

    write_adapter_publication(
        open_checkpoint(str(adapter), tmp_path), tmp_path / "else/where", PUBLICATION
    )

    assert open_checkpoint(str(tmp_path / "else/where"), tmp_path).languages == RECORD


def test_an_encoder_is_not_copied_as_an_adapter(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(DataError, match="is not an adapter: leave --as-adapter out"):
        write_adapter_publication(
            open_checkpoint(str(tiny_checkpoint), tmp_path), tmp_path / "out", PUBLICATION
        )
