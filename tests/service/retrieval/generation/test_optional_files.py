"""Evidence and identifiers whose hashes are right and whose content is not: refused at open."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import GenerationError
from service.retrieval.evidence.table import EVIDENCE, SCHEMA
from service.retrieval.generation.generation import open_generation, verify_generation
from service.retrieval.generation.manifest import IDENTIFIERS, read_manifest
from service.retrieval.indexing.build import build_index
from service.retrieval.storage.arrow_files import ArrowWriter, map_rows
from service.retrieval.storage.checksums import record_files
from tests.support.builds import live_directory, rewrite_manifest

TEXT = "Tea grows in hills of Kenya. Crate AA-1720 is at the pier."


@pytest.fixture(scope="module")
def index_with_evidence(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    index = tmp_path_factory.mktemp("evidence") / "index"
    passages = [("f:1", Passage(str(number), TEXT)) for number in range(3)]
    build_index(passages, index, tiny_encoder, evidence=True)
    return index


def append_posting(path: Path) -> None:
    path.write_bytes(path.read_bytes() + np.array([(1 << 64) - 1], "<u8").tobytes())


def cut_half_a_posting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def write_rows(path: Path, rows: pa.Table) -> None:
    path.unlink()
    with ArrowWriter(path, rows.schema) as writer:
        writer.write_rows(rows)


def drop_a_row(path: Path) -> None:
    write_rows(path, map_rows(path).slice(1))


def cut_vectors(path: Path) -> None:
    rows = map_rows(path)
    shorter = pa.array([each[:-1] for each in rows["evidence.vectors"].to_pylist()], pa.binary())
    write_rows(path, rows.set_column(2, SCHEMA.field(2), shorter))


def rename_a_column(path: Path) -> None:
    write_rows(path, map_rows(path).rename_columns(["key", "spans", "vectors"]))


def write_text(path: Path) -> None:
    path.write_text("no table")


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        (EVIDENCE, drop_a_row, "does not hold the evidence of 3 passages"),
        (EVIDENCE, rename_a_column, "does not hold the evidence of 3 passages"),
        (EVIDENCE, cut_vectors, "is damaged, row 0 has 16 bytes of spans and 63 of vectors of 32"),
        (EVIDENCE, write_text, "is not an Arrow file"),
        (IDENTIFIERS, append_posting, "is damaged, it names row 268435455 of 3"),
        (IDENTIFIERS, cut_half_a_posting, "does not hold whole postings"),
    ],
)
def test_a_damaged_file_of_the_right_hash_is_refused_by_its_name_with_the_remedy(
    index_with_evidence: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], fault: str
) -> None:
    index = Path(shutil.copytree(index_with_evidence, tmp_path / "index"))
    live = live_directory(index)
    damage(live / name)
    files = read_manifest(live).files | record_files(live, [name])
    directory = rewrite_manifest(index, files=files)

    for check in (verify_generation, open_generation):
        with pytest.raises(GenerationError) as caught:
            check(directory)
        message = str(caught.value)
        assert message.startswith(f"{directory / name} {fault}")
        assert message.endswith(": build the index again")
