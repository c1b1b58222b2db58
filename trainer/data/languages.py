"""Language codes: `hau`, `arb_Arab` and `zho-CN` of data sets become BCP 47's shortest form."""

from functools import lru_cache

from langcodes import Language, standardize_tag, tag_is_valid
from langcodes.tag_parser import LanguageTagError

from trainer.errors import DataError

ENGLISH = "en"
SHORT_CODE = 2
# FLORES's codes of languages whose usual writing CLDR names otherwise or does not name.
USUAL = {"ko-Hang": "ko", "pbt-Arab": "ps"}


@lru_cache(maxsize=1024)  # a file repeats few codes in many rows
def canonical_language(code: str) -> str:
    """Return a language code in the shortest form of BCP 47.

    Raises:
        ValueError: no such language is registered.

    >>> [canonical_language(code) for code in ("hau", "arb_Arab", "zho-CN", "zho_Hant")]
    ['ha', 'ar', 'zh', 'zh-Hant']
    """
    try:
        is_known = tag_is_valid(code) and code.lower() != "und"
    except LanguageTagError:
        is_known = False
    if not is_known:
        raise ValueError(
            f"{code[:35]!r} is not a language of BCP 47 or ISO 639: write `sw`, `swa` or `zh-Hant`"
        )
    tag = standardize_tag(code)
    if len(Language.get(tag).language or "") > SHORT_CODE:
        tag = standardize_tag(tag, macro=True)  # Standard Arabic is Arabic
    shortest = _shortest(Language.get(tag))
    return USUAL.get(shortest, shortest)


def known_language(code: str) -> str:
    """Return the value of `--language` in the shortest form of BCP 47.

    Raises:
        DataError: no such language is registered.
    """
    try:
        return canonical_language(code)
    except ValueError as error:
        raise DataError(f"--language: {error}") from None


def _shortest(language: Language) -> str:
    """Drop the script and the territory that are CLDR's defaults for the language."""
    full = language.maximize()
    for parts in ({}, {"script": language.script}, {"territory": language.territory}):
        shorter = Language.make(language=language.language, **parts)
        if shorter.maximize() == full:
            return str(shorter)
    return str(language)
