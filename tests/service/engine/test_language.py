import pytest

from service.engine.language import LanguageDetector, QueryLanguage


@pytest.fixture(scope="module")
def detector() -> LanguageDetector:
    return LanguageDetector()


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sw", "Ni lugha zipi zinazozungumzwa nchini Tanzania?"),
        ("bn", "বাংলাদেশের প্রধান পরিবেশগত সমস্যাগুলো কী কী?"),
        ("ar", "أين يعيش معظم سكان مصر؟"),
        ("ja", "インドネシアには島がいくつありますか？"),
        ("de", "Woher hat Venezuela seinen Namen?"),
    ],
)
def test_a_question_is_detected(detector: LanguageDetector, language: str, text: str) -> None:
    assert detector.detect(text) == language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "population"),
        ("en", "capital of Kenya"),
        ("en", "natural resources"),
        ("en", "oil"),
        ("de", "Hauptstadt"),
        ("sw", "mji mkuu"),
    ],
)
def test_a_few_words_are_english_unless_they_speak_against_it(
    detector: LanguageDetector, language: str, text: str
) -> None:
    assert detector.detect(text) == language


@pytest.mark.parametrize("text", ["1234 5678", "1234", "?", "🌍", " "])
def test_a_text_without_letters_is_undetermined(detector: LanguageDetector, text: str) -> None:
    """`1234` was once detected as Afrikaans."""
    assert detector.detect(text) == "und"


def test_an_uncertain_detection_is_undetermined_where_certainty_is_asked_for(
    detector: LanguageDetector,
) -> None:
    assert detector.detect_certain("Mji mkuu wa Tanzania ni upi?") == "sw"
    [found], _ = detector.languages_of(["a b"], None)
    assert not found.is_certain and detector.detect_certain("a b") == "und"


def test_only_the_start_of_a_long_text_is_used(detector: LanguageDetector) -> None:
    head = "Woher hat Venezuela seinen Namen? " * 20

    assert detector.detect(head + "বাংলাদেশের প্রধান " * 2000) == detector.detect(head)


@pytest.mark.parametrize("language", ["sw", "und"])
def test_a_known_language_is_its_own_label(detector: LanguageDetector, language: str) -> None:
    assert detector.label(language) == language


@pytest.mark.parametrize("language", ["xx", "qqq", "zxx", ""])
def test_an_unknown_language_is_labelled_other(detector: LanguageDetector, language: str) -> None:
    assert detector.label(language) == "other"


def test_every_detected_language_is_canonical_bcp_47(detector: LanguageDetector) -> None:
    """CLDR replaces `tl` by `fil`; in BCP 47 both are valid, and data sets use `tl`."""
    langcodes = pytest.importorskip("langcodes")

    wrong = {
        label: langcodes.standardize_tag(label)
        for label in detector._labels
        if label != langcodes.standardize_tag(label) or not langcodes.tag_is_valid(label)
    }

    assert wrong == {"tl": "fil"}


@pytest.mark.parametrize(
    "text",
    [
        "Who was Kwame Nkrumah?",
        "Who is Yemi Osinbajo?",
        "When did Ngũgĩ wa Thiong'o die?",
        "Was Ogun state in Nigeria named after the Yoruba deity Ogun?",
    ],
)
def test_english_words_around_foreign_names_are_english(
    detector: LanguageDetector, text: str
) -> None:
    assert detector.detect(text) == "en"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Wann starb Wole Soyinka, und wo?"),
        ("sw", "Rais wa kwanza wa Ghana alikuwa Kwame Nkrumah?"),
        ("pcm", "Wetin be di capital of Nigeria?"),
    ],
)
def test_other_words_around_foreign_names_keep_their_language(
    detector: LanguageDetector, language: str, text: str
) -> None:
    assert detector.detect(text) == language


@pytest.mark.parametrize(
    ("text", "is_certain"),
    [
        ("Ni lugha zipi zinazozungumzwa nchini Tanzania?", True),
        ("Where does tea grow in the highlands?", True),
        ("tea", False),
        ("Москва", False),  # is Bulgarian, too
        ("1234", False),
    ],
)
def test_a_detection_is_certain_where_it_is_more_probable_than_all_others(
    detector: LanguageDetector, text: str, is_certain: bool
) -> None:
    [found], _ = detector.languages_of([text], None)

    assert found.is_certain is is_certain


def test_a_declared_language_is_certain(detector: LanguageDetector) -> None:
    assert detector.languages_of(["tea", "chai"], "sw-TZ") == (
        [QueryLanguage("sw-TZ", is_certain=True)] * 2,
        ["sw", "sw"],
    )


def test_a_text_that_comes_again_is_not_classified_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, classified = LanguageDetector(), list[str]()
    classify = detector._classify

    def count(text: str) -> tuple[str, float]:
        classified.append(text)
        return classify(text)

    monkeypatch.setattr(detector, "_classify", count)
    found = [detector.languages_of([text], None)[0] for text in ("Wo liegt Kiel?", "oil") * 2]
    assert found[:2] == found[2:]
    assert len(classified) == len(set(classified)) and {"Wo liegt Kiel?", "oil"} <= {*classified}


def test_no_text_is_kept_where_texts_are_not_to_be_remembered() -> None:
    detector = LanguageDetector(remembers=False)

    assert detector.detect("Wo liegt Kiel?") == "de"

    assert detector._detect.cache_info().currsize == 0
