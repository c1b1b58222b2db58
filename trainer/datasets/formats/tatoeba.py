"""LASER's Tatoeba pairs: short sentences in 112 languages, each language with its own English.

Files are `tatoeba.<language>-eng.<language>` and `tatoeba.<language>-eng.eng`, aligned by line.
Some files mix two scripts: a sentence in another than the language's usual script has it in its
language code.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.data.languages import canonical_language
from trainer.datasets.decontamination import letters_hash
from trainer.datasets.formats.lines import held_out_documents, read_lines
from trainer.datasets.formats.sentence_pairs import SentencePair, pair_evaluation, pair_rows
from trainer.datasets.imported import ImportedDataset
from trainer.datasets.source_files import expect_files
from trainer.errors import DataError

FILE = re.compile(r"tatoeba\.(?P<code>\w+)-eng\.(?P<side>\w+)")
ENGLISH_SIDE = "eng"
ID_CHARACTERS = 16
# The languages of the files that are written in two scripts, and these scripts by the first word of
# a letter's name in Unicode.
TWO_SCRIPTS = frozenset({"az", "be", "bs", "ku", "kk", "mn", "sr", "tk", "tt", "uz"})
SCRIPTS = {"LATIN": "Latn", "CYRILLIC": "Cyrl", "ARABIC": "Arab"}


def import_tatoeba(
    directory: Path,
    *,
    languages: Sequence[str] = (),
    held_out_share: float = 1 / 5,
    seed: int = 0,
) -> ImportedDataset:
    """Make rows of most English sentences and an evaluation set of the others.

    An English sentence is held out in all languages or in none.

    Args:
        directory: of the files.
        languages: to import; all by default.
        held_out_share: of the distinct English sentences, for evaluation.
        seed: selects them.

    Raises:
        DataError: there is no such file, one of a pair is missing or not UTF-8, or the two have
            different numbers of lines.
    """
    files = _files(directory, languages)
    expect_files(path for pair in files for path in pair)
    skipped: Counter[str] = Counter()
    pairs = [
        pair
        for (translated, english), language in files.items()
        for pair in _pairs(translated, english, language, skipped)
    ]
    held_out = held_out_documents([pair.document for pair in pairs], held_out_share, seed)
    return ImportedDataset(
        name="tatoeba",
        licence="CC BY 2.0 FR",
        url="https://github.com/facebookresearch/LASER",
        files=tuple(path for pair in files for path in pair),
        rows=pair_rows(pairs, held_out),
        evaluation=pair_evaluation(pairs, held_out),
        skipped=skipped,
        notes=(
            f"{len(held_out)} of {len({pair.document for pair in pairs})} English sentences held "
            f"out (seed {seed}): they are the corpus, their translations the queries",
        ),
    )


def _files(directory: Path, languages: Sequence[str]) -> Mapping[tuple[Path, Path], str]:
    found = {}
    for path in sorted(directory.rglob("tatoeba.*-eng.*")):
        match = FILE.fullmatch(path.name)
        if not match or match["side"] == ENGLISH_SIDE:
            continue
        english = path.with_suffix(f".{ENGLISH_SIDE}")
        if match["side"] != match["code"] or not english.is_file():
            raise DataError(f"{path} has no {english.name} beside it: take both from one release")
        try:
            language = canonical_language(match["code"])
        except ValueError as error:
            raise DataError(f"{path} has an unknown language in its name: {error}") from None
        if not languages or language in languages:
            found[path, english] = language
    if not found:
        raise DataError(
            f"{directory} holds no tatoeba.<language>-eng.<language>"
            f"{' of ' + ', '.join(languages) if languages else ''}: name the folder of the pairs"
        )
    return found


def _pairs(
    translated: Path, english: Path, language: str, skipped: Counter[str]
) -> Iterator[SentencePair]:
    texts, translations = read_lines(english), read_lines(translated)
    if len(texts) != len(translations):
        raise DataError(
            f"{translated} has {len(translations)} lines, {english.name} has {len(texts)}: "
            "take both from one release"
        )
    for text, translation in zip(texts, translations, strict=True):
        if not text or not translation:
            skipped["no translation" if text else "no English"] += 1
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]
        yield SentencePair(
            f"tatoeba.{digest}",
            text,
            translation,
            with_script(language, translation),
            letters_hash(text),
        )


def with_script(language: str, text: str) -> str:
    """Add the script of a text to its language if the language is usually written in another.

    >>> with_script("sr", "Ona radi sama."), with_script("sr", "Она ради сама.")
    ('sr-Latn', 'sr')
    """
    if language not in TWO_SCRIPTS:
        return language
    names = (unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    counts = Counter(SCRIPTS[name] for name in names if name in SCRIPTS)
    return canonical_language(f"{language}-{counts.most_common(1)[0][0]}") if counts else language
