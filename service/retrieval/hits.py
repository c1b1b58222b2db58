"""Hits: passages found for a query; of hits that repeat each other, the best may stand for all."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from service.retrieval.corpus.duplicates import normalized
from service.retrieval.corpus.reader import Passage
from service.retrieval.evidence.table import Evidence

WORD = re.compile(r"\w+")
SHINGLE_WORDS = 3
# Share of their runs of three words that two texts have in common to be near duplicates.
LEAST_JACCARD = 0.8


@dataclass(slots=True)
class Hit:
    """A passage found for a query; rank 1 is the best. The evidence is set last, in place."""

    rank: int
    score: float
    passage: Passage
    relevance: float | None = None  # the probability that it answers; None without calibration
    matched: tuple[str, ...] = ()  # rare identifiers of the query, as the passage writes them
    duplicates: int | None = None  # hits folded into this one; None if none was to be folded
    more_chunks: int | None = None  # hits of its document folded into it; None if none was to be
    row: int = -1  # of the passage in its generation
    evidence: Evidence | None = None
    duplicate_ids: tuple[str, ...] = ()  # of the hits folded into this one, the best first

    def as_dict(self, include_text: bool = True, with_evidence: bool = False) -> dict[str, object]:
        """Return the hit as in the response of `/search`.

        Args:
            include_text: else the text is None.
            with_evidence: whether there is a field of the evidence.
        """
        folded: dict[str, object] = {}
        if self.duplicates is not None:
            folded = {"duplicates": self.duplicates, "duplicate_ids": list(self.duplicate_ids)}
        if self.more_chunks is not None:
            folded["more_chunks"] = self.more_chunks
        return {
            "passage_id": self.passage.passage_id,
            "score": self.score,
            "relevance": self.relevance,
            "rank": self.rank,
            "matched": list(self.matched),
            "title": self.passage.title,
            "text": self.passage.text if include_text else None,
            "metadata": dict(self.passage.metadata),
            **self.passage.place,
            **folded,
            **({"evidence": self.evidence and self.evidence.as_dict()} if with_evidence else {}),
        }


def fold_duplicates(hits: Sequence[Hit]) -> list[Hit]:
    """Fold hits whose texts nearly repeat that of a better hit; ranks count what is left.

    Args:
        hits: of one query, the best first.
    """
    return _fold(hits, leaders([hit.passage for hit in hits]))


def fold_equal(hits: Sequence[Hit], text_of: Callable[[str], str]) -> list[Hit]:
    """Fold hits of documents whose title and text are equal (`corpus.duplicates`).

    Args:
        hits: of one query, the best first.
        text_of: returns title and text of a document that was split, by its id.
    """
    texts = [normalized(hit.passage.encoder_text) for hit in hits]
    counts = Counter(texts)
    read = cache(lambda document_id: normalized(text_of(document_id)))
    groups: dict[tuple[str, str], int] = {}
    numbers = []
    for hit, text in zip(hits, texts, strict=True):
        # Documents with an equal chunk may differ elsewhere.
        is_part = hit.passage.chunk is not None and counts[text] > 1
        key = (text, read(hit.passage.document_id) if is_part else "")
        numbers.append(groups.setdefault(key, len(groups)))
    return _fold(hits, numbers)


def _fold(hits: Sequence[Hit], groups: Sequence[int]) -> list[Hit]:
    """Fold hits of one group, numbered in the order in which they begin, into its first one."""
    folded: defaultdict[int, list[Hit]] = defaultdict(list)
    for hit, group in zip(hits, groups, strict=True):
        folded[group].append(hit)
    return [
        replace(
            best,
            rank=rank,
            duplicates=len(others),
            duplicate_ids=tuple(hit.passage.passage_id for hit in others),
        )
        for rank, (best, *others) in enumerate(folded.values(), start=1)
    ]


def fold_documents(hits: Sequence[Hit]) -> list[Hit]:
    """Fold the chunks of a document into its best one; ranks count what is left.

    Args:
        hits: of one query, the best first.
    """
    counts = Counter(hit.passage.document_id for hit in hits)
    best = {hit.passage.document_id: hit for hit in reversed(hits)}
    kept = sorted(best.values(), key=lambda hit: hit.rank)
    return [
        replace(
            hit,
            rank=rank,
            more_chunks=counts[hit.passage.document_id] - 1 if hit.passage.chunk else None,
        )
        for rank, hit in enumerate(kept, start=1)
    ]


def leaders(passages: Sequence[Passage]) -> list[int]:
    """Return, for each passage, the number of the group that it belongs to, in order of rank.

    A passage joins the first group whose first passage it nearly repeats; else it begins one.
    """
    groups_of: defaultdict[int, list[int]] = defaultdict(list)
    sizes: list[int] = []
    found = []
    for passage in passages:
        shingles = _shingles(passage.text)
        common = Counter(group for shingle in shingles for group in groups_of.get(shingle, ()))
        group = next(
            (
                group
                for group, count in sorted(common.items())
                if count >= LEAST_JACCARD * (len(shingles) + sizes[group] - count)
            ),
            len(sizes),
        )
        if group == len(sizes):
            sizes.append(len(shingles))
            for shingle in shingles:
                groups_of[shingle].append(group)
        found.append(group)
    return found


def _shingles(text: str) -> set[int]:
    """Return the hashes of a text's runs of three words; of a shorter text, of all its words."""
    words = WORD.findall(text.casefold()) or [text]
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return {hash(tuple(words[start : start + SHINGLE_WORDS])) for start in range(last)}
