import json
import re
from pathlib import Path

import pytest

from service.retrieval.language_quality import LanguageQuality
from trainer.errors import DataError
from trainer.publish.languages import read_languages


def test_a_record_is_read_with_the_shortest_codes(tmp_path: Path) -> None:
    path = tmp_path / "languages.json"
    path.write_text('{"swa": {"questions": 1, "n": 2}, "zho_Hant": {"statements": 0.5, "n": 3}}')

    assert read_languages([path]) == {
        "sw": LanguageQuality(questions=1.0, n=2),
        "zh-Hant": LanguageQuality(statements=0.5, n=3),
    }


def test_a_further_file_adds_languages_and_kinds_that_are_missing(tmp_path: Path) -> None:
    paths = [tmp_path / "flores.json", tmp_path / "news.json", tmp_path / "questions.json"]
    paths[0].write_text('{"sw": {"statements": 0.9, "n": 800}}')
    paths[1].write_text('{"swa": {"statements": 0.5, "n": 4}, "fr": {"statements": 1, "n": 600}}')
    paths[2].write_text('{"sw": {"questions": 0.7, "statements": 0.1, "n": 100}}')

    assert read_languages(paths) == {
        "sw": LanguageQuality(questions=0.7, statements=0.9, n=900),
        "fr": LanguageQuality(statements=1.0, n=600),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a JSON object"),
        ({}, "names no language"),
        ({"sw": 0.5}, "`sw` is not an object"),
        ({"sw": {"questions": 1.5, "n": 1}}, "`sw.questions` must be less than or equal to 1"),
        ({"sw": {"question": 0.5, "n": 1}}, "`sw` has neither `questions` nor `statements`"),
        ({"sw": {"questions": 0.5}}, "`sw.n` is missing"),
        ({"klingonese": {"questions": 0.5, "n": 1}}, "'klingonese' is not a language of BCP 47"),
        (
            {"sw": {"questions": 0.5, "n": 1}, "swa": {"questions": 0.5, "n": 1}},
            "`swa` is the language sw once more: keep one",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(
    tmp_path: Path, content: object, message: str
) -> None:
    path = tmp_path / "languages.json"
    path.write_text(json.dumps(content))

    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_languages([path])

    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.json"):
        read_languages([tmp_path / "none.json"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: name the languages.json of `clear-trainer evaluate --output`"),
        ("{", "is not valid JSON: name the languages.json of `clear-trainer evaluate --output`"),
        (
            '{"sw": {"questions": 0.5, "n": 1}, "sw": {"questions": 0.7, "n": 1}}',
            "an object has the key 'sw' twice: remove one",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_to_name_instead(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "languages.json"
    if content:
        path.write_text(content)

    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_languages([path])

    assert str(path) in str(caught.value)
