"""The search page in a real browser, with a real service."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench import page_load
from tests.support.chromium import active, opened, search, titles

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BENGALI = "বাংলাদেশের প্রধান পরিবেশগত সমস্যাগুলো কী কী?"
EXAMPLES = json.loads((Path(__file__).parents[3] / "service/web/examples.json").read_text())
pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: "Browser", address: str) -> "Iterator[Page]":
    """The open page."""
    with opened(browser, address) as page:
        yield page


def test_a_bengali_question_gets_hits_that_are_the_service_s(page: "Page", address: str) -> None:
    search(page, BENGALI)

    body = {"query": BENGALI, "top_k": 10}
    answer = page.request.post(f"{address}/search", data=body).json()
    hits = answer["results"][0]["hits"]
    assert titles(page) == [hit["title"] or hit["passage_id"] for hit in hits]
    assert page.locator(".hit-text").all_inner_texts() == [hit["text"] for hit in hits]
    scores = page.locator(".score-value").all_text_contents()
    assert scores == [f"{hit['score']:.3f}" for hit in hits]


def test_the_status_line_shows_hits_language_and_time(page: "Page") -> None:
    search(page, BENGALI)

    status = page.locator("#status").inner_text()
    assert re.fullmatch(r"10 hits · asked in (Bangla|Bengali) \(bn\)", status)
    assert re.fullmatch(r"[\d.]+ m?s", page.locator("#timing-total").inner_text())


def test_the_language_of_a_single_word_is_not_shown(page: "Page") -> None:
    """It would be detected as Romanian."""
    search(page, "tea")

    assert page.locator("#status").inner_text() == "10 hits"
    assert page.locator("#query").get_attribute("lang") == ""


def test_the_question_is_marked_with_its_language_and_hits_as_english(page: "Page") -> None:
    search(page, BENGALI)

    assert page.locator("#query").get_attribute("lang") == "bn"
    assert page.locator(".hit :is(h2, .hit-text):not([lang=en])").count() == 0
    page.keyboard.type("a")
    assert page.locator("#query").get_attribute("lang") == ""


def test_the_time_opened_names_every_stage(page: "Page") -> None:
    search(page, "tea")
    page.locator("#timing-total").click()

    stages = page.locator("#timing .timing-legend dt").all_inner_texts()
    assert stages == ["Tokenize", "Queue", "Encode", "Search", "Passages"]


def test_the_foot_tells_how_many_changed_documents_wait(page: "Page", address: str) -> None:
    facts = page.request.get(f"{address}/info").json()
    assert "waiting" not in page.locator("#facts").inner_text()
    changes = {"is_writer": True, "waiting_documents": 1234, "oldest_seconds": 0.5}
    page.route("**/info", lambda route: route.fulfill(json=facts | {"changes": changes}))
    page.reload()

    page.locator("#facts", has_text="Changes waiting: 1,234").wait_for()


def test_the_button_and_the_number_of_hits_search_too(page: "Page") -> None:
    page.locator("#query").fill("tea")
    page.locator("#search-button").click()
    page.wait_for_selector("#hits > li.hit:nth-child(10)")

    page.locator("#top-k").select_option("5")
    page.wait_for_selector("#hits:not(:has(li.hit:nth-child(6))) > li.hit:nth-child(5)")

    assert page.url.endswith("?q=tea&k=5")


@pytest.fixture
def demo(page: "Page") -> "Page":
    """The page as if its index were the demo's."""
    page.route("**/web/examples.json", lambda route: route.fulfill(json=EXAMPLES))
    page.reload()
    page.wait_for_selector(".example")
    return page


def test_an_index_that_answers_none_of_the_examples_has_none(page: "Page") -> None:
    assert not page.locator("#examples").is_visible()


def test_a_refused_index_is_told_with_a_note_for_the_operator(page: "Page", address: str) -> None:
    facts = page.request.get(f"{address}/info").json()
    assert page.locator("#facts .operator-note").count() == 0
    facts["index"]["refused"] = "vectors.faiss is damaged"
    page.route("**/info", lambda route: route.fulfill(json=facts))
    page.reload()

    note = page.locator("#facts > div")
    note.get_by_text("For the operator").click()
    assert [line for line in note.inner_text().split("\n") if line] == [
        "A newer index can’t be used; this is the one before it.",
        "For the operator",
        "vectors.faiss is damaged",
    ]


def test_an_arabic_example_is_right_to_left_and_searches(demo: "Page") -> None:
    page = demo
    chip = page.locator(".example[lang=ar]").first
    direction = chip.evaluate("chip => getComputedStyle(chip).direction")

    chip.click()
    page.wait_for_selector("#hits > li.hit")

    assert direction == "rtl"
    assert page.locator("#query").evaluate("box => getComputedStyle(box).direction") == "rtl"
    assert page.locator("#query").input_value() in chip.inner_text()


def test_every_example_is_shown_once_asked_for(demo: "Page") -> None:
    page = demo
    shown = page.locator(".example:visible")
    before = shown.count()

    page.locator("#all-examples").click()

    assert before < shown.count() == len(EXAMPLES)
    assert page.locator("#all-examples").get_attribute("aria-expanded") == "true"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_needs_no_horizontal_scrolling(demo: "Page", width: int) -> None:
    page = demo
    page.set_viewport_size({"width": width, "height": 740})
    page.locator("#all-examples").click()
    search(page, "supercalifragilistic" * 20)

    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )

    assert page.locator("li.hit").count() == 10
    assert overflow <= 0


def test_slash_focuses_the_question_and_arrows_move_through_the_hits(page: "Page") -> None:
    search(page, "tea")
    page.locator("#home").focus()
    visited = []

    for key in ("/", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        visited.append(active(page).split()[0])

    assert visited == ["INPUT#query.", "LI#.hit", "LI#.hit", "LI#.hit", "INPUT#query."]
    assert page.locator("#query").input_value() == "tea"


def test_tab_goes_from_the_box_to_the_button_and_the_number_of_hits(page: "Page") -> None:
    page.locator("#query").focus()
    visited = []

    for _ in range(3):
        page.keyboard.press("Tab")
        visited.append(active(page).partition(".")[0])

    assert visited == ["BUTTON#search-button", "BUTTON#compare", "SELECT#top-k"]


def test_a_refusal_is_worded_for_readers_without_retry_and_with_a_note_for_the_operator(
    page: "Page",
) -> None:
    search(page, "a" * 40_000)

    alert = page.get_by_role("alert")
    assert alert.inner_text().split("\n\n") == [
        "This question can’t be searched for",
        "It may be too long. Shorten it, then search again.",
        "For the operator",
    ]
    alert.get_by_text("For the operator").click()
    assert "422: query: " in alert.inner_text()
    assert page.locator("li.hit").count() == 0
    assert page.locator("#retry").count() == 0


def test_an_address_with_a_question_is_shareable(page: "Page", address: str) -> None:
    search(page, BENGALI)
    found = titles(page)

    page.goto("about:blank")
    page.goto(f"{address}/?q={BENGALI}")
    page.wait_for_selector("#hits > li.hit")

    assert titles(page) == found
    assert page.locator("#query").input_value() == BENGALI
    assert BENGALI in page.title()


def test_back_returns_to_the_question_before(page: "Page") -> None:
    search(page, "tea")
    search(page, "sun")

    with page.expect_response("**/search") as answer:
        page.go_back()

    assert answer.value.request.post_data_json["query"] == "tea"
    assert page.locator("#query").input_value() == "tea"
    assert page.title().startswith("tea")


def test_a_passage_is_shown_as_text_never_as_html(page: "Page", address: str) -> None:
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "title": "<b>x</b>", "metadata": {}}
    answer = {
        "results": [{"language": "en", "hits": [hit | {"text": "<img src=x onerror=alert(1)>"}]}],
        "took_ms": {"encode": 1.0},
    }
    page.route("**/search", lambda route: route.fulfill(json=answer))

    search(page, "tea")

    assert titles(page) == ["<b>x</b>"]
    assert page.locator(".hit-text").inner_text() == "<img src=x onerror=alert(1)>"


def test_whole_numbers_above_2_to_the_53_are_shown_whole(page: "Page") -> None:
    large = 2**53 + 1
    metadata = {
        "order": large,
        "part": {"of": -large},
        "all": [large],
        "near": 2**53 - 1,
        "e": 1e300,
    }
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "title": "x", "text": "x"}
    answer = {
        "results": [{"language": "en", "hits": [hit | {"metadata": metadata}]}],
        "took_ms": {"encode": 1.0},
    }
    page.route("**/search", lambda route: route.fulfill(json=answer))

    search(page, "tea")

    shown = dict(
        zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True)
    )
    assert shown["order"] == "9007199254740993"
    assert shown["part"] == '{"of":-9007199254740993}'
    assert shown["all"] == "9007199254740993"
    assert shown["near"] == "9007199254740991"
    assert shown["e"] == "1e+300"


def test_a_busy_service_is_reported_with_a_retry_button(page: "Page") -> None:
    problem = {"type": "x", "title": "Busy", "status": 429, "detail": "the queue is full"}
    answers = iter([True])

    def answer(route: Any) -> None:
        if next(answers, False):
            route.fulfill(status=429, headers={"Retry-After": "0"}, json=problem)
        else:
            route.continue_()

    page.route("**/search", answer)
    search(page, "tea")
    message = page.get_by_role("alert").inner_text()
    page.locator("#retry").click()
    page.wait_for_selector("#hits > li.hit")

    assert "The service is busy" in message
    assert "the queue is full" not in message  # folded, for the operator


def test_a_shared_link_takes_seven_requests_and_three_from_the_cache(
    browser: "Browser", address: str
) -> None:
    """Page, style, script, icon, catalog, facts, search; then page, facts, search."""
    context = browser.new_context(locale="sw-KE")

    first, again = [
        page_load.load(context, f"{address}/?q=tea", ".hit", page_load.FAST_LINK).summary()
        for _ in range(2)
    ]

    context.close()
    assert (first["requests"], again["requests"]) == (7, 3)
    assert first["bytes"] < 40_000
    assert again["bytes"] < 10_000
    assert first["layout_shift"] < 0.05
