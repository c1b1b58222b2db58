"""Which language a query is in: a hint for labels and metrics, never a gate."""

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNDETERMINED = "und"
OTHER = "other"
# Varieties that a short question is easily taken for, and what it is in all likelihood.
STANDARD = {
    "ary": "ar",
    "arz": "ar",
    "ext": "es",
    "grc": "el",
    "hbo": "he",
    "lij": "it",
    "ltg": "lv",
    "sdh": "ku",
    "uzs": "uz",
    "vec": "it",
    "wuu": "zh",
    "zxx": UNDETERMINED,
}
# Enough to tell a language; a long text costs more and says no more.
MAX_CHARACTERS = 500


class LanguageDetector:
    """Detects one of about 140 languages."""

    def __init__(self) -> None:
        """Load the model (0.4 s)."""
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        self._labels = {STANDARD.get(name, name) for name in map(str, self._identifier.nb_classes)}

    def detect(self, text: str) -> str:
        """Name a text's language (BCP 47), `und` where it has none."""
        if not any(character.isalpha() for character in text[:MAX_CHARACTERS]):
            return UNDETERMINED
        language = str(self._identifier.classify(text[:MAX_CHARACTERS])[0])
        return STANDARD.get(language, language)

    def label(self, language: str) -> str:
        """Bound a language to a label of a metric: a known language, else `other`."""
        return language if language in self._labels else OTHER
