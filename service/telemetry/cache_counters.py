"""Prometheus counters of the query cache, read from its own counts at each scrape."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class LookupCounts(Protocol):
    """The counts of a cache that metrics read."""

    @property
    def num_lookups(self) -> int:
        """Return the number of lookups."""

    @property
    def num_hits(self) -> int:
        """Return the number of lookups that found something."""


class CacheCounters(Collector):
    """Reads the counts of the query cache at each scrape."""

    _labelnames = ()

    def __init__(self) -> None:
        """Report zeros until there is a cache."""
        self.source: LookupCounts | None = None

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return the counts as metrics."""
        lookups, hits = (self.source.num_lookups, self.source.num_hits) if self.source else (0, 0)
        yield CounterMetricFamily(
            "clear_query_cache_lookups", "Queries looked up in the query cache.", lookups
        )
        yield CounterMetricFamily(
            "clear_query_cache_hits", "Queries whose embedding was cached or in flight.", hits
        )

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Return the metrics, for the registry."""
        return self.collect()
