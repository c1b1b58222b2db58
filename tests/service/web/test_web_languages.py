"""The languages of the page: whose it takes, the menu, and right to left."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.engine.language import LanguageDetector
from tests.support.chromium import titles

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
WEB = Path(__file__).parents[3] / "service/web"
CATALOGS = WEB / "languages"
EXAMPLES = json.loads((WEB / "examples.json").read_text())


def text(language: str, name: str) -> Any:
    return json.loads((CATALOGS / f"{language}.json").read_text())[name]


def opened_in(browser: "Browser", address: str, locale: str, **options: Any) -> "Page":
    """Open the page as a reader whose browser is set to a language."""
    page = browser.new_page(locale=locale, **options)
    page.route("**/web/examples.json", lambda route: route.fulfill(json=EXAMPLES))
    page.goto(address)
    page.wait_for_selector(".example, .hit")
    return page


@pytest.mark.parametrize(
    ("locale", "language", "direction"),
    [
        ("sw-KE", "sw", "ltr"),
        ("ar-EG", "ar", "rtl"),
        ("zh-Hant-TW", "zh", "ltr"),
        ("ja-JP", "en", "ltr"),
    ],
)
def test_the_page_is_in_the_reader_s_language_with_their_example_first(
    browser: "Browser", address: str, locale: str, language: str, direction: str
) -> None:
    page = opened_in(browser, address, locale)

    assert page.locator("html").get_attribute("lang") == language
    assert page.locator("html").get_attribute("dir") == direction
    assert page.locator("h1").inner_text() == text(language, "headline")
    assert page.locator("#page-language").input_value() == language
    own = "ja" if locale == "ja-JP" else language
    assert own in [each.get_attribute("lang") for each in page.locator(".example").all()[:2]]
    page.close()


def test_a_language_of_the_menu_stays_and_keeps_the_search(
    browser: "Browser", address: str
) -> None:
    page = opened_in(browser, f"{address}/?q=tea&k=5", "en-GB")
    page.wait_for_selector(".hit")
    found = titles(page)

    page.locator("#page-language").select_option("de")
    page.wait_for_selector("html[lang=de] .hit")
    page.reload()
    page.wait_for_selector("html[lang=de] .hit")

    assert titles(page) == found
    assert page.locator("#status").inner_text() == "5 Treffer"
    page.close()


@pytest.mark.parametrize("language", sorted(path.stem for path in CATALOGS.glob("*.json")))
def test_a_phone_has_room_for_each_language(
    browser: "Browser", address: str, language: str
) -> None:
    page = opened_in(browser, address, language, viewport={"width": 360, "height": 740})
    answer = {
        "results": [
            {
                "language": language,
                "answered": False,
                "hits": [
                    {"passage_id": "1", "score": 0.5, "relevance": 0.1, "rank": 1, "title": "T"}
                    | {"text": "Tea. " * 200, "metadata": {"country": "Kenya"}}
                ],
            }
        ]
    }
    index = {"index": {"passages": 1, "fields": {"country": "string"}}}
    page.route("**/search", lambda route: route.fulfill(json=answer))
    page.route("**/info", lambda route: route.fulfill(json=index))
    page.goto(f"{address}/?q=tea tea tea tea")
    page.wait_for_selector(".hit")

    box = page.locator(".hit-title").bounding_box()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

    assert page.locator("#not-answered").inner_text() == text(language, "notAnswered")
    assert box and box["y"] < 740 / 3
    assert page.evaluate(wide) <= 0
    audit = (Path(__file__).parents[2] / "support/page_audit.js").read_text()
    assert page.evaluate(f"({audit}).unsaid()") == []
    page.close()


def test_from_right_to_left_the_rank_is_at_the_right_and_passages_stay_english(
    browser: "Browser", address: str
) -> None:
    page = opened_in(browser, address, "ar")
    page.locator("#query").fill("tea")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")

    rank, passage = [page.locator(name).first.bounding_box() for name in (".hit-rank", ".hit-text")]
    assert rank and passage and rank["x"] > passage["x"] + passage["width"] / 2
    direction = "node => getComputedStyle(node).direction"
    assert page.locator(".hit-text").first.evaluate(direction) == "ltr"
    page.close()


def test_each_language_that_is_detected_has_a_name_in_each_language_of_the_page(
    browser: "Browser", address: str
) -> None:
    """Chromium names neither Nigerian Pidgin nor, in Hausa and Yoruba, any language."""
    codes = sorted(LanguageDetector()._labels - {"und"})
    page = browser.new_page()
    names = "(locale, codes) => { const names = new Intl.DisplayNames([locale], "
    names += "{ type: 'language', fallback: 'none' }); "
    names += "return [names.resolvedOptions().locale, codes.filter((code) => names.of(code))]; }"

    for language in sorted(path.stem for path in CATALOGS.glob("*.json")):
        named = text(language, "languageNames")
        locale, known = page.evaluate(
            f"([locale, codes]) => ({names})(locale, codes)", [language, codes]
        )
        known = known if locale == language else []
        assert [code for code in codes if code not in named and code not in known] == []
    page.close()


def test_a_question_in_nigerian_pidgin_is_named_in_the_language_of_the_page(
    browser: "Browser", address: str
) -> None:
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "title": "T", "text": "x", "metadata": {}}
    result = {"language": "pcm", "language_quality": "poor", "hits": [hit]}
    page = opened_in(browser, address, "sw")
    page.route("**/search", lambda route: route.fulfill(json={"results": [result]}))
    page.goto(f"{address}/?q=Wetin be di capital")
    page.wait_for_selector(".hit")

    assert "Pijini ya Nigeria (pcm)" in page.locator("#status").inner_text()
    assert "Pijini ya Nigeria" in page.locator("#search-notes").inner_text()
    page.unroute("**/search")
    page.route(
        "**/search",
        lambda route: route.fulfill(
            json={"results": [result | {"language_uncertain": True, "language_quality": "unknown"}]}
        ),
    )
    page.reload()
    page.wait_for_selector(".hit")
    assert "Nigeria" not in page.locator("#status").inner_text()
    assert not page.locator("#search-notes").is_visible()
    page.close()
