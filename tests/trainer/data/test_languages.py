import pytest

from trainer.data.languages import canonical_language


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "en"),
        ("eng", "en"),
        ("eng-US", "en"),
        ("twi", "tw"),
        ("swh_Latn", "sw"),
        ("arb", "ar"),
        ("arb_Latn", "ar-Latn"),
        ("zho_Hans", "zh"),
        ("zho-TW", "zh-TW"),
        ("bem", "bem"),
        ("kor_Hang", "ko"),
        ("pbt_Arab", "ps"),
        ("prs_Arab", "fa-AF"),
        ("knc_Arab", "kr-Arab"),
        ("srp-Latn", "sr-Latn"),
    ],
)
def test_a_code_is_returned_in_its_shortest_form(code: str, expected: str) -> None:
    assert canonical_language(code) == expected
    assert canonical_language(expected) == expected


@pytest.mark.parametrize("code", ["", "xx", "klingon", "und", "e", "English", "a" * 500])
def test_an_unknown_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="is not a language"):
        canonical_language(code)
