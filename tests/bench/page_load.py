"""The search page on a slow link: requests, round trips, bytes, and when the first hit is there.

Run: python -m tests.bench.page_load http://127.0.0.1:8000

Chromium holds each response back as a link of 400 kbit/s and 400 ms would. A round trip is a
request that was sent when another's response was whole; six requests run side by side.
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.bench.options import say
from tests.support.chromium import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, CDPSession

QUESTION = "Je, mji mkuu wa Kenya ni upi?"
FAST_LINK = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
BYTES_PER_SECOND = 400_000 / 8
SLOW_LINK = FAST_LINK | {
    "latency": 400,
    "downloadThroughput": BYTES_PER_SECOND,
    "uploadThroughput": BYTES_PER_SECOND,
}
IDLE_MS = 1_000
# Sums the shifts of the layout, in `self.shift`.
SHIFT = """self.shift = 0;
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) self.shift += each.value;
}).observe({ type: "layout-shift", buffered: true })"""


@dataclass
class Sent:
    """A request: when it was sent, when its response was whole, and the bytes of the response."""

    url: str
    began: float
    ended: float = 0.0
    num_bytes: int = 0
    is_cached: bool = False


@dataclass
class Load:
    """The loading of a page, measured from its address to its first hit or example."""

    seconds: float = 0.0
    layout_shift: float = 0.0
    requests: dict[str, Sent] = field(default_factory=dict)

    def watch(self, session: "CDPSession") -> None:
        """Note each request, over the link that is emulated."""
        session.on("Network.requestWillBeSent", self._begin)
        session.on("Network.requestServedFromCache", self._cache)
        session.on("Network.responseReceived", self._receive)
        session.on("Network.loadingFinished", self._finish)

    def _begin(self, event: dict[str, Any]) -> None:
        self.requests[event["requestId"]] = Sent(event["request"]["url"], event["timestamp"])

    def _cache(self, event: dict[str, Any]) -> None:
        self.requests[event["requestId"]].is_cached = True

    def _receive(self, event: dict[str, Any]) -> None:
        sent, response = self.requests[event["requestId"]], event["response"]
        sent.is_cached |= bool(response.get("fromDiskCache"))
        if timing := response.get("timing"):
            sent.began = timing["requestTime"] + timing["sendStart"] / 1000

    def _finish(self, event: dict[str, Any]) -> None:
        sent = self.requests[event["requestId"]]
        sent.ended, sent.num_bytes = event["timestamp"], int(event["encodedDataLength"])

    def summary(self) -> dict[str, float]:
        """Return the number of requests, round trips and bytes, and the seconds."""
        sent = sorted(self._over_the_link(), key=lambda each: each.began)
        depths: list[int] = []
        for number, each in enumerate(sent):
            before = [
                depth
                for depth, other in zip(depths, sent[:number], strict=True)
                if other.ended <= each.began
            ]
            depths.append(1 + max(before, default=0))
        return {
            "requests": len(sent),
            "round_trips": max(depths),
            "bytes": sum(each.num_bytes for each in sent),
            "seconds": round(self.seconds, 2),
            "layout_shift": round(self.layout_shift, 4),
        }

    def _over_the_link(self) -> list[Sent]:
        """Return the requests that were answered by the service before the page was there."""
        return [
            each
            for each in self.requests.values()
            if not each.is_cached and each.ended and each.url.startswith("http")
        ]


def load(
    context: "BrowserContext", address: str, wanted: str, link: dict[str, Any] = SLOW_LINK
) -> Load:
    """Open an address over a link, until an element is there."""
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", link)
    page.add_init_script(SHIFT)
    found = Load()
    found.watch(session)
    page.goto(address, wait_until="commit")
    page.wait_for_selector(wanted, timeout=60_000)
    found.seconds = page.evaluate("performance.now()") / 1000
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(IDLE_MS)
    found.layout_shift = page.evaluate("self.shift")
    page.close()
    return found


def measure(browser: "Browser", address: str) -> dict[str, Load]:
    """Load the start page, a shared link, and that link again, each with the cache it finds."""
    shared = f"{address}/?q={quote(QUESTION)}"
    start, link = browser.new_context(locale="sw-KE"), browser.new_context(locale="sw-KE")
    found = {
        "start page": load(start, address, "#facts span"),
        "shared link": load(link, shared, ".hit"),
        "shared link again": load(link, shared, ".hit"),
    }
    start.close()
    link.close()
    return found


def main() -> None:
    """Measure several times; print the median of each figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        rounds = [measure(browser, options.address.rstrip("/")) for _ in range(options.rounds)]
        browser.close()
    for name in rounds[0]:
        summaries = [each[name].summary() for each in rounds]
        median = {key: statistics.median(each[key] for each in summaries) for key in summaries[0]}
        say(json.dumps({"load": name, **median}))
        if options.verbose:
            for sent in rounds[-1][name].requests.values():
                say(json.dumps(asdict(sent)))


if __name__ == "__main__":
    main()
