import pytest

from service.retrieval.checkpoint.prompts.families import FAMILIES
from service.retrieval.checkpoint.prompts.prompts import own_prompts, parse_prompt, quoted_prompt

E5 = FAMILIES[0]
NONE = {"query": "", "passage": ""}


def test_prompts_of_the_folder_come_before_those_of_the_family() -> None:
    prompts = own_prompts({"query": "q: ", "passage": ""}, {"query": "q: "}, E5)

    assert prompts.texts == {"query": "q: ", "passage": ""}
    assert set(prompts.sources.values()) == {"config_sentence_transformers.json"}
    assert prompts.warning == ""


def test_a_known_family_whose_folder_has_none_gets_its_own() -> None:
    prompts = own_prompts(NONE, NONE, E5)

    assert prompts.texts == {"query": "query: ", "passage": "passage: "}
    assert prompts.lines[0].startswith('query prompt "query: " (family E5: model cards of intfloat')
    assert prompts.warning == ""


def test_prompts_named_by_task_are_read() -> None:
    named = {"retrieval.query": "find: ", "retrieval.passage": "text: ", "separation": "s: "}

    prompts = own_prompts(NONE, named, None)

    assert prompts.texts == {"query": "find: ", "passage": "text: "}
    assert prompts.query.source == "retrieval.query of config_sentence_transformers.json"


def test_an_unknown_encoder_without_prompts_is_warned_of_once() -> None:
    prompts = own_prompts(NONE, {}, None)

    assert prompts.texts == NONE
    assert "no known family" in prompts.warning
    assert "CLEAR_QUERY_PROMPT and CLEAR_PASSAGE_PROMPT" in prompts.warning
    assert prompts.overridden("", None).warning == ""


def test_an_override_changes_its_own_side_and_names_the_setting() -> None:
    prompts = own_prompts(NONE, NONE, E5)

    assert prompts.overridden("q ", None).texts == {"query": "q ", "passage": "passage: "}
    assert prompts.overridden("q ", None).sources["query"] == "CLEAR_QUERY_PROMPT"
    assert prompts.overridden(None, "").texts == {"query": "query: ", "passage": ""}
    assert prompts.overridden(None, None) == prompts


@pytest.mark.parametrize("text", ["", "query: ", "Instruct: find\nQuery: ", 'say "x"', '"', "問: "])
def test_a_quoted_prompt_is_read_as_it_was(text: str) -> None:
    assert parse_prompt(quoted_prompt(text)) == text


@pytest.mark.parametrize("text", ["query: ", '"', '"a" or "b"', "'x'"])
def test_other_texts_are_prompts_as_they_are(text: str) -> None:
    assert parse_prompt(text) == text


@pytest.mark.parametrize("value", ['"\\ud800 query: "', "query \udcff"])
def test_half_a_surrogate_pair_is_no_prompt(value: str) -> None:
    with pytest.raises(ValueError, match="half a surrogate pair"):
        parse_prompt(value)
