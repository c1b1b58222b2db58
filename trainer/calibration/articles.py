"""The articles of passages: which passages may answer a question that another one answers.

Nobody judged passages other than the gold ones of a data set. By title or by the answer's text some
of them may answer, too; scores play no part in it.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from service.retrieval.corpus.reader import Passage

WORD = re.compile(r"\w+")
TITLE_WORD = re.compile(r"\w{4,}")
# A word of more titles than this share does not make two articles related.
MAX_TITLES = 0.02
LEAST_ANSWER = 2  # characters; a digit says nothing


class Articles:
    """The titles and words of passages; a row is the position of a passage."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Index the titles."""
        self._titles = [passage.title.casefold() for passage in passages]
        self._texts = [_words(f"{passage.title} {passage.text}") for passage in passages]
        self._with_title: defaultdict[str, set[int]] = defaultdict(set)
        with_word: defaultdict[str, set[int]] = defaultdict(set)
        for row, title in enumerate(self._titles):
            self._with_title[title].add(row)
            for word in set(TITLE_WORD.findall(title)):
                with_word[word].add(row)
        most = MAX_TITLES * len(passages)
        self._with_word = {word: rows for word, rows in with_word.items() if len(rows) <= most}

    def related(self, rows: set[int]) -> set[int]:
        """Return passages, and all whose title is the same or shares an uncommon word."""
        titles = {self._titles[row] for row in rows} - {""}
        words = {word for title in titles for word in TITLE_WORD.findall(title)}
        by_title = (self._with_title[title] for title in titles)
        return rows.union(*by_title, *(self._with_word.get(word, set()) for word in words))

    def may_answer(self, row: int, gold: Collection[int], answers: Sequence[str]) -> bool:
        """Return whether a passage has a gold passage's title, or holds an answer as words."""
        title = self._titles[row]
        if title and title in {self._titles[each] for each in gold}:
            return True
        known = [_words(answer) for answer in answers]
        return any(
            answer in self._texts[row] for answer in known if len(answer.strip()) >= LEAST_ANSWER
        )


def _words(text: str) -> str:
    """Return the words of a text between spaces, so that words are found whole."""
    return f" {' '.join(WORD.findall(text.casefold()))} "
