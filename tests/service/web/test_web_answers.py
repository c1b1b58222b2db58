"""How the page shows a response: filters, marks, two languages side by side, texts, keys."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.retrieval.corpus.fields import FieldKind
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.conftest import write_passages
from tests.support.chromium import active, opened, search, titles, wait_for_answer
from tests.support.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
FIELDS: dict[str, FieldKind] = {
    "country": "string",
    "year": "number",
    "day": "date",
    "draft": "boolean",
    "tags": "strings",
}
SENTENCES = (
    "Tea is grown in the highlands. ",
    "The capital lies at the river. ",
    "Rain falls from March to May.",
)
PASSAGES: list[dict[str, Any]] = [
    {
        "id": f"{country.lower()}.{number}",
        "title": f"{country} {number}",
        "text": "".join(
            SENTENCES[(number + shift) % 3].rstrip() + " " for shift in range(3)
        ).strip(),
        "country": country,
        "year": 1990 + 10 * number,
        "day": f"2024-02-0{number + 1}T12:00:00Z",
        "draft": number == 0,
        "tags": ["africa"] if country == "Kenya" else ["america", "andes"],
    }
    for country in ("Kenya", "Peru")
    for number in range(3)
]
ENGLISH, SWAHILI = "Where does tea grow in the highlands?", "Chai hulimwa wapi?"


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, service_settings: Settings, tiny_encoder: Encoder
) -> Iterator[str]:
    """A service whose index declares fields."""
    folder = tmp_path_factory.mktemp("fields")
    passages = write_passages(folder / "passages.jsonl", PASSAGES)
    corpus = read_passages(passages)
    build_index(corpus, folder / "index", tiny_encoder, fields=FIELDS, evidence=True)
    with serving(service_settings.model_copy(update={"index": folder / "index"})) as address:
        yield address


@pytest.fixture
def page(browser: "Browser", address: str) -> "Iterator[Page]":
    with opened(browser, address) as page:
        yield page


def open_filters(page: "Page") -> None:
    page.locator("#filters-toggle").click()


def group(page: "Page", field: str) -> Any:
    return page.get_by_role("group", name=field, exact=True)


def counts(page: "Page", field: str) -> dict[str, str]:
    labels = group(page, field).locator("label:has(bdi)").all()
    return {
        label.locator("bdi").inner_text(): label.locator(".filter-count").inner_text()
        for label in labels
    }


def tick(page: "Page", field: str, value: str) -> None:
    group(page, field).get_by_role("checkbox", name=value).click()
    wait_for_answer(page)


def is_for_hits(request: Any) -> bool:
    """Return whether a request searches; others only count the values of a field."""
    return request.url.endswith("/search") and request.post_data_json["top_k"] > 1


def audit(page: "Page", what: str) -> list[str]:
    source = (Path(__file__).parents[2] / "support/page_audit.js").read_text()
    return list(page.evaluate(f"({source}).{what}()"))


# ---- Filters


def test_every_declared_field_can_be_filtered_by_and_is_counted(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)

    assert counts(page, "country") == {"Kenya": "3", "Peru": "3"}
    assert counts(page, "draft") == {"no": "4", "yes": "2"}
    assert counts(page, "tags") == {"africa": "3", "america": "3", "andes": "3"}
    assert group(page, "year").get_by_role("spinbutton").count() == 2


def test_a_tick_filters_and_leaves_the_other_values_to_choose(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)

    tick(page, "country", "Peru")

    assert sorted(titles(page)) == ["Peru 0", "Peru 1", "Peru 2"]
    assert counts(page, "country") == {"Kenya": "3", "Peru": "3"}
    assert counts(page, "tags") == {"america": "3", "andes": "3"}
    assert page.locator("#filters-toggle").inner_text() == "Filters (1)"
    assert page.url.endswith("&f.country=Peru")
    assert active(page).startswith("INPUT")
    tick(page, "country", "Kenya")
    assert len(titles(page)) == 6
    assert page.url.endswith("&f.country=Peru&f.country=Kenya")


def test_bounds_yes_and_lists_filter_together(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)

    tick(page, "draft", "no")
    group(page, "year").get_by_label("to").fill("2000")
    with page.expect_request(is_for_hits) as request:
        page.keyboard.press("Tab")
    wait_for_answer(page)
    tick(page, "tags", "andes")

    assert request.value.post_data_json["filter"] == {
        "draft": [False],
        "year": {"lte": 2000},
    }
    assert titles(page) == ["Peru 1"]
    assert page.url.endswith("&f.draft=false&f.year=..2000&f.tags=andes")


def test_dates_are_filtered_by_the_first_and_the_last_day(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)

    group(page, "day").get_by_label("from").fill("2024-02-02")
    page.keyboard.press("Tab")
    wait_for_answer(page)
    group(page, "day").get_by_label("to").fill("2024-02-02")
    with page.expect_request(is_for_hits) as request:
        page.keyboard.press("Tab")
    wait_for_answer(page)

    assert request.value.post_data_json["filter"] == {
        "day": {"gte": "2024-02-02", "lte": "2024-02-02T23:59:59.999999Z"}
    }
    assert sorted(titles(page)) == ["Kenya 1", "Peru 1"]
    assert page.url.endswith("&f.day=2024-02-02..2024-02-02")


def test_an_address_with_filters_is_shareable(page: "Page", address: str) -> None:
    page.goto("about:blank")
    page.goto(f"{address}/?q=tea&k=5&f.country=Kenya&f.year=1995..2005")
    page.wait_for_selector("#hits > li.hit")
    open_filters(page)

    assert titles(page) == ["Kenya 1"]
    assert group(page, "country").get_by_role("checkbox", name="Kenya").is_checked()
    boxes = group(page, "year").get_by_role("spinbutton")
    assert [box.input_value() for box in boxes.all()] == ["1995", "2005"]
    assert page.locator("#chosen button").all_inner_texts() == [
        "country: Kenya ×",
        "year: 1995..2005 ×",
    ]


def test_a_chosen_filter_is_removed_by_its_button_and_by_going_back(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)
    tick(page, "country", "Peru")

    page.get_by_role("button", name="Remove the filter country: Peru").click()
    page.wait_for_selector("#hits > li.hit:nth-child(6)")
    without = page.url
    page.go_back()
    page.wait_for_selector("#hits:not(:has(li:nth-child(4)))")

    assert "f.country" not in without
    assert sorted(titles(page)) == ["Peru 0", "Peru 1", "Peru 2"]


def test_a_long_title_is_folded_with_its_passage(page: "Page") -> None:
    title = "A title that does not end where one would expect it to end. " * 10
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "metadata": {"tags": []}, "text": "Short."}
    found = {"language": "en", "hits": [hit | {"title": title}, hit | {"title": "x", "rank": 2}]}
    answer = {"results": [found], "took_ms": {"encode": 1.0}}
    page.route("**/search", lambda route: route.fulfill(json=answer))
    search(page, "tea")
    toggle = page.get_by_role("button", name="Show all: A title")
    folded = page.locator(".hit-title").first.bounding_box()

    toggle.click()
    unfolded = page.locator(".hit-title").first.bounding_box()

    assert folded and unfolded and folded["height"] < unfolded["height"] / 2
    assert page.locator(".hit-toggle:visible").all_inner_texts() == ["Show less"]
    assert page.locator(".metadata").first.inner_text() == ""  # no empty list


def test_filters_without_hits_are_reported_and_can_be_cleared(page: "Page") -> None:
    search(page, ENGLISH)
    open_filters(page)
    tick(page, "country", "Peru")
    tick(page, "tags", "andes")
    group(page, "year").get_by_label("from").fill("3000")
    page.keyboard.press("Enter")
    page.wait_for_selector("#no-hits:not([hidden])")

    assert "No passage matches the chosen filters" in page.locator("#no-hits").inner_text()
    assert page.locator("#status").inner_text().startswith("0 hits")
    page.get_by_role("button", name="Search without filters").click()
    page.wait_for_selector("#hits > li.hit:nth-child(6)")
    assert "f." not in page.url.partition("?")[2]


def test_an_address_with_an_undeclared_field_is_refused_and_fixed(
    page: "Page", address: str
) -> None:
    page.goto(f"{address}/?q=tea&f.city=Lima")
    page.wait_for_selector("#error:not([hidden])")

    message = page.get_by_role("alert").inner_text()
    detail = page.locator(".operator-note p").text_content() or ""
    page.get_by_role("button", name="Remove the filter city: Lima").click()
    page.wait_for_selector("#hits > li.hit")

    assert message.startswith("This filter can’t be used here\n\ncity: Lima\n\nRemove it")
    assert "city" in detail and "country (string)" in detail


def test_the_timing_bar_shows_the_time_of_filtering(page: "Page") -> None:
    search(page, ENGLISH)
    page.locator("#timing-total").click()

    stages = page.locator("#timing .timing-legend dt").all_inner_texts()
    assert stages == ["Tokenize", "Queue", "Encode", "Search", "Passages", "Filter"]


def test_a_value_too_rare_to_be_listed_can_be_written(page: "Page") -> None:
    def answer(route: Any) -> None:
        found = route.fetch().json()
        if "facets" in found:  # more values than are counted
            found["facets"]["country"] = {
                "values": [{"value": "Peru", "count": 3}],
                "num_values": 200,
            }
        route.fulfill(json=found)

    page.route("**/search", answer)
    search(page, ENGLISH)
    open_filters(page)
    with page.expect_request(is_for_hits) as request:
        group(page, "country").get_by_label("Another value").fill("Kenya")
        page.keyboard.press("Enter")
    wait_for_answer(page)

    assert request.value.post_data_json["filter"] == {"country": ["Kenya"]}
    assert sorted(titles(page)) == ["Kenya 0", "Kenya 1", "Kenya 2"]
    assert group(page, "country").get_by_role("checkbox", name="Kenya").is_checked()
    assert counts(page, "country") == {"Peru": "3", "Kenya": ""}  # not counted, so not shown


# ---- Marks


def test_the_evidence_of_each_hit_is_marked_with_the_answer(page: "Page", address: str) -> None:
    sent = []
    page.on("request", lambda request: sent.append(request.url.rpartition("/")[2]))
    search(page, ENGLISH)

    body = {"query": ENGLISH, "evidence": True}
    answer = page.request.post(f"{address}/search", data=body).json()
    expected = [
        hit["text"][part["start"] : part["end"]]
        for hit in answer["results"][0]["hits"]
        if (part := hit["evidence"])  # null where none stands out
    ]
    assert page.locator(".hit-text mark").all_inner_texts() == expected
    sentence = "|".join(re.escape(each.strip()) for each in SENTENCES)
    assert expected
    assert all(re.fullmatch(rf"(?:{sentence})(?: (?:{sentence}))?", text) for text in expected)
    assert "encode" not in sent


# ---- Two languages


def test_two_languages_stand_side_by_side(page: "Page", address: str) -> None:
    search(page, ENGLISH)
    page.locator("#top-k").select_option("5")
    wait_for_answer(page)
    page.get_by_role("button", name="Compare languages").click()
    assert active(page).startswith("INPUT#other-query")
    page.keyboard.type(SWAHILI)
    page.keyboard.press("Enter")
    page.wait_for_selector("#other-hits > li.hit")

    body = {"queries": [ENGLISH, SWAHILI], "top_k": 5}
    one, other = page.request.post(f"{address}/search", data=body).json()["results"]
    assert titles(page) == [hit["title"] for hit in one["hits"]]
    shown = page.locator("#other-hits .hit-title").all_inner_texts()
    assert shown == [hit["title"] for hit in other["hits"]]
    ranks = {hit["passage_id"]: hit["rank"] for hit in other["hits"]}
    notes = page.locator("#hits .other-rank").all_inner_texts()
    assert notes == [
        f"Rank {ranks[hit['passage_id']]} for the other question"
        if hit["passage_id"] in ranks
        else "Only here"
        for hit in one["hits"]
    ]
    num_common = sum(hit["passage_id"] in ranks for hit in one["hits"])
    assert page.locator("#status").inner_text().endswith(f"{num_common} in both")
    assert "q2=Chai" in page.url


def test_a_comparison_is_shareable_and_ends(page: "Page", address: str) -> None:
    page.goto("about:blank")
    page.goto(f"{address}/?q=tea&q2=chai&k=5")
    page.wait_for_selector("#other-hits > li.hit")
    assert page.locator("#other-query").input_value() == "chai"

    page.get_by_role("button", name="End the comparison").click()
    page.wait_for_selector("#other-column[hidden]", state="attached")
    wait_for_answer(page)

    assert page.url.endswith("?q=tea&k=5")
    assert active(page).startswith("BUTTON#compare")
    assert page.locator(".other-rank").count() == 0


COMPARED = f"/?q={ENGLISH}&q2={SWAHILI}&k=5"


@pytest.fixture
def phone(page: "Page", address: str) -> "Page":
    """The page on a phone, comparing two languages."""
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(address + COMPARED)
    page.wait_for_selector("#other-hits > li.hit", state="attached")
    wait_for_answer(page)
    return page


def tops(page: "Page") -> list[float]:
    """Return the top of the visible hits."""
    hits = page.locator(".column:visible .hit").all()
    return [box["y"] for hit in hits if (box := hit.bounding_box())]


def test_a_phone_has_a_tab_for_each_language_that_the_keyboard_reaches(phone: "Page") -> None:
    tabs = phone.get_by_role("tablist", name="Hits of which question").get_by_role("tab")
    assert tabs.count() == 2
    seen = []

    tabs.first.focus()
    for key in ("ArrowRight", "ArrowRight", "End", "Home", "ArrowLeft"):
        phone.keyboard.press(key)
        [panel] = phone.get_by_role("tabpanel").all()
        selected = phone.get_by_role("tab", selected=True)
        assert selected.get_attribute("aria-controls") == panel.get_attribute("id")
        assert phone.evaluate("document.activeElement.ariaSelected") == "true"
        assert panel.locator(".hit").count() == 5
        seen.append(panel.get_attribute("id"))

    assert seen == ["other-column", "column", "other-column", "column", "other-column"]
    phone.keyboard.press("Shift+Tab")
    assert not active(phone).endswith("-tab.")  # the tabs are one stop


def test_the_rank_in_view_stays_in_view_when_the_language_is_switched(phone: "Page") -> None:
    third = phone.locator("#hits .hit").nth(2)
    third.evaluate("hit => scrollBy(0, hit.getBoundingClientRect().top - 100)")
    before = tops(phone)

    phone.locator("#other-column-tab").click()
    after = tops(phone)

    assert round(before[2]) == 100
    assert after[2] == pytest.approx(before[2], abs=2)
    assert (phone.locator("#column-tabs").bounding_box() or {})["y"] == 0


def test_arrows_move_through_the_visible_hits(phone: "Page") -> None:
    phone.locator("#other-column-tab").click()
    phone.locator("#query").focus()

    for _ in range(20):
        phone.keyboard.press("ArrowDown")

    assert phone.evaluate("document.activeElement.closest('section').id") == "other-column"
    assert phone.evaluate("document.activeElement === document.activeElement.parentNode.lastChild")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_rank_for_the_other_question_leads_to_that_hit(phone: "Page", width: int) -> None:
    phone.set_viewport_size({"width": width, "height": 740})
    note = phone.locator("#hits .other-rank button").last
    title = note.locator("xpath=ancestor::li").locator(".hit-title").inner_text()
    rank = int(note.inner_text().split()[1])

    note.focus()
    phone.keyboard.press("Enter")

    place = phone.evaluate(
        "(({parentNode, children}) => [parentNode.id, [...parentNode.children].indexOf("
        "document.activeElement) + 1, document.activeElement.querySelector('h2').innerText])"
        "(document.activeElement)"
    )
    assert place == ["other-hits", rank, title]
    assert phone.locator("#other-hits").is_visible()


def test_turning_the_phone_shows_both_columns(phone: "Page") -> None:
    phone.locator("#other-column-tab").click()

    phone.set_viewport_size({"width": 1000, "height": 740})
    phone.wait_for_selector("#column-tabs", state="hidden")

    assert phone.locator("#columns > .column:visible").count() == 2
    assert phone.get_by_role("tab").count() == 0
    assert phone.get_by_role("region", name="Swahili 5 hits").count() == 1


def test_columns_are_named_by_questions_that_are_too_short_to_detect(
    page: "Page", address: str
) -> None:
    page.goto(f"{address}/?q=tea&q2=chai&k=5")
    page.wait_for_selector("#other-hits > li.hit")

    assert page.locator(".column-heading .column-name").all_inner_texts() == ["tea", "chai"]


@pytest.mark.parametrize("width", [320, 1280])
def test_results_need_no_horizontal_scrolling(page: "Page", address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(f"{address}/?q=tea&q2=chai&f.country=Kenya&f.year=1000..3000")
    page.wait_for_selector("#other-hits > li.hit", state="attached")
    open_filters(page)

    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )

    assert overflow <= 0
    assert page.locator("#columns > .column:visible").count() == (2 if width >= 960 else 1)


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 720)])
def test_the_first_hit_is_in_view_without_scrolling(page: "Page", width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    search(page, ENGLISH)

    box = page.locator("#hits .hit-text").first.bounding_box()

    assert box and box["y"] + 50 < height
    assert page.evaluate("scrollY") == 0


# ---- For everyone


def test_the_page_works_by_keyboard_alone(page: "Page") -> None:
    def tab_to(start: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if active(page).startswith(start):
                return
        raise AssertionError(f"{start} cannot be reached")

    page.keyboard.type(ENGLISH)  # the box has the focus from the start
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits > li.hit")
    tab_to("BUTTON#filters-toggle")
    page.keyboard.press("Enter")
    tab_to("INPUT#")
    page.keyboard.press("Space")
    page.wait_for_selector("#chosen button")
    wait_for_answer(page)

    assert len({title.split()[0] for title in titles(page)}) == 1
    assert page.evaluate("document.activeElement.checked") is True


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 360)])
def test_controls_have_names_ids_are_single_and_text_has_contrast(
    page: "Page", address: str, scheme: Any, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 2400})
    page.goto(f"{address}/?q=tea&q2=chai&k=5&f.country=Kenya&f.country=Peru")
    page.wait_for_selector("#other-hits > li.hit" if width > 960 else "#hits > li.hit")
    open_filters(page)

    assert audit(page, "nameless") == []
    assert audit(page, "twice") == []
    assert audit(page, "faint") == []


def test_every_text_of_the_page_comes_from_the_catalog(page: "Page", address: str) -> None:
    """If a catalog is translated, every text of the page is."""
    catalog = (Path(__file__).parents[3] / "service/web/languages/en.json").read_text()
    translated = re.sub(r': "((?:[^"\\]|\\.)*)"', r': "«\1»"', catalog)
    page.route("**/en.json", lambda route: route.fulfill(body=translated))
    page.goto(f"{address}/?q=tea&q2=chai&k=5&f.country=Kenya")
    page.wait_for_selector("#other-hits > li.hit")

    strange = [
        word
        for word in audit(page, "words")
        if "«" not in word and not re.fullmatch(r"[\d.,]+\s*m?s|×|API|CLEAR Search", word)
    ]
    assert strange == []


# ---- A key


def guarded(page: "Page", key: str, path: str = "search") -> None:
    """Answer requests without the key with 401."""

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == f"Bearer {key}":
            route.fallback()
        else:
            route.fulfill(status=401, json={"title": "Unauthorized", "detail": "Show a key."})

    page.route(f"**/{path}", guard)


def test_the_key_is_typed_into_a_password_field(page: "Page") -> None:
    guarded(page, "secret")
    search(page, ENGLISH)

    dialog = page.get_by_role("dialog", name="This service asks for a key")
    dialog.wait_for()
    assert active(page).startswith("INPUT#key")
    assert page.locator("#key").get_attribute("type") == "password"
    page.keyboard.type(" secret ")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits > li.hit")

    assert dialog.is_hidden()
    assert page.locator("#key").input_value() == ""
    search(page, SWAHILI)
    assert len(titles(page)) == 6


def test_a_wrong_key_is_asked_for_again_and_a_missing_one_is_reported(page: "Page") -> None:
    guarded(page, "secret")
    search(page, ENGLISH)
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    refusal = dialog.get_by_text("The key was not accepted.")
    assert refusal.is_hidden()
    page.keyboard.type("guess")
    with page.expect_response("**/search"):
        page.get_by_role("button", name="Use this key").click()
    refusal.wait_for()
    assert active(page).startswith("INPUT#key")
    assert page.locator("#key").get_attribute("aria-invalid") == "true"
    assert page.locator("#error").is_hidden()  # the dialog says it
    page.keyboard.press("Escape")

    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text().startswith("This service asks for a key")
    search(page, ENGLISH)
    dialog.wait_for()
    assert refusal.is_hidden()  # the key was forgotten
    page.get_by_role("button", name="Cancel").click()
    assert dialog.is_hidden()
    assert titles(page) == []


def test_a_key_with_characters_that_no_header_has_is_told_before_it_is_sent(page: "Page") -> None:
    guarded(page, "secret")
    search(page, ENGLISH)
    page.get_by_role("dialog").wait_for()
    told = "document.getElementById('key').validationMessage"
    page.keyboard.type("\u0441ecret")  # a Cyrillic letter
    page.keyboard.press("Enter")
    assert page.evaluate(told) == "The key has characters that a key cannot have."
    assert page.get_by_role("dialog").is_visible()
    page.locator("#key").fill("secret")
    assert page.evaluate(told) == ""
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits > li.hit")


def test_the_facts_are_shown_once_a_key_is_accepted(page: "Page") -> None:
    guarded(page, "secret")
    guarded(page, "secret", "info")
    page.reload()
    search(page, ENGLISH)
    page.get_by_role("dialog").wait_for()
    assert page.locator("#facts").inner_text() == ""

    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits > li.hit")

    page.locator("#facts", has_text="Version ").wait_for()


# ---- Languages that the encoder serves poorly


@pytest.mark.parametrize(
    ("language", "quality", "note"),
    [
        (
            "ay",
            "poor",
            "Questions in Aymara find less. Try the same question in Spanish or English.",
        ),
        ("ig", "poor", "Questions in Igbo find less. Try the same question in English."),
        ("ay", "fair", ""),
        ("ay", "unknown", ""),
    ],
)
def test_a_language_that_is_served_poorly_is_named_with_better_ones(
    page: "Page", language: str, quality: str, note: str
) -> None:
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "title": "", "text": "x", "metadata": {}}
    result = {"language": language, "language_quality": quality, "hits": [hit]}
    page.route("**/search", lambda route: route.fulfill(json={"results": [result]}))

    search(page, "Kunas Bolivia markana jach'a marka?")

    found = page.locator("#search-notes")
    assert (found.inner_text() if found.is_visible() else "") == note
    page.unroute("**/search")
    search(page, ENGLISH)
    assert not found.is_visible()


NOT_ANSWERED = "Probably not answered here. Nearest passages:"


@pytest.mark.parametrize(
    ("answered", "relevance", "words"),
    [
        (False, 0.19, NOT_ANSWERED),
        (False, 0.2, "Perhaps answered here:"),
        (False, 0.49, "Perhaps answered here:"),
        (True, 0.4, ""),
        (None, 0.4, ""),
    ],
)
def test_a_question_that_is_perhaps_not_answered_is_told_before_the_nearest_passages(
    page: "Page", answered: bool | None, relevance: float, words: str
) -> None:
    hit = {"passage_id": "1", "score": 0.5, "rank": 1, "title": "", "text": "x", "metadata": {}}
    hit["relevance"] = relevance
    result = {"language": "de", "language_quality": "good", "answered": answered, "hits": [hit]}
    page.route("**/search", lambda route: route.fulfill(json={"results": [result]}))

    search(page, "Wie backe ich ein Sauerteigbrot?")

    note = page.locator("#not-answered")
    assert note.is_visible() is bool(words)
    assert page.locator("#hits .relevance").is_visible() is not bool(words)
    if words:
        assert note.inner_text() == words
    page.unroute("**/search")
    search(page, ENGLISH)
    assert not note.is_visible()
