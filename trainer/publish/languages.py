"""Reads `languages.json`, the quality by language that `clear-trainer evaluate` writes."""

from pathlib import Path

from pydantic import RootModel

from service.retrieval.errors import ArtifactError
from service.retrieval.language_quality import LanguageRecord
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import parse_document
from trainer.data.languages import canonical_language
from trainer.errors import DataError

FIX = "name the languages.json of `clear-trainer evaluate --output`"


def read_languages(path: Path) -> LanguageRecord:
    """Read the quality by language; codes become BCP 47's shortest form.

    Args:
        path: of a JSON object, `{"sw": {"questions": 0.7, "statements": 0.9, "n": 100}}`.

    Raises:
        DataError: naming the file, the field that is wrong, and how to fix it.
    """
    try:
        content = read_json_object(path, ArtifactError)
        record = parse_document(RootModel[LanguageRecord], content, path, ArtifactError, FIX).root
    except ArtifactError as error:
        raise DataError(str(error)) from None
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
