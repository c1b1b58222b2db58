"""Identifiers in a text, and the keys that make two ways to write one equal; no language is known.

A key names its kind: `c` codes and numbers, `a` acronyms, `n` names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from unicodedata import decimal, normalize

# With the letters of African and Azerbaijani spellings, and apostrophes that are letters.
LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff"
# Latin letters and digits, joined by one mark; other scripts end a word.
WORD = re.compile(rf"[{LATIN}0-9]+(?:[-_./][{LATIN}0-9]+|(?<=[0-9])[,'][0-9]+)*")
# An acronym and the number after it, as in "AA 1720".
SPACED_CODE = re.compile(rf"(?<![{LATIN}0-9])([A-Z]{{2,5}}) ([0-9]{{2,}})(?![{LATIN}0-9])")
GROUPED = re.compile(r"([0-9]{1,3}(?:([.,'])[0-9]{3})(?:\2[0-9]{3})*)(?:(?!\2)[.,]([0-9]+))?")
# In a question; an English passage writes commas.
SPACED_GROUPS = re.compile(r"(?<![0-9.,'/-])[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9])")
DECIMAL = re.compile(r"([0-9]+)[.,]([0-9]+)")
SEPARATORS = re.compile(r"[-_./,']")
# Fractions and raised digits, which compatibility forms would join to a number, and the micro sign.
RAISED = re.compile(r"[\u00b2\u00b3\u00b5\u00b9\u00bc-\u00be\u2070-\u209c\u2150-\u215f]")
OTHER_DIGIT = re.compile(r"(?![0-9])\d")
HAS_DIGIT, HAS_LATIN = re.compile(r"[0-9]"), re.compile(f"[{LATIN}]")
NOT_LATIN = re.compile(rf"[^\W\d_{LATIN}]")  # a letter, or a numeral that is none
DIGIT_RUN = re.compile(r"[0-9]+")
UNIT = re.compile(r"[0-9]+[a-z]{1,2}")  # as in 19th and 50km
MARK = re.compile(r"[\u0300-\u036f]")
SENTENCE_END = re.compile(r"[.!?:;\u2026]")
# Hyphens and separators of other scripts; marks of direction and soft hyphens are not drawn.
SAME = {
    **{0x2010: "-", 0x2011: "-", 0x2012: "-", 0x2013: "-", 0x2014: "-", 0x2212: "-"},
    **{0x66B: ".", 0x66C: ",", 0x2019: "'"},
    **{0xAD: "", 0x61C: "", 0x200B: "", 0x200E: "", 0x200F: "", 0x2060: ""},
    **{0x2066: "", 0x2067: "", 0x2068: "", 0x2069: ""},
}
LEAST_DIGITS = 3  # of a number: shorter ones are often written as words
LONG_NUMBER = 5  # from so many digits on a number is a code
LEAST_NAME = 3
LONGEST = 64  # of a word, in letters
MAX_CHARACTERS = 2000  # of a question that are read


class Kind(Enum):
    """How surely a passage with an identifier is meant by a question that holds it."""

    CODE = 1
    NUMBER = 2
    ACRONYM = 3
    NAME = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """An identifier of a question: its kind, and its keys, of which the first known one counts."""

    kind: Kind
    keys: tuple[str, ...]


def fold(text: str) -> str:
    """Return a text with the digits and hyphens of ASCII, in compatibility form.

    >>> fold("\uff21\uff21\u2010\u0661\u0667\u0662\u0660")
    'AA-1720'
    """
    if text.isascii():
        return text
    folded = normalize("NFKC", RAISED.sub(" ", text)).translate(SAME)
    return OTHER_DIGIT.sub(lambda digit: str(decimal(digit[0])), folded)


def identifiers_of(text: str) -> dict[str, str]:
    """Return the identifiers that a passage holds: by key, as it writes them.

    >>> identifiers_of("NASA sent AA-1720.")
    {'a:NASA': 'NASA', 'n:nasa': 'NASA', 'c:aa1720': 'AA-1720', 'c:1720': 'AA-1720'}
    """
    found: dict[str, str] = {}
    for key, written in each_identifier(text):
        found.setdefault(key, written)
    return found


def each_identifier(*texts: str) -> Iterator[tuple[str, str]]:
    """Yield the identifiers of a passage's texts: key, and how it is written there.

    The first of each key counts. A text is read only when the ones before it are exhausted.
    """
    read = []
    for text in texts:
        folded = fold(text)
        read.append(folded)
        for match in WORD.finditer(folded):
            if len(match[0]) <= LONGEST:
                yield from _word_identifiers(match[0])
    for folded in read:
        for match in SPACED_CODE.finditer(folded):
            yield f"c:{match[1].lower()}{match[2]}", match[0]


def _word_identifiers(word: str) -> Iterator[tuple[str, str]]:
    if HAS_DIGIT.search(word):
        for key in _code_keys(word):
            yield key, word
    elif not word.islower():
        for part in SEPARATORS.split(word):
            if _is_acronym(part):
                yield f"a:{part}", part
            if _is_name(part):
                yield f"n:{_plain(part)}", part


def asked_identifiers(question: str) -> list[Asked]:
    """Return the identifiers of a question.

    Letters count as follows. A code may be written in either case. A word in capitals is an
    acronym, unless all words are; it is found in capitals only. In a question of another script
    every Latin word is a name or an acronym; in one of Latin script a capitalized word within a
    sentence.

    >>> [each.keys for each in asked_identifiers("Wo ist aa-1720?")]
    [('c:aa1720',)]
    """
    folded = fold(question[:MAX_CHARACTERS])
    folded = SPACED_GROUPS.sub(lambda number: number[0].replace(" ", ""), folded)
    words = [match for match in WORD.finditer(folded) if len(match[0]) <= LONGEST]
    is_foreign = any(match[0].isalpha() for match in NOT_LATIN.finditer(folded))
    is_shouted = not is_foreign and folded.upper() == folded
    has_digit = HAS_DIGIT.search(folded) is not None
    found = {asked.keys: asked for asked in _asked_codes(folded, words)} if has_digit else {}
    end = 0
    for match in words:
        begin, end, word = end, match.end(), match[0]
        if (word.islower() and not is_foreign) or (has_digit and HAS_DIGIT.search(word)):
            continue
        is_first = not begin or SENTENCE_END.search(folded, begin, match.start()) is not None
        for part in SEPARATORS.split(word):
            if asked := _asked_word(part, is_foreign, is_shouted, is_first):
                found[asked.keys] = asked
    return list(found.values())


def _asked_codes(folded: str, words: list[re.Match[str]]) -> Iterator[Asked]:
    for match in SPACED_CODE.finditer(folded):
        yield Asked(Kind.CODE, (f"c:{match[1].lower()}{match[2]}",))
    for match in words:
        word = match[0]
        if not HAS_DIGIT.search(word):
            continue
        parts = SEPARATORS.split(word)
        if number := _number(word):
            if len(DIGIT_RUN.findall(number)[0]) >= LEAST_DIGITS or not number.isdigit():
                is_long = number.isdigit() and len(number) >= LONG_NUMBER
                yield Asked(Kind.CODE if is_long else Kind.NUMBER, (f"c:{number}",))
        elif HAS_LATIN.search(word):
            # Without the endings that languages append: AA-1720-as, 1980er.
            heads = ["".join(parts[:stop]).lower() for stop in range(len(parts), 0, -1)]
            keys = [f"c:{head}" for head in heads if HAS_DIGIT.search(head)]
            yield Asked(Kind.NUMBER if UNIT.fullmatch(word) else Kind.CODE, tuple(keys))
            run = DIGIT_RUN.match(word)
            if run and len(run[0]) >= LEAST_DIGITS:
                yield Asked(Kind.NUMBER, (f"c:{run[0]}",))
        else:  # a date, a version, a range
            yield Asked(Kind.CODE, (f"c:{'-'.join(parts)}",))
            for part in word.split("-"):
                if part != word and part.isdigit() and len(part) >= LEAST_DIGITS:
                    yield Asked(Kind.NUMBER, (f"c:{part}",))


def _asked_word(part: str, is_foreign: bool, is_shouted: bool, is_first: bool) -> Asked | None:
    if is_shouted:
        return None
    name = (f"n:{_plain(part)}",) if len(part) >= LEAST_NAME else ()
    if is_foreign:
        is_short = len(part) < 2
        return None if is_short else Asked(_kind(part), (f"a:{part.upper()}", *name))
    if _is_acronym(part):
        return Asked(Kind.ACRONYM, (f"a:{part}", *name))
    if name and not is_first and _is_name(part):
        return Asked(Kind.NAME, name)
    return None


def _kind(part: str) -> Kind:
    return Kind.ACRONYM if _is_acronym(part) else Kind.NAME


def _code_keys(word: str) -> Iterator[str]:
    """Yield the keys of a passage's word with digits: the whole, and its numbers."""
    if number := _number(word):
        yield f"c:{number}"
        return
    for each in {word, *word.split("/")}:
        if HAS_DIGIT.search(each) and not each.isdigit():
            joint = "" if HAS_LATIN.search(each) else "-"
            yield f"c:{joint.join(SEPARATORS.split(each)).lower()}"
    for run in DIGIT_RUN.findall(word):
        if len(run) >= LEAST_DIGITS:
            yield f"c:{run}"


def _number(word: str) -> str:
    """Return a number without separators of thousands, its decimals after a point; else nothing.

    >>> [_number(word) for word in ("1,720", "1.720,5", "3,5", "1.2.3")]
    ['1720', '1720.5', '3.5', '']
    """
    if word.isdigit():
        return word
    if match := GROUPED.fullmatch(word):
        whole = "".join(DIGIT_RUN.findall(match[1]))
        return f"{whole}.{match[3]}" if match[3] else whole
    if match := DECIMAL.fullmatch(word):
        return f"{match[1]}.{match[2]}"
    return ""


def _is_acronym(part: str) -> bool:
    return len(part) >= 2 and part.isupper()


def _is_name(part: str) -> bool:
    return len(part) >= LEAST_NAME and part.lower() != part


def _plain(name: str) -> str:
    """Return a name without case and accents."""
    if name.isascii():
        return name.lower()
    return MARK.sub("", normalize("NFKD", name.casefold()))
