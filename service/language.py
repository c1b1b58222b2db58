"""Which language a query is in: a hint for labels and metrics, never a gate."""

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNDETERMINED = "und"
OTHER = "other"
NO_LANGUAGE = "zxx"
# Varieties that a short question is easily taken for instead of their standard language.
LEFT_OUT = {"ary", "arz", "ext", "gcf", "gcr", "grc", "hbo", "ltg", "sdh", "uzs", "vec", "wuu"}
# Enough to tell a language; a long text costs more and says no more.
MAX_CHARACTERS = 500


class LanguageDetector:
    """Detects one of about 140 languages."""

    def __init__(self) -> None:
        """Load the model (0.4 s)."""
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        self._labels = frozenset(self._identifier.nb_classes) - LEFT_OUT - {NO_LANGUAGE}
        self._identifier.set_languages(sorted(self._labels | {NO_LANGUAGE}))

    def detect(self, text: str) -> str:
        """Name a text's language (BCP 47), `und` where it has none."""
        if not any(character.isalpha() for character in text[:MAX_CHARACTERS]):
            return UNDETERMINED
        language = str(self._identifier.classify(text[:MAX_CHARACTERS])[0])
        return UNDETERMINED if language == NO_LANGUAGE else language

    def label(self, language: str) -> str:
        """Bound a language to a label of a metric: a known language, else `other`."""
        known = language in self._labels or language == UNDETERMINED
        return language if known else OTHER
