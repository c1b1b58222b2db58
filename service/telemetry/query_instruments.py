"""The Prometheus metrics of queries, by language."""

from prometheus_client import CollectorRegistry, Counter, Histogram

# Coarser, because each language has its own series.
LANGUAGE_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
# Cosines. The best hits of the bundled encoder lie between .75 and .95; others differ.
SCORES = (
    0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.725, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9,
    0.925, 0.95, 1,
)  # fmt: skip


class QueryInstruments:
    """The metrics of queries, one attribute each; `Instruments` registers them."""

    def _add_queries(self, registry: CollectorRegistry) -> None:
        self.queries = Counter(
            "clear_queries_total",
            "Queries searched, by language; the source is declared or detected.",
            ["language", "source"],
            registry=registry,
        )
        self.query_seconds = Histogram(
            "clear_query_duration_seconds",
            "Time of the request that held a query, by the query's language.",
            ["language"],
            buckets=LANGUAGE_SECONDS,
            registry=registry,
        )
        self.truncated_queries = Counter(
            "clear_truncated_queries_total",
            "Queries truncated at the encoder's limit, by language.",
            ["language"],
            registry=registry,
        )
        self.top_score = Histogram(
            "clear_top_score",
            "Cosine of a query and its best passage, by language.",
            ["language"],
            buckets=SCORES,
            registry=registry,
        )
        self.answers = Counter(
            "clear_answers_total",
            "Queries by language, and whether the relevance of the best hit reached the threshold.",
            ["language", "answered"],
            registry=registry,
        )
        self.tokens = Counter(
            "clear_tokens_total", "Tokens encoded, by route.", ["route"], registry=registry
        )
        self.truncated = Counter(
            "clear_truncated_texts_total",
            "Texts truncated at the encoder's limit, by route.",
            ["route"],
            registry=registry,
        )
