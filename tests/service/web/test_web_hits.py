"""How the page shows a hit: words, marks, filters, ids, translations; and what the eye meets."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chromium import active, opened, search

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
SHIFTS = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    window.shift = (window.shift ?? 0) + entry.value;
    const moved = entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 90));
    (window.moved ??= []).push(entry.value, ...moved);
  }
}).observe({ type: "layout-shift", buffered: true })"""
FIELDS = {"country": "string", "year": "number", "day": "date", "draft": "boolean"}
METADATA = {
    "country": "Kenya",
    "year": 2001,
    "day": "2024-02-01T12:00:00Z",
    "draft": False,
    "source": "atlas",
}


def hit(text: str = "Tea grows there.", **changes: Any) -> dict[str, Any]:
    """Return a hit as `/search` writes it."""
    made = {"passage_id": "kenya.1", "score": 0.5, "relevance": 0.9, "rank": 1, "title": "Tea"}
    return made | {"text": text, "metadata": {}} | changes


def answer(*hits: dict[str, Any], **result: Any) -> dict[str, Any]:
    """Return an answer of `/search` with these hits."""
    return {"results": [{"language": "en", "answered": True, "hits": list(hits)} | result]}


def serve(page: "Page", answered: dict[str, Any], **index: Any) -> None:
    """Answer every search alike, with an index that `/info` describes."""
    page.route("**/search", lambda route: route.fulfill(json=answered))
    page.route("**/info", lambda route: route.fulfill(json={"index": {"passages": 1} | index}))
    page.reload()


@pytest.fixture
def page(browser: "Browser", address: str) -> "Iterator[Page]":
    """The open page."""
    with opened(browser, address) as page:
        yield page


@pytest.mark.parametrize(
    ("relevance", "words"),
    [
        (0.85, ["Very likely an answer"]),
        (0.84, ["Likely an answer"]),
        (0.5, ["Likely an answer"]),
        (0.49, ["Possibly an answer"]),
        (0.2, ["Possibly an answer"]),
        (0.0, ["Unlikely an answer"]),
        (None, []),
    ],
)
def test_relevance_is_told_in_words(
    page: "Page", relevance: float | None, words: list[str]
) -> None:
    serve(page, answer(hit(relevance=relevance)))
    search(page, "tea")

    assert page.locator(".relevance").all_inner_texts() == words
    values = page.locator(".relevance-value").all_text_contents()
    assert values == ([] if relevance is None else [f"{relevance:.0%}"])


def test_evidence_and_identifiers_are_marked_where_characters_count_as_in_unicode(
    page: "Page",
) -> None:
    text = "𐎠𐎡 says nothing. Order AA-1720 came late. aa-1720, not XAA-1720."
    start = text.index("Order")
    found = hit(text, evidence={"start": start, "end": start + 24, "score": 0.9})
    serve(page, answer(found | {"matched": ["AA-1720"]}), evidence={"available": True})

    with page.expect_request("**/search") as request:
        search(page, "AA-1720?")

    assert request.value.post_data_json["evidence"] is True
    assert page.locator(".hit-text mark").all_inner_texts() == ["Order AA-1720 came late."]
    assert page.locator(".matched").all_inner_texts() == ["AA-1720", "aa-1720"]
    assert page.locator(".hit-text").inner_text() == text


@pytest.mark.parametrize(("relevance", "count"), [(0.2, 1), (0.19, 0), (None, 1)])
def test_a_hit_that_is_unlikely_an_answer_has_no_mark(
    page: "Page", relevance: float | None, count: int
) -> None:
    found = hit(relevance=relevance, evidence={"start": 0, "end": 3, "score": 0.9})
    serve(page, answer(found), evidence={"available": True})
    search(page, "tea")

    assert page.locator(".hit-text mark").count() == count


def test_an_index_without_evidence_is_not_asked_for_it_and_a_hit_without_has_no_mark(
    page: "Page",
) -> None:
    serve(page, answer(hit(evidence=None)))

    with page.expect_request("**/search") as request:
        search(page, "tea")

    assert "evidence" not in request.value.post_data_json
    assert page.locator("mark").count() == 0


def test_a_folded_passage_begins_with_its_mark(page: "Page") -> None:
    text = "Nothing is said in this sentence. " * 40 + "Tea grows in Kericho. The end."
    start = text.index("Tea")
    serve(page, answer(hit(text, evidence={"start": start, "end": start + 21, "score": 0.9})))
    search(page, "tea")

    mark = page.locator("mark").bounding_box()
    passage = page.locator(".hit-text").bounding_box()
    assert mark and passage and mark["y"] < passage["y"] + passage["height"]
    page.get_by_role("button", name="Show all: Tea").click()
    assert page.locator(".hit-text").inner_text() == text


# How the words of a folded passage lie to its box and to its ellipsis.
WORDS = """passage => {
  const box = passage.getBoundingClientRect(), range = document.createRange();
  const end = passage.querySelector(".fold-end").getBoundingClientRect(), text = passage.lastChild;
  const words = Array.from(text.data.matchAll(/\\S+/g), ({ 0: word, index }) => {
    range.setStart(text, index);
    range.setEnd(text, index + word.length);
    return Array.from(range.getClientRects());
  });
  const count = (is) => words.filter(([line]) => is(line)).length;
  const isIn = (line, { top, bottom }) => line.top < bottom - 1 && line.bottom > top + 1;
  return {
    broken: words.filter((lines) => lines.length > 1).length,
    shown: count((line) => line.bottom <= box.bottom + 1),
    cut: count((line) => isIn(line, box) && line.bottom > box.bottom + 1),
    covered: count((line) => isIn(line, end) && line.right > end.left + 1),
    inside: end.bottom <= box.bottom + 1 && end.width > 0,
  };
}"""


@pytest.mark.parametrize("width", [360, 1000])
def test_a_folded_passage_ends_at_a_word_and_an_ellipsis(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    text = "Interdepartmental representatives unanimously recommended straightforwardness. " * 20
    serve(page, answer(hit(text)))
    search(page, "tea")
    page.wait_for_selector(".hit-text.is-cut")

    found = page.locator(".hit-text").evaluate(WORDS)

    assert found.pop("shown") >= 4
    assert found == {"broken": 0, "cut": 0, "covered": 0, "inside": True}
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".fold-end").is_hidden()


def test_values_filter_and_those_that_the_title_repeats_are_in_the_details(page: "Page") -> None:
    serve(page, answer(hit(title="Kenya: tea", metadata=METADATA)), fields=FIELDS)
    search(page, "tea")

    shown = page.locator(".metadata dt").all_inner_texts()
    assert shown == ["year", "day", "draft", "source"]
    assert page.locator(".metadata button").count() == 3  # source is not declared
    for name in ("Show only year: 2001", "Show only day: 2024-02-01T12:00:00Z"):
        page.get_by_role("button", name=name).click()
    page.locator(".hit-details summary").click()
    page.get_by_role("button", name="Show only country: Kenya").click()

    assert page.url.endswith("&f.year=2001..2001&f.day=2024-02-01..2024-02-01&f.country=Kenya")
    page.locator(".hit-details summary").click()
    page.get_by_role("button", name="Show only country: Kenya", pressed=True).click()
    assert "f.country" not in page.url


def test_values_of_the_hits_are_the_first_to_filter_by(page: "Page") -> None:
    counted = [{"value": f"Land {number}", "count": 50 - number} for number in range(20)]
    facets = {"country": {"values": counted, "num_values": 30}}
    found = answer(*(hit(metadata={"country": name}) for name in ("Peru", "Land 19")))
    serve(page, found | {"facets": facets}, fields={"country": "string"})
    search(page, "tea")
    page.locator("#filters-toggle").click()

    values = page.locator(".filter-values bdi").all_inner_texts()
    counts = page.locator(".filter-count").all_inner_texts()
    assert values[:3] == ["Peru", "Land 19", "Land 0"]
    assert counts[:3] == ["", "31", "50"]
    note = page.locator(".filter-note").inner_text()
    assert note == "The 20 most frequent of 30 values"


def test_ids_are_in_the_details_and_can_be_copied(page: "Page") -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    serve(page, answer(hit(document_id="kenya", more_chunks=2)))
    search(page, "tea")
    assert page.locator(".more-chunks").inner_text() == "2 more from this document"
    assert "kenya.1" not in page.locator(".hit").inner_text()

    page.locator(".hit-details summary").click()
    assert page.locator(".hit-id code").all_inner_texts() == ["kenya.1", "kenya"]
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()

    assert page.evaluate("navigator.clipboard.readText()") == "kenya.1"


def test_enter_opens_the_hit_that_arrows_reach(page: "Page") -> None:
    serve(page, answer(hit("Long. " * 400), hit(rank=2)))
    search(page, "tea")

    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    assert page.locator(".hit").first.get_attribute("class") == "hit"
    assert page.locator(".hit-details[open]").count() == 1
    assert active(page).startswith("LI#.hit")


# ---- Translation by the browser


TRANSLATOR = """self.Translator = {
  availability: async ({ targetLanguage }) =>
    targetLanguage === "de" ? "downloadable" : "unavailable",
  create: async ({ targetLanguage }) => ({
    translate: async (text) => {
      if (text.includes("fail")) throw new Error("no room");
      return `${targetLanguage}: ${text}`;
    },
  }),
};"""


def translating(page: "Page", text: str, language: str) -> None:
    page.add_init_script(TRANSLATOR)
    page.reload()
    serve(page, answer(hit(text), language=language))
    search(page, "Wo wächst der Tee in Kenia?")


def test_a_hit_is_translated_into_the_language_of_the_question(page: "Page") -> None:
    translating(page, "Tea grows there.", "de")
    button = page.locator(".translate")

    button.click()
    page.get_by_text("It may contain mistakes").wait_for()
    assert page.locator(".translation-text").inner_text() == "de: Tea grows there."
    assert page.locator(".translation-text").get_attribute("lang") == "de"
    assert page.locator(".hit-text").inner_text() == "Tea grows there."
    assert button.inner_text() == "Hide the translation"
    button.click()

    assert page.locator(".translation").count() == 0
    assert button.inner_text() == "Translate"


def test_a_translation_that_fails_is_told(page: "Page") -> None:
    translating(page, "Tea will fail.", "de")

    page.locator(".translate").click()
    page.get_by_text("Your browser could not translate this passage.").wait_for()

    assert page.locator(".hit-text").inner_text() == "Tea will fail."


@pytest.mark.parametrize("language", ["en", "yo"])
def test_where_the_browser_can_not_translate_nothing_offers_it(page: "Page", language: str) -> None:
    translating(page, "Tea grows there.", language)

    assert page.locator(".translate").is_hidden()


# ---- What the eye meets


def test_empty_lines_at_the_end_of_a_passage_take_no_room(page: "Page") -> None:
    evidence = {"start": 5, "end": 18, "score": 0.9}
    hits = [
        hit(f"Tea.\nIt grows here.{end}", rank=rank, evidence=evidence)
        for rank, end in enumerate(("", "\n\n", " \n"), start=1)
    ]
    serve(page, answer(*hits))
    search(page, "tea")

    texts = page.locator(".hit-text")
    assert len({(box.bounding_box() or {})["height"] for box in texts.all()}) == 1
    assert page.locator("mark").all_inner_texts() == ["It grows here"] * 3


def test_the_question_has_the_room_of_the_button_that_is_not_shown(page: "Page") -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    box = page.locator("#query")
    box.fill("tea")
    fits = """box => {
      let length = 1;
      do box.value = "i".repeat(++length); while (box.scrollWidth <= box.clientWidth);
      return length;
    }"""

    with_button = box.evaluate(fits)
    box.blur()
    page.mouse.move(0, 700)

    assert box.evaluate(fits) - with_button >= 3


@pytest.mark.parametrize("is_answered", [True, False])
def test_the_first_hit_is_in_the_first_third_of_a_phone(
    page: "Page", address: str, is_answered: bool
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    serve(page, answer(hit(), answered=is_answered), fields=FIELDS)
    page.goto(f"{address}/?q=Where does tea grow in Kenya?")
    page.wait_for_selector("#hits > li.hit")

    box = page.locator(".hit-title").bounding_box()

    assert box and box["y"] < 740 / 3
    assert page.locator("#not-answered").is_visible() is not is_answered


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
@pytest.mark.parametrize("is_answered", [True, False])
def test_a_shared_link_hardly_shifts_its_layout(
    page: "Page", address: str, width: int, height: int, is_answered: bool
) -> None:
    hits = [hit("Tea grows there. " * 30, rank=rank, metadata=METADATA) for rank in range(1, 11)]
    serve(page, answer(*hits, answered=is_answered), fields=FIELDS)
    page.add_init_script(SHIFTS)
    page.set_viewport_size({"width": width, "height": height})

    page.goto(f"{address}/?q=Where does tea grow in Kenya?&f.country=Kenya")
    page.wait_for_selector("#hits > li.hit:nth-child(10)")
    page.wait_for_timeout(300)

    assert page.evaluate("window.shift ?? 0") < 0.05, page.evaluate("window.moved")


def test_a_service_that_starts_is_waited_for_as_long_as_it_says(page: "Page") -> None:
    problem = {"title": "Not ready", "status": 503, "detail": "the service is loading"}
    refusals = iter([True, True])

    def start(route: Any) -> None:
        if next(refusals, False):
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=problem)
        else:
            route.fulfill(json=answer(hit()))

    page.route("**/search", start)
    page.locator("#query").fill("tea")
    page.keyboard.press("Enter")
    page.get_by_text("The service is starting. Trying again in 1 second.").wait_for()
    page.wait_for_selector("#hits > li.hit")

    assert next(refusals, False) is False


def test_a_question_that_was_cut_is_told(page: "Page") -> None:
    serve(page, answer(hit(), truncated=True))
    search(page, "tea")

    note = page.locator("#search-notes").inner_text()
    assert note.endswith("Only its first part was searched for.")


def test_a_printed_page_holds_whole_passages_and_no_controls(page: "Page") -> None:
    serve(page, answer(hit("Tea grows there. " * 100)))
    search(page, "tea")
    folded = page.locator(".hit-text").bounding_box()

    page.emulate_media(media="print")
    printed = page.locator(".hit-text").bounding_box()

    assert folded and printed and printed["height"] > 2 * folded["height"]
    for name in (".hit-foot", ".form-foot", "#search-button"):
        assert page.locator(name).is_hidden()


def test_forced_colors_keep_marks_and_grades_apart(page: "Page") -> None:
    found = hit(evidence={"start": 0, "end": 3, "score": 0.9})
    serve(page, answer(found, hit(rank=2, relevance=0.1)))
    page.emulate_media(forced_colors="active")
    search(page, "tea")

    style = "(node, pseudo) => getComputedStyle(node, pseudo).backgroundColor"
    mark = page.locator("mark").evaluate(style)
    high, low = [
        each.evaluate(f"node => ({style})(node, '::before')")
        for each in page.locator(".relevance").all()
    ]
    assert mark != page.locator(".hit-text").first.evaluate(style)
    assert high != low
    assert re.fullmatch(r"rgba?\(.*\)", high)
