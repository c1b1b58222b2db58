"""The tokenizer is held to the library's on texts of all planes, unknown characters included."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from service.retrieval.encoder import unigram
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.unigram import UnigramTokenizer, is_supported, read_unigram
from service.retrieval.text import TextPreparation
from tests.bench.soak_traffic import some_text
from tests.support.layouts import Folder

Content = dict[str, Any]
LETTERS = "▁abcdeteaMji столица首都राज"
TEXTS = ["", " ", "a", "<s>", "</s> a <mask>", "首" * 40, "a☃☃b☃", "ab " * 90, "é e\u0301 x\x00"]


def random_pieces(count: int) -> list[list[Any]]:
    """Scores repeat, so that sums tie."""
    rng = random.Random(4)
    pieces = {"".join(rng.choices(LETTERS, k=rng.randint(1, 5))): 0 for _ in range(count)}
    return [[piece, -rng.randint(1, 8) / 2] for piece in pieces if not piece.isspace()]


def content_of() -> Content:
    """Return the content of a `tokenizer.json` like XLM-R's."""
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    part = {"Sequence": {"id": "A", "type_id": 0}}
    before, after = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>"))
    ids = {name: {"id": name, "ids": [names.index(name)], "tokens": [name]} for name in names}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": name, "special": True} | special
            for number, name in enumerate(names)
        ],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [before, part, after],
            "pair": [before, part, {"Sequence": {"id": "B", "type_id": 0}}, after],
            "special_tokens": ids,
        },
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [*([name, 0.0] for name in names), *random_pieces(400)],
        },
    }


def both(max_tokens: int) -> tuple[Tokenizer, UnigramTokenizer]:
    library, ours = Tokenizer.from_str(json.dumps(content_of())), UnigramTokenizer(content_of())
    library.enable_truncation(max_tokens)
    ours.enable_truncation(max_tokens)
    return library, ours


@pytest.mark.parametrize("max_tokens", [8, 512])
def test_ids_and_what_is_cut_off_are_the_librarys(max_tokens: int) -> None:
    library, ours = both(max_tokens)
    rng = random.Random(1)
    texts = [
        TextPreparation(library)(text) for text in (*TEXTS, *(some_text(rng) for _ in [0] * 300))
    ]

    expected, found = library.encode_batch(texts), ours.encode_batch_fast(texts)

    assert [each.ids for each in found] == [each.ids for each in expected]
    assert [sum(len(more.ids) - 2 for more in each.overflowing) for each in found] == [
        sum(len(more.ids) - 2 for more in each.overflowing) for each in expected
    ]
    assert any(3 in each.ids for each in found)  # unknown characters were among them


def test_texts_are_prepared_as_for_the_library() -> None:
    library, ours = both(64)

    assert [TextPreparation(ours)(text) for text in TEXTS] == [
        TextPreparation(library)(text) for text in TEXTS
    ]


def test_tokens_and_sizes_are_the_librarys() -> None:
    library, ours = both(64)
    theirs = library.get_added_tokens_decoder()

    assert {number: token.content for number, token in ours.get_added_tokens_decoder().items()} == {
        number: token.content for number, token in theirs.items()
    }
    size = library.get_vocab_size(with_added_tokens=False)
    assert ours.get_vocab_size(with_added_tokens=False) == size
    assert [ours.id_to_token(each) for each in range(size + 1)] == [
        library.id_to_token(each) for each in range(size + 1)
    ]
    assert ours.num_special_tokens_to_add(is_pair=False) == 2


def test_half_a_surrogate_pair_is_refused_as_by_the_library() -> None:
    library, ours = both(64)
    kinds = (UnicodeEncodeError, TypeError)

    for each in (library, ours):
        with pytest.raises(kinds):
            each.encode("tea \ud800")


def left(content: Content) -> None:
    content["truncation"] = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst"}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"].update(byte_fallback=True),
        lambda content: content["model"].update(type="BPE"),
        lambda content: content["model"].update(unk_id=None),
        lambda content: content["model"].update(alpha=0.1),
        lambda content: content["model"]["vocab"].append(["a\0b", 0.0]),
        lambda content: content["model"]["vocab"].append(["", 0.0]),
        lambda content: content["added_tokens"][0].update(special=False),
        lambda content: content["post_processor"]["single"][0]["SpecialToken"].update(type_id=1),
        lambda content: content["post_processor"].update(type="RobertaProcessing"),
        lambda content: content.update(pre_tokenizer=None),
        left,
    ],
)
def test_the_library_reads_what_is_tokenized_otherwise(change: Callable[[Content], object]) -> None:
    content = content_of()
    assert is_supported(content, ["query: "])
    change(content)
    assert not is_supported(content, ["query: "])


def test_the_library_reads_a_tokenizer_whose_prompt_may_hold_a_special_token() -> None:
    assert not is_supported(content_of(), ["query: ", "a <"])


def test_a_small_or_damaged_file_is_left_to_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content_of()))
    assert read_unigram(path, []) is None
    monkeypatch.setattr(unigram, "MIN_FILE_BYTES", 0)
    assert read_unigram(path, []) is not None
    path.write_text("{")
    assert read_unigram(path, []) is None


def test_an_encoder_with_a_large_tokenizer_tokenizes_as_with_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder()(tmp_path / "encoder")
    num_rows = json.loads(next(folder.rglob("config.json")).read_text())["vocab_size"]
    content = content_of()
    del content["model"]["vocab"][num_rows:]
    next(folder.rglob("tokenizer.json")).write_text(json.dumps(content))
    expected = load_encoder(str(folder), cache=tmp_path, device="cpu").tokenize(TEXTS, "passage")
    monkeypatch.setattr(unigram, "MIN_FILE_BYTES", 0)

    encoder = load_encoder(str(folder), cache=tmp_path, device="cpu")

    assert isinstance(encoder.tokenizer, UnigramTokenizer)
    assert encoder.tokenize(TEXTS, "passage") == expected
    assert any(text.is_truncated for text in expected)
