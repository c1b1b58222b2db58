"""Preparation of texts, checked against sentencepiece's own normalizer `nmt_nfkc`."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from unicodedata import category, normalize

import pytest
from sentencepiece import SentencePieceNormalizer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from service.retrieval.checkpoint.bundled_files import _tokenizer
from service.retrieval.text import TextPreparation, is_blank

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CHARACTERS = [chr(point) for point in range(0x11_0000) if not 0xD800 <= point < 0xE000]
MARKS = [each for each in CHARACTERS if category(each)[0] == "M"]
JOINED = ["\u200c", "\u200d", "\uff9e", "\uff9f", "\u0e33", "\u0eb3"]
CHUNK = 8192


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The bundled encoder's tokenizer with the vocabulary of letters alone."""
    letters = sorted({*map(chr, range(0x21, 0x7F)), "\u2581"})
    vocabulary = [(token, 0.0) for token in SPECIAL[:4]]
    vocabulary += [(letter, -10.0) for letter in letters] + [("<mask>", 0.0)]
    return Tokenizer.from_str(json.dumps(_tokenizer(vocabulary)))


@pytest.fixture(scope="module")
def prepare(tokenizer: Tokenizer) -> TextPreparation:
    return TextPreparation(tokenizer)


class Reference:
    """Sentencepiece's normalizer, composed; it joins and strips spaces elsewhere."""

    def __init__(self) -> None:
        self._normalizer = SentencePieceNormalizer(rule_name="nmt_nfkc")

    def __call__(self, text: str) -> str:
        found = self._normalizer.normalize(normalize("NFC", text)).replace("\u2581", " ")
        return normalize("NFC", re.sub(" +", " ", found).strip(" "))


def chunks(texts: Iterable[str]) -> Iterator[str]:
    """Join texts, so that a normalizer is called thousands of times less."""
    listed = list(texts)
    for start in range(0, len(listed), CHUNK):
        yield "|".join(["", *listed[start : start + CHUNK], ""])


def assert_read_as_in_sentencepiece(
    texts: Iterable[str], tokenizer: Tokenizer, prepare: TextPreparation
) -> None:
    """Check that each text is read as sentencepiece reads it, and as one text with its result."""
    reference = Reference()
    for chunk in chunks(texts):
        expected = reference(chunk)
        for form in (chunk, expected):
            read = tokenizer.normalizer.normalize_str(prepare(form))
            if read != expected:
                pairs = zip(read.split("|"), expected.split("|"), strict=False)
                pytest.fail(f"read and expected: {[each for each in pairs if len(set(each)) == 2]}")


@pytest.mark.slow
def test_every_code_point_is_read_as_in_sentencepiece(
    tokenizer: Tokenizer, prepare: TextPreparation
) -> None:
    assert_read_as_in_sentencepiece((f"a{each}b" for each in CHARACTERS), tokenizer, prepare)


@pytest.mark.slow
def test_every_pair_that_composes_is_read_as_in_sentencepiece(
    tokenizer: Tokenizer, prepare: TextPreparation
) -> None:
    """Starters are all characters whose form ends with one that composes with a mark."""
    parts = [unicodedata.decomposition(each).split() for each in CHARACTERS]
    canonical = [part for part in parts if len(part) == 2 and not part[0].startswith("<")]
    firsts = {chr(int(first, 16)) for first, _ in canonical}
    seconds = {chr(int(second, 16)) for _, second in canonical}
    hangul = set(map(chr, range(0x1100, 0x1113))) | set(map(chr, range(0xAC00, 0xD7A4, 28)))
    vowels = set(map(chr, [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))
    starters = [
        each
        for each in CHARACTERS
        if {normalize(form, each)[-1] for form in ("NFKC", "NFKD")} & (firsts | hangul)
    ]
    marks = [each for each in CHARACTERS if normalize("NFKD", each)[0] in seconds or each in vowels]
    assert len(starters) * len(marks) > 300_000

    pairs = (starter + mark for starter in starters for mark in marks)
    assert_read_as_in_sentencepiece(pairs, tokenizer, prepare)


@pytest.mark.parametrize("starter", "ª½ﬁ①ｶￜ㍿𝒜ϰ\u00b4\u00a0")
def test_a_character_that_is_replaced_keeps_every_mark(
    tokenizer: Tokenizer, prepare: TextPreparation, starter: str
) -> None:
    """The library's `Precompiled` drops a mark of a short cluster: "½̸" became "1/2"."""
    pairs = (f"x{starter}{mark}" for mark in [*MARKS, *JOINED])
    assert_read_as_in_sentencepiece(pairs, tokenizer, prepare)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ｶﾞｰﾅの首都", "ガーナの首都"),
        ("ﾊﾟﾝ", "パン"),
        ("ª\u0308\u0301", "ä\u0301"),
        ("각", "각"),
        ("ﾡￂ", "가"),
    ],
)
def test_texts_that_the_normalizer_makes_equivalent_are_one_text(
    tokenizer: Tokenizer, prepare: TextPreparation, text: str, same: str
) -> None:
    texts = [normalize(form, each) for form in ("NFC", "NFD") for each in (text, same)]

    read = {tokenizer.normalizer.normalize_str(prepare(each)) for each in texts}

    assert read == {normalize("NFC", same)}


def test_a_text_that_is_read_right_is_only_composed(prepare: TextPreparation) -> None:
    """So embeddings of former versions stay valid, and updates reuse them."""
    for text in ("Nairobi  is…", "Ｗｉｄｅ ½ ﬁ", "أَيْنَ", "एक महिला को", "\ttea\n"):
        assert prepare(normalize("NFD", text)) == normalize("NFC", text)


@pytest.mark.parametrize("token", [*SPECIAL, "＜s＞", "<\u200d/s>", "﹤pad﹥", "<<s>s>", "<s><s>"])
def test_the_name_of_a_special_token_is_letters(
    tokenizer: Tokenizer, prepare: TextPreparation, token: str
) -> None:
    control = {tokenizer.token_to_id(each) for each in SPECIAL} - {tokenizer.token_to_id("<unk>")}

    for text in (token, f"a {token} b", f"a{token}", token * 3):
        token_ids = tokenizer.encode(prepare(text)).ids
        assert (token_ids[0], token_ids[-1]) == (0, 2)
        assert not control & set(token_ids[1:-1])


def test_other_tokenizers_read_special_tokens_as_letters_too() -> None:
    """A tokenizer that lower-cases names its tokens so, too; other added tokens stay words."""
    words = ["[UNK]", "[CLS]", "[", "]", "cls", "tea", "[cup]", "q:"]
    tokenizer = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken("[CLS]", normalized=True)])
    tokenizer.add_tokens(["[cup]"])
    prepare = TextPreparation(tokenizer)

    for text in ("[CLS] tea", "[cls] TEA"):
        assert tokenizer.encode(prepare(text)).tokens == ["[", "cls", "]", "tea"]
    assert tokenizer.encode(prepare("[cup]")).tokens == ["[cup]"]
    control = tokenizer.token_to_id("[CLS]")
    assert tokenizer.encode("[CLS]" + prepare("tea")).ids[0] == control  # as in a prompt


BLANK = ["", " \t\n", "\u200b", "\u00ad\u00ad", "\x01\x1f\x7f\x85", "\u2060\ufeff", "\u3164",
         "\ufe0f", "\u202e\u202c", "\U000e0001", "\u2800", "\u3000"]  # fmt: skip


@pytest.mark.parametrize("text", BLANK)
def test_a_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text + " ")
    assert not is_blank(text + ".")


@pytest.mark.parametrize(
    "text", ["\u0301", "\u0600", "\ufffd", "\u0378", "\ue000", "。", "👩\u200d"]
)
def test_a_text_with_a_visible_or_unknown_character_is_not_blank(text: str) -> None:
    assert not is_blank(text)
