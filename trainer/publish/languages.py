"""Reads `languages.json`, the quality by language that `clear-trainer evaluate` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pydantic import RootModel

from service.retrieval.errors import ArtifactError
from service.retrieval.language_quality import LanguageQuality, LanguageRecord, QueryKind
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.json_lines import parse_json
from service.retrieval.storage.schema import parse_document
from trainer.data.languages import canonical_language
from trainer.errors import DataError

FIX = "name the languages.json of `clear-trainer evaluate --output`"


class LanguagesError(ArtifactError):
    """A record of languages cannot be read."""

    how_to_restore = FIX


def read_languages(paths: Sequence[Path]) -> LanguageRecord:
    """Read the quality by language; codes become BCP 47's shortest form.

    Args:
        paths: of JSON objects, `{"sw": {"questions": 0.7, "statements": 0.9, "n": 100}}`. A later
            file adds the languages and the kinds of queries that the earlier ones lack.

    Raises:
        DataError: naming the file, the field that is wrong, and how to fix it.
    """
    joined: LanguageRecord = {}
    for path in paths:
        for language, quality in _read_record(path).items():
            joined[language] = _filled(joined.get(language), quality)
    return joined


def _filled(known: LanguageQuality | None, other: LanguageQuality) -> LanguageQuality:
    if known is None:
        return other
    added = {
        kind: getattr(other, kind)
        for kind in get_args(QueryKind)
        if getattr(known, kind) is None and getattr(other, kind) is not None
    }
    return known.model_copy(update={**added, "n": known.n + other.n}) if added else known


def _read_record(path: Path) -> LanguageRecord:
    try:
        read_json_object(path, LanguagesError)
        content = parse_json(path.read_text(encoding="utf-8"))  # refuses a key twice, too
        record = parse_document(RootModel[LanguageRecord], content, path, LanguagesError, FIX).root
    except LanguagesError as error:
        raise DataError(str(error)) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not record:
        raise DataError(f"{path} names no language: {FIX}")
    found: LanguageRecord = {}
    for code, quality in record.items():
        try:
            language = canonical_language(code)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        if language in found:
            raise DataError(f"{path}: `{code}` is the language {language} once more: keep one")
        found[language] = quality
    return found
