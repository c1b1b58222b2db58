"""A Unigram tokenizer of many pieces in a quarter of the library's memory, with the same ids.

The library `tokenizers` keeps 250,000 pieces in a tree of hash tables: 290 MiB. Here they are keys
of one dictionary: 40 MiB. The library still normalizes texts and splits them into words; a word's
best pieces are found here, as in its Unigram model, by the same sums in the same order.
"""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

MIN_FILE_BYTES = 2**22  # smaller tokenizers have no memory to save
UNKNOWN_PENALTY = 10.0
CACHED_WORDS, CACHED_CHARACTERS = 10_000, 32
SEPARATOR = "\0"  # in no piece
MODEL_FIELDS = {"type", "unk_id", "vocab", "byte_fallback"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The ids of a text, and of what was cut off, each with special tokens, as the library's."""

    ids: list[int]
    overflowing: list["Encoding"] = field(default_factory=list)


class UnigramTokenizer:
    """Tokenizes texts that hold no added token, and truncates on the right."""

    def __init__(self, content: dict[str, Any]) -> None:
        """Take the content of a `tokenizer.json` that `is_supported`; its model is taken out."""
        model = content.pop("model")
        self._unknown_id = int(model["unk_id"])
        self._scores = array("d", (score for _, score in model["vocab"]))
        # The read pieces stand between lists that are freed, whose memory they would keep: 30 MiB.
        joined = SEPARATOR.join(piece for piece, _ in model.pop("vocab"))
        self._ids = {piece: number for number, piece in enumerate(joined.split(SEPARATOR))}
        self._unknown_score = min(self._scores) - UNKNOWN_PENALTY
        self._longest: dict[str, int] = {}  # by first character
        for piece in self._ids:
            first = piece[:1]
            self._longest[first] = max(self._longest.get(first, 0), len(piece))
        self._added = {
            int(token.pop("id")): AddedToken(**token)
            for token in json.loads(json.dumps(content["added_tokens"]))
        }
        self._before, self._after = _template(content)
        pieces = [["", 0.0]]
        rest = content | {"added_tokens": [], "post_processor": None}
        rest |= {"model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}}
        library = Tokenizer.from_str(json.dumps(rest))
        self.normalizer, self._splitter = library.normalizer, library.pre_tokenizer
        self._max_tokens: int | None = None
        self._word = lru_cache(CACHED_WORDS)(self._best_pieces)

    def enable_truncation(self, max_tokens: int) -> None:
        """Cut texts off on the right after a number of tokens, special ones included."""
        self._max_tokens = max_tokens

    def encode(self, text: str) -> Encoding:
        """Tokenize a text; errors are the library's."""
        ids: list[int] = []
        normalized = self.normalizer.normalize_str(text) if self.normalizer else text
        for word, _ in self._splitter.pre_tokenize_str(normalized):
            known = self._word if len(word) <= CACHED_CHARACTERS else self._best_pieces
            ids += known(word)
        if self._max_tokens is None or len(ids) <= (room := self._max_tokens - self._num_special):
            return Encoding(self._with_special(ids))
        cut_off = Encoding(self._with_special(ids[room:]))
        return Encoding(self._with_special(ids[:room]), [cut_off])

    def encode_batch_fast(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize texts one by one."""
        return [self.encode(text) for text in texts]

    def num_special_tokens_to_add(self, is_pair: bool = False) -> int:
        """Return the number of special tokens of a text."""
        assert not is_pair
        return self._num_special

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return the added tokens by id."""
        return dict(self._added)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Return the number of pieces; added tokens must not be asked for."""
        assert not with_added_tokens
        return len(self._scores)

    def id_to_token(self, number: int) -> str | None:
        """Return the token of an id."""
        if number in self._added:
            return str(self._added[number].content)
        return next((piece for piece, known in self._ids.items() if known == number), None)

    @property
    def _num_special(self) -> int:
        return len(self._before) + len(self._after)

    def _with_special(self, ids: list[int]) -> list[int]:
        return [*self._before, *ids, *self._after]

    def _best_pieces(self, word: str) -> tuple[int, ...]:
        """Return the ids of the pieces whose scores have the largest sum (Viterbi).

        A piece that ends where another ends replaces it only if its sum is larger. A character
        without a piece is unknown, and neighbors that are unknown are one token.
        """
        end = len(word)
        sums, starts, ids = [0.0] * (end + 1), [-1] * (end + 1), [0] * (end + 1)
        find, scores = self._ids.get, self._scores
        for start, first in enumerate(word):
            total = sums[start]
            for stop in range(start + 1, min(end, start + self._longest.get(first, 0)) + 1):
                number = find(word[start:stop])
                if number is None:
                    continue
                found = scores[number] + total
                if starts[stop] < 0 or found > sums[stop]:
                    sums[stop], starts[stop], ids[stop] = found, start, number
            if first not in self._ids:
                found, stop = self._unknown_score + total, start + 1
                if starts[stop] < 0 or found > sums[stop]:
                    sums[stop], starts[stop], ids[stop] = found, start, self._unknown_id
        found_ids: list[int] = []
        while end:
            if not (found_ids and ids[end] == found_ids[-1] == self._unknown_id):
                found_ids.append(ids[end])
            end = starts[end]
        return tuple(reversed(found_ids))


def read_unigram(path: Path, prompts: Iterable[str]) -> UnigramTokenizer | None:
    """Read a large Unigram tokenizer; None for another one, which the library must read.

    Args:
        path: a `tokenizer.json`.
        prompts: stand before texts; the texts themselves hold no added token (`TextPreparation`).
    """
    if path.stat().st_size < MIN_FILE_BYTES:
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return None
    return UnigramTokenizer(content) if is_supported(content, prompts) else None


def is_supported(content: dict[str, Any], prompts: Iterable[str]) -> bool:
    """Return whether `UnigramTokenizer` makes the ids that the library makes of such texts."""
    model, added = content.get("model", {}), content.get("added_tokens", [])
    starts = {token["content"][:1] for token in added}
    return (
        model.get("type") == "Unigram"
        and set(model) <= MODEL_FIELDS
        and not model.get("byte_fallback")
        and model.get("unk_id") is not None
        and all(piece and SEPARATOR not in piece for piece, _ in model["vocab"])
        and all(token["special"] for token in added)
        and not any(start in prompt for prompt in prompts for start in starts)
        and content.get("pre_tokenizer") is not None
        and (content.get("truncation") or {}).get("direction", "Right") == "Right"
        and _has_plain_template(content.get("post_processor") or {})
    )


def _has_plain_template(processor: dict[str, Any]) -> bool:
    """Return whether the text stands once between special tokens, all of type 0."""
    parts = processor.get("single", []) if processor.get("type") == "TemplateProcessing" else []
    sequences = [part for part in parts if "Sequence" in part]
    return len(sequences) == 1 and all(
        value["type_id"] == 0 for part in parts for value in part.values()
    )


def _template(content: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the ids of the special tokens before a text, and after it."""
    processor = content["post_processor"]
    before: list[int] = []
    after: list[int] = []
    found = before
    for part in processor["single"]:
        if "Sequence" in part:
            found = after
        else:
            found += processor["special_tokens"][part["SpecialToken"]["id"]]["ids"]
    return before, after
