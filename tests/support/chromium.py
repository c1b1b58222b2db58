"""Chromium for tests of the search page, and the actions of a user."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Watch:
    """Forbidden behavior of a page: requests to other hosts, and logged errors."""

    def __init__(self, page: "Page", address: str) -> None:
        self.foreign: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self._note_request(request.url, address))
        page.on("console", lambda message: self._note_message(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note_request(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:")):
            self.foreign.append(url)

    def _note_message(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)


@contextmanager
def opened(browser: "Browser", address: str) -> "Iterator[Page]":
    """Open the page; fail if it sends a request to another host or logs an error."""
    page = browser.new_page(locale="en-GB")
    watch = Watch(page, address)
    page.goto(address)
    page.wait_for_selector("#facts span")
    yield page
    page.close()
    assert watch.foreign == []
    # Chromium logs every failed response to the console, and each language it can't translate into.
    told = ("the server responded with", "The requested language options are not supported")
    assert [error for error in watch.errors if not any(part in error for part in told)] == []


def wait_for_answer(page: "Page") -> None:
    """Wait until the newest search has finished."""
    page.wait_for_selector("#results[aria-busy=false]")


def search(page: "Page", query: str) -> None:
    page.get_by_label("Your question").fill(query)
    page.keyboard.press("Enter")
    wait_for_answer(page)


def titles(page: "Page") -> list[str]:
    return page.locator("#hits > li.hit .hit-title").all_inner_texts()


def active(page: "Page") -> str:
    """Return the focused element as `tag#id.class`."""
    return str(
        page.evaluate(
            "(({tagName, id, className}) => `${tagName}#${id}.${className}`)"
            "(document.activeElement)"
        )
    )
