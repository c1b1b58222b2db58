"""Pictures of the search page in 16 scenes, each with its layout shift and what axe finds.

Run: python -m tests.bench.page_scenes http://127.0.0.1:8000 OUT --axe axe.min.js

Four languages of the page, phone and desktop, light and dark; each language has a question that the
demo answers, one that it does not, a failure, and the page without a question. axe is axe-core's
`axe.min.js` (<https://www.npmjs.com/package/axe-core>); else the tests' own audit is made alone.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.bench.options import say
from tests.bench.page_load import SHIFT
from tests.support.chromium import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTIONS = {
    "en": ("What does the shield on Kenya’s flag stand for?", "How do I bake a sourdough loaf?"),
    "ar": ("ما هي عاصمة إثيوبيا؟", "كيف أخبز خبز العجين المخمر؟"),
    "sw": ("Ni lugha zipi zinazozungumzwa nchini Tanzania?", "Ninawezaje kuoka mkate wa chachu?"),
    "zh": ("巴西有哪些自然资源？", "怎么烤酸面包？"),
}
DEVICES = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 900}}
VIEWS = list(product(DEVICES, ("light", "dark")))
KINDS = {
    "answered": ".hit",
    "unanswered": ".hit",
    "error": "#error:not([hidden])",
    "start": ".example",
}
BUSY = {"type": "x", "title": "Busy", "status": 429, "detail": "the queue is full"}
AUDIT = Path(__file__).parents[1] / "support" / "page_audit.js"
SETTLED_MS = 700


def main() -> None:
    """Take the pictures; print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("out", type=Path)
    parser.add_argument("--axe", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    axe = options.axe.read_text() if options.axe else ""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for number, (language, view) in enumerate(product(QUESTIONS, VIEWS)):
            kind = list(KINDS)[(number + number // len(VIEWS)) % len(KINDS)]
            name = "-".join([f"{number:02}", language, *view, kind])
            page = open_scene(browser, options.address.rstrip("/"), language, view, kind)
            found = {"scene": name, "layout_shift": round(page.evaluate("self.shift"), 4)}
            page.screenshot(path=options.out / f"{name}.png")
            say(json.dumps(found | audit(page, axe)))
            page.context.close()
        browser.close()


def open_scene(
    browser: "Browser", address: str, language: str, view: tuple[str, Any], kind: str
) -> "Page":
    """Open the page as a reader of a language sees it, and wait until nothing comes any more."""
    device, scheme = view
    context = browser.new_context(
        locale=language,
        viewport=DEVICES[device],  # type: ignore[arg-type]
        color_scheme=scheme,
        has_touch=device == "phone",
        bypass_csp=True,  # axe is injected
    )
    page = context.new_page()
    page.add_init_script(SHIFT)
    if kind == "error":
        headers = {"Retry-After": "20"}
        page.route("**/search", lambda route: route.fulfill(status=429, headers=headers, json=BUSY))
    question = QUESTIONS[language][kind == "unanswered"]
    page.goto(address if kind == "start" else f"{address}/?q={quote(question)}")
    page.wait_for_selector(KINDS[kind])
    page.wait_for_selector("#facts span")
    page.wait_for_timeout(SETTLED_MS)
    return page


def audit(page: "Page", axe: str) -> dict[str, object]:
    """Return what axe and the tests' own audit find: both should find nothing."""
    source = AUDIT.read_text()
    own = [
        f"{what}: {each}"
        for what in ("nameless", "twice", "faint", "unsaid")
        for each in page.evaluate(f"({source}).{what}()")
    ]
    if not axe:
        return {"audit": own}
    page.evaluate(axe)
    violations = page.evaluate("axe.run().then((found) => found.violations.map(({ id }) => id))")
    return {"audit": own, "axe": violations}


if __name__ == "__main__":
    main()
