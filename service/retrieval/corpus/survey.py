"""A survey of a corpus: what `index build` would read, before anything is encoded."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from service.retrieval.corpus.duplicates import MAX_NAMED, text_key
from service.retrieval.corpus.fields import KINDS, is_of_kind
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import PassageError

WINDOW_PASSAGES = 256
# A language is detected in the first texts, and then in one of many.
FIRST_DETECTED, DETECTED_EVERY = 2_000, 50
PERCENTILES = (50, 90, 99, 100)


class Mixture(NamedTuple):
    """The kind that most values of a key have, and how many values it would refuse as a field."""

    kind: str
    num_refused: int

    @classmethod
    def of(cls, kinds: Mapping[str, int]) -> "Mixture | None":
        """Return the mixture of values, counted by kind; None where one kind holds all.

        >>> Mixture.of({"number": 5, "date": 1, "string": 1, "null": 9})
        Mixture(kind='number', num_refused=2)
        """
        found = Counter({kind: count for kind, count in kinds.items() if kind != "null"})
        if "string" in found:
            found["string"] += found.pop("date", 0)  # which is text, too
        [(kind, count), *others] = found.most_common() or [("", 0)]
        return cls(kind, found.total() - count) if others and kind in KINDS else None


@dataclass(frozen=True)
class Survey:
    """What a corpus holds; `as_dict` gives it for JSON."""

    num_passages: int
    num_refused: int
    num_equal_texts: int  # passages that are duplicates of one before
    equal_texts: Sequence[Mapping[str, str]]  # id and origin of the first of them
    num_over_limit: int
    max_tokens: int
    tokens: Mapping[str, int]  # by percentile
    languages: Mapping[str, float]  # shares of the texts in which it was detected
    num_detected: int
    metadata: Mapping[str, Mapping[str, int]]  # by key, how many values have which kind
    mixed: Mapping[str, Mixture]  # by key, where no kind holds all values

    def as_dict(self) -> dict[str, Any]:
        """Return the survey as JSON values."""
        mixed = {name: found._asdict() for name, found in self.mixed.items()}
        return asdict(self) | {"mixed": mixed}


class Surveyor:
    """Looks at passages one by one; memory holds 16 bytes for each id and each text."""

    def __init__(
        self,
        count_tokens: Callable[[Sequence[str]], list[int]],
        detect: Callable[[str], str],
        max_tokens: int,
    ) -> None:
        """Begin a survey.

        Args:
            count_tokens: returns the lengths of texts as the encoder reads them, uncut.
            detect: returns a text's language.
            max_tokens: the encoder's limit.
        """
        self._count_tokens = count_tokens
        self._detect = detect
        self._max_tokens = max_tokens
        self._ids: set[bytes] = set()
        self._texts: set[bytes] = set()
        self._window: list[str] = []
        self._lengths: list[int] = []
        self._languages: Counter[str] = Counter()
        self._kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._num_equal = 0
        self._equal: list[dict[str, str]] = []

    @property
    def num_passages(self) -> int:
        """Return the number of passages so far."""
        return len(self._ids)

    def add(self, origin: str, passage: Passage) -> None:
        """Look at a passage.

        Raises:
            PassageError: a passage with the same id was added before.
        """
        key = _digest(passage.passage_id)
        if key in self._ids:
            raise PassageError(
                f"{origin} repeats the id {passage.passage_id!r}: give one of the two passages "
                "another id"
            )
        number = len(self._ids)
        self._ids.add(key)
        text = passage.encoder_text
        key = text_key(text)
        if key in self._texts:
            self._num_equal += 1
            if len(self._equal) < MAX_NAMED:
                name = origin.encode(errors="backslashreplace").decode()  # may be no UTF-8
                self._equal.append({"id": passage.passage_id, "origin": name})
        self._texts.add(key)
        if number < FIRST_DETECTED or number % DETECTED_EVERY == 0:
            self._languages[self._detect(passage.text)] += 1
        for name, value in passage.metadata.items():
            self._kinds[name][kind_of(value)] += 1
        self._window.append(text)
        if len(self._window) == WINDOW_PASSAGES:
            self._measure()

    def finish(self, num_refused: int) -> Survey:
        """Return the survey of all passages.

        Args:
            num_refused: lines that are no passage.
        """
        self._measure()
        lengths = np.array(self._lengths or [0])
        detected = self._languages.total()
        return Survey(
            num_passages=len(self._ids),
            num_refused=num_refused,
            num_equal_texts=self._num_equal,
            equal_texts=self._equal,
            num_over_limit=int((lengths > self._max_tokens).sum()),
            max_tokens=self._max_tokens,
            tokens={
                f"p{percentile}" if percentile < 100 else "longest": int(
                    np.percentile(lengths, percentile, method="inverted_cdf")
                )
                for percentile in PERCENTILES
            },
            languages={
                language: round(count / detected, 4)
                for language, count in self._languages.most_common(10)
            },
            num_detected=detected,
            metadata={name: dict(kinds.most_common()) for name, kinds in self._kinds.items()},
            mixed={
                name: found
                for name, kinds in self._kinds.items()
                if (found := Mixture.of(kinds)) is not None
            },
        )

    def _measure(self) -> None:
        if self._window:
            self._lengths += self._count_tokens(self._window)
            self._window = []


def kind_of(value: object) -> str:
    """Return the kind that a field of this value can have, the narrowest first.

    >>> kind_of("2024-02-29"), kind_of(3), kind_of({}), kind_of(None)
    ('date', 'number', 'object', 'null')
    """
    if value is None:
        return "null"
    narrow_first = sorted(KINDS, key=lambda kind: kind == "string")
    return next((kind for kind in narrow_first if is_of_kind(value, kind)), "object")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
