"""An index and the prompts that it was embedded with."""

import json
from pathlib import Path

import pytest

from service.lifespan import load_engine
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import EncoderMismatchError
from service.retrieval.generation.generation import check_passage_side, open_current
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from service.settings.settings import load_settings
from service.telemetry.metrics import Metrics


@pytest.fixture(scope="module")
def prompted(tiny_checkpoint: Path) -> Encoder:
    return load_encoder(str(tiny_checkpoint), device="cpu", passage_prompt="text: ")


@pytest.fixture(scope="module")
def prompted_index(
    tmp_path_factory: pytest.TempPathFactory, prompted: Encoder, passages_file: Path
) -> Path:
    index = tmp_path_factory.mktemp("prompted") / "index"
    build_index(read_passages(passages_file), index, prompted)
    return index


def test_an_override_is_recorded_in_the_manifest(prompted_index: Path, prompted: Encoder) -> None:
    generation = open_current(prompted_index)

    record = generation.manifest.encoder
    assert record.prompts == {"query": "query: ", "passage": "text: "}
    assert record.fingerprint == prompted.passage_fingerprint
    Searcher(prompted, generation).check_canaries()


def test_without_an_override_the_manifest_is_as_it_was(tiny_index: Path) -> None:
    [directory] = (tiny_index / "generations").iterdir()

    record = json.loads((directory / "manifest.json").read_text())["encoder"]
    assert record.keys() == {"fingerprint", "max_tokens", "name", "runtime"}


def test_a_query_prompt_does_not_refuse_an_index(tiny_checkpoint: Path, tiny_index: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", query_prompt="find: ")

    assert Searcher(encoder, open_current(tiny_index)).search(["tea"], 1)[0]


def test_another_query_prompt_than_the_recorded_one_is_warned_of(
    prompted_index: Path, prompted: Encoder, tiny_checkpoint: Path
) -> None:
    encoder = load_encoder(
        str(tiny_checkpoint), device="cpu", query_prompt="find: ", passage_prompt="text: "
    )
    generation = open_current(prompted_index)

    assert Searcher(prompted, generation).warning == ""
    assert Searcher(encoder, generation).warning == (
        "the index was built with another query prompt than the encoder tiny-mean-0 has, "
        '"find: " (CLEAR_QUERY_PROMPT): set CLEAR_QUERY_PROMPT=\'"query: "\' to search as it was '
        "built"
    )


def test_the_service_logs_that_warning_when_it_loads(
    tiny_checkpoint: Path, prompted_index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(
        encoder=str(tiny_checkpoint),
        index=prompted_index,
        device="cpu",
        cpu_engine="torch",
        query_prompt="find: ",
        passage_prompt="text: ",
    )

    load_engine(settings, Metrics()).close()

    assert [record.message for record in caplog.records if "another query" in record.message]


def test_two_other_prompts_are_refused_with_both_settings(
    prompted_index: Path, tiny_checkpoint: Path
) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", query_prompt="find: ")

    with pytest.raises(
        EncoderMismatchError,
        match="""set CLEAR_QUERY_PROMPT='"query: "' and CLEAR_PASSAGE_PROMPT='"text: "', or""",
    ):
        Searcher(encoder, open_current(prompted_index))


def test_an_encoder_of_the_same_name_with_other_settings_is_refused_as_changed(
    tiny_index: Path, tiny_encoder: Encoder
) -> None:
    generation = open_current(tiny_index)
    record = generation.manifest.encoder.model_copy(update={"fingerprint": "0" * 64})

    with pytest.raises(EncoderMismatchError, match="its files, CLEAR_POOLING or its truncation"):
        check_passage_side(record, tiny_encoder.checkpoint)


def test_another_passage_prompt_is_refused_in_words(
    tiny_encoder: Encoder, tiny_index: Path, prompted: Encoder, prompted_index: Path
) -> None:
    with pytest.raises(EncoderMismatchError) as caught:
        Searcher(prompted, open_current(tiny_index))
    assert str(caught.value) == (
        'the index was embedded with the passage prompt "passage: ", the encoder tiny-mean-0 has '
        '"text: " (CLEAR_PASSAGE_PROMPT): set CLEAR_PASSAGE_PROMPT=\'"passage: "\', or build again'
    )

    with pytest.raises(EncoderMismatchError) as caught:
        Searcher(tiny_encoder, open_current(prompted_index))
    assert 'with the passage prompt "text: ", the encoder' in str(caught.value)
    assert "set CLEAR_PASSAGE_PROMPT='\"text: \"'" in str(caught.value)


def test_an_update_with_another_passage_prompt_is_refused_in_words(
    tiny_encoder: Encoder, prompted_index: Path, passages_file: Path
) -> None:
    with pytest.raises(EncoderMismatchError, match="CLEAR_PASSAGE_PROMPT='\"text: \"', or build"):
        update_index(read_passages(passages_file), prompted_index, tiny_encoder)


def test_another_encoder_is_refused_by_fingerprints_whatever_its_prompts(
    other_encoder: Encoder, prompted_index: Path
) -> None:
    with pytest.raises(EncoderMismatchError, match="fingerprint"):
        Searcher(other_encoder, open_current(prompted_index))
