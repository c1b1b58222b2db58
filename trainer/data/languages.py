"""Language codes in BCP 47's shortest form, from `hau`, `arb_Arab` and `zho-CN`; their names."""

from functools import cache, lru_cache

from langcodes import Language, standardize_tag, tag_is_valid
from langcodes.tag_parser import LanguageTagError

from trainer.errors import DataError

ENGLISH = "en"
SHORT_CODE = 2
# FLORES's codes of languages whose usual writing CLDR names otherwise or does not name.
USUAL = {"ko-Hang": "ko", "pbt-Arab": "ps"}
# CLDR's names of the languages of evaluation sets and of multilingual encoders.
_NAMES = """
af Afrikaans|ak Akan|am Amharic|ar Arabic|as Assamese|ast Asturian|ay Aymara|az Azerbaijani
ba Bashkir|be Belarusian|bem Bemba|bg Bulgarian|bho Bhojpuri|bm Bambara|bn Bangla|bo Tibetan
br Breton|bs Bosnian|ca Catalan|ceb Cebuano|ckb Central Kurdish|cs Czech|cy Welsh|da Danish
de German|dv Divehi|dz Dzongkha|ee Ewe|el Greek|en English|eo Esperanto|es Spanish|et Estonian
eu Basque|fa Persian|ff Fula|fi Finnish|fil Filipino|fj Fijian|fo Faroese|fon Fon|fr French
fy Western Frisian|ga Irish|gd Scottish Gaelic|gl Galician|gn Guarani|gu Gujarati|ha Hausa
he Hebrew|hi Hindi|hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian|id Indonesian|ig Igbo
ilo Iloko|is Icelandic|it Italian|ja Japanese|jv Javanese|ka Georgian|kab Kabyle|kg Kongo
ki Kikuyu|kk Kazakh|km Khmer|kn Kannada|ko Korean|ks Kashmiri|ku Kurdish|ky Kyrgyz|la Latin
lb Luxembourgish|lg Ganda|ln Lingala|lo Lao|lt Lithuanian|lua Luba-Lulua|luo Luo|lus Mizo
lv Latvian|mai Maithili|mg Malagasy|mi Māori|min Minangkabau|mk Macedonian|ml Malayalam
mn Mongolian|mni Manipuri|mos Mossi|mr Marathi|ms Malay|mt Maltese|my Burmese|nb Norwegian Bokmål
ne Nepali|nl Dutch|nn Norwegian Nynorsk|no Norwegian|nso Northern Sotho|ny Nyanja|oc Occitan
om Oromo|or Odia|pa Punjabi|pl Polish|ps Pashto|pt Portuguese|qu Quechua|rn Rundi|ro Romanian
ru Russian|rw Kinyarwanda|sa Sanskrit|sat Santali|sd Sindhi|sg Sango|si Sinhala|sk Slovak
sl Slovenian|sm Samoan|sn Shona|so Somali|sq Albanian|sr Serbian|ss Swati|st Southern Sotho
su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|ti Tigrinya|tk Turkmen
tn Tswana|tpi Tok Pisin|tr Turkish|ts Tsonga|tt Tatar|tum Tumbuka|tw Twi|ug Uyghur|uk Ukrainian
ur Urdu|uz Uzbek|vi Vietnamese|war Waray|wo Wolof|xh Xhosa|yi Yiddish|yo Yoruba|zh Chinese|zu Zulu
"""


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


def in_words(code: str) -> str:
    """Return a language's name with its code; the code alone if the name is not known.

    >>> in_words("sw"), in_words("zh-Hant"), in_words("kea"), in_words("macro mean")
    ('Swahili (sw)', 'Chinese (zh-Hant)', 'kea', 'macro mean')
    """
    name = _names().get(code.split("-")[0])
    return f"{name} ({code})" if name else code


@cache
def _names() -> dict[str, str]:
    return dict(entry.split(" ", 1) for entry in _NAMES.replace("\n", "|").split("|") if entry)


def _shortest(language: Language) -> str:
    """Drop the script and the territory that are CLDR's defaults for the language."""
    full = language.maximize()
    for parts in ({}, {"script": language.script}, {"territory": language.territory}):
        shorter = Language.make(language=language.language, **parts)
        if shorter.maximize() == full:
            return str(shorter)
    return str(language)
