import unicodedata

from service.retrieval.encoder.reference.texts import SENTENCES, reference_texts, texts_digest


def test_there_are_32_texts_in_16_scripts_a_short_and_a_long_one_in_each() -> None:
    texts = reference_texts()

    assert len(texts) == len({text for _, text in texts}) == 32
    assert len(SENTENCES) == 16
    for (script, short), (same, long) in zip(texts[::2], texts[1::2], strict=True):
        assert script == same
        assert len(short) < 80
        assert len(long) > 400


def test_each_text_is_of_its_script_and_normalized() -> None:
    names = {"Hangul": "HANGUL", "Han": "CJK", "Kana": "HIRAGANA"}

    for script, text in reference_texts():
        letters = [letter for letter in text if letter.isalpha()]
        kinds = [unicodedata.name(letter).split()[0] for letter in letters]
        assert kinds.count(names.get(script, script.upper())) > 0.8 * len(letters)
        assert unicodedata.is_normalized("NFC", text)
        assert "<" not in text


def test_the_digest_is_of_these_texts() -> None:
    """Change it together with the texts: stored embeddings of the former ones no longer fit."""
    assert texts_digest()[:16] == "65bf8c81c0b2782c"
