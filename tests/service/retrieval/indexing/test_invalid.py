import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import EmbeddingError, GenerationError, PassageError
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.indexing.shards import InProcessEncoder, ShardFolder
from tests.support.builds import Origins, corpus, files_of
from tests.support.damage import replace_vectors

SPOILED = (np.nan, np.inf, -np.inf, 0.0)


@dataclass
class SpoilingEncoder:
    """Encodes shards, and spoils the embeddings of some texts."""

    encoder: Encoder
    is_spoiled: Callable[[str], bool]
    num_shards: int = 0
    done: list[int] = field(default_factory=list)

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity.of(self.encoder)

    def encode(self, shards, on_texts):  # type: ignore[no-untyped-def]
        for shard in shards:
            self.num_shards += 1
            [(name, encoded)] = InProcessEncoder(self.encoder).encode([shard], on_texts)
            embeddings = encoded.embeddings.copy()
            rows = [row for row, text in enumerate(shard.texts) if self.is_spoiled(text)]
            for number, row in enumerate(rows):
                embeddings[row] = SPOILED[number % len(SPOILED)]
            yield name, EncodedPassages(embeddings, encoded.is_truncated)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.retrieval.indexing.encoding.SHARD_PASSAGES", 8)
    monkeypatch.setattr("service.retrieval.indexing.assembly.WINDOW_ROWS", 16)


def has_harp(text: str) -> bool:
    return "harp" in text


@pytest.mark.parametrize("factory", ["Flat", "IVF2,SQ8"])
def test_an_index_without_spoiled_passages_equals_one_of_the_others(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    passages = corpus(0)
    spoiled = {passage.passage_id for _, passage in passages if has_harp(passage.text)}
    others = [each for each in passages if each[1].passage_id not in spoiled]
    errors: list[PassageError] = []

    report = build_index(
        passages,
        tmp_path / "a",
        tiny_encoder,
        factory=factory,
        shard_encoder=SpoilingEncoder(tiny_encoder, has_harp),
        on_invalid=errors.append,
    )
    build_index(others, tmp_path / "b", tiny_encoder, factory=factory)

    assert 10 < len(spoiled) < len(passages)
    assert sorted(str(error).split("'")[1] for error in errors) == sorted(spoiled)
    counts = report.counts
    assert (counts.num_passages, counts.num_encoded) == (len(others), len(others))
    assert counts.num_unembedded == len(spoiled)
    assert open_current(tmp_path / "a").manifest.num_unembedded == len(spoiled)
    found, expected = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    for files in (found, expected):
        del files["manifest.json"]  # counts the spoiled ones
    assert found == expected


def test_a_build_stops_at_the_first_shard_with_a_spoiled_passage(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    shard_encoder = SpoilingEncoder(tiny_encoder, has_harp)

    with pytest.raises(PassageError, match=r"^f:\d+: the encoder tiny-mean-0 gives NaN, infinity"):
        build_index(corpus(0), tmp_path, tiny_encoder, shard_encoder=shard_encoder)

    assert shard_encoder.num_shards == 1


def test_a_spoiled_shard_is_encoded_again_by_the_next_build(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    """A device may have computed it wrongly once."""
    with pytest.raises(PassageError):
        build_index(
            corpus(0), tmp_path, tiny_encoder, shard_encoder=SpoilingEncoder(tiny_encoder, has_harp)
        )

    counts = build_index(corpus(0), tmp_path, tiny_encoder).counts

    assert (counts.num_passages, counts.num_encoded, counts.num_unembedded) == (60, 60, 0)


def test_equal_shards_that_are_spoiled_are_left_out_once_each(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    passages: Origins = [(f"f:{row}", Passage(f"{row:02}", "one harp")) for row in range(24)]
    passages += [("f:24", Passage("24", "tea"))]
    errors: list[PassageError] = []

    report = build_index(
        passages,
        tmp_path,
        tiny_encoder,
        shard_encoder=SpoilingEncoder(tiny_encoder, has_harp),
        on_invalid=errors.append,
    )

    assert (report.counts.num_passages, report.counts.num_unembedded) == (1, 24)
    assert len({str(error) for error in errors}) == len(errors) == 24


def spoil(vectors: NDArray[np.float32]) -> None:
    vectors[3], vectors[5, 7] = 0.0, np.nan


@pytest.mark.parametrize("factory", ["Flat", "IVF2,SQ8"])
def test_an_update_embeds_the_passages_of_spoiled_vectors_again(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    build_index(corpus(0), tmp_path / "a", tiny_encoder, factory=factory)
    build_index(corpus(0), tmp_path / "b", tiny_encoder, factory=factory)
    replace_vectors(tmp_path / "a", spoil)
    with pytest.raises(GenerationError, match="holds 2 vectors that are NaN"):
        open_current(tmp_path / "a")

    counts = update_index(corpus(0), tmp_path / "a", tiny_encoder).counts

    assert (counts.num_reused, counts.num_encoded) == (58, 2)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_build_without_a_valid_canary_query_says_so(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = copy.copy(tiny_encoder)

    def fail(*arguments: object) -> None:
        raise EmbeddingError("tiny", range(8))

    monkeypatch.setattr(encoder, "encode", fail)

    with pytest.raises(EmbeddingError, match="position 0 and 7 more"):
        build_index(corpus(0), tmp_path, encoder)

    assert not (tmp_path / "CURRENT").exists()


def test_a_shard_folder_offers_no_spoiled_shard(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path, 2)
    flags = np.zeros(2, np.bool_)
    shards.save("good", EncodedPassages(np.array([[1, 0], [0, 1]], np.float32), flags))
    shards.save("bad", EncodedPassages(np.array([[1, 0], [0, 0]], np.float32), flags))

    assert shards.has("good")
    assert not shards.has("bad")
    assert len(shards.read("bad")) == 2
