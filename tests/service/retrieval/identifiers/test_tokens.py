"""Identifiers in texts: which are found, and which ways to write them are one."""

import pytest

from service.retrieval.identifiers.tokens import Kind, asked_identifiers, fold, identifiers_of


def keys_of(text: str) -> set[str]:
    return set(identifiers_of(text))


def asked(question: str) -> list[tuple[Kind, tuple[str, ...]]]:
    return [(each.kind, each.keys) for each in asked_identifiers(question)]


@pytest.mark.parametrize(
    "written",
    [
        "AA-1720",
        "aa-1720",
        "AA1720",
        "AA 1720",
        "AA_1720",
        "AA\u20111720",
        "AA\u20131720",
        "AA-\u0661\u0667\u0662\u0660",  # Arabic-Indic
        "AA-\u06f1\u06f7\u06f2\u06f0",  # Persian
        "AA-\u0967\u096d\u0968\u0966",  # Devanagari
        "AA-\u09e7\u09ed\u09e8\u09e6",  # Bengali
        "\uff21\uff21\uff0d\uff11\uff17\uff12\uff10",  # full width
        "A\u00adA-17\u200e20",  # a soft hyphen, a mark of direction
    ],
)
def test_a_code_is_one_however_it_is_written(written: str) -> None:
    assert "c:aa1720" in keys_of(f"The order {written} left.")
    assert (Kind.CODE, ("c:aa1720",)) in asked(f"wo ist {written} ?")


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("订单AA-1720在哪里", "c:aa1720"),
        ("AA-1720-as rendelés hol van?", "c:aa1720"),
        ("AA-1720'nin durumu", "c:aa1720"),
        ("주문 AA-1720의 상태", "c:aa1720"),
        ("où est AA-1720?", "c:aa1720"),
        ("(AA-1720)", "c:aa1720"),
        ("die 1980er Jahre", "c:1980"),
        ("в 1980-х годах", "c:1980"),
        ("१९८०", "c:1980"),
    ],
)
def test_endings_and_other_scripts_do_not_hide_an_identifier(question: str, key: str) -> None:
    assert key in [key for _, keys in asked(question) for key in keys]


@pytest.mark.parametrize(
    ("number", "key"),
    [
        ("12,500", "c:12500"),
        ("12.500", "c:12500"),
        ("12'500", "c:12500"),
        ("12500", "c:12500"),
        ("1.234.567,5", "c:1234567.5"),
        ("1,234,567.5", "c:1234567.5"),
        ("3,5", "c:3.5"),
        ("3.5", "c:3.5"),
        ("\u0661\u0662\u066c\u0665\u0660\u0660", "c:12500"),
        ("2019/1023", "c:2019-1023"),
        ("2024-05-17", "c:2024-05-17"),
    ],
)
def test_a_number_is_one_whatever_separates_its_thousands(number: str, key: str) -> None:
    assert key in keys_of(f"It cost {number} pounds.")
    assert key in [key for _, keys in asked(f"was kostet {number}?") for key in keys]


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("Quel pays a 283 561 km² ?", "c:283561"),
        ("Quel pays a 283\u202f561 km² ?", "c:283561"),
        ("Площадь какой страны 283\u00a0561 км²?", "c:283561"),
        ("Какая гора имеет высоту 6 267 м?", "c:6267"),
        ("es kostet 1 234 567,5", "c:1234567.5"),
    ],
)
def test_spaces_may_separate_the_thousands_of_a_question(question: str, key: str) -> None:
    assert [keys for _, keys in asked(question) if keys[0][2].isdigit()] == [(key,)]


@pytest.mark.parametrize(
    "question", ["im Jahr 1998 120 Orte", "030 123 456", "99 1200", "1-99 200"]
)
def test_other_numbers_side_by_side_stay_apart(question: str) -> None:
    found = [key for _, keys in asked(question) for key in keys]
    assert not {"c:1998120", "c:998120", "c:030123456", "c:991200", "c:99200"} & {*found}


def test_short_numbers_are_no_identifiers() -> None:
    assert asked("was kosten 7 oder 24?") == []


def test_a_code_is_not_found_by_its_number_alone() -> None:
    assert {"c:aa1720", "c:1720"} <= keys_of("AA-1720")
    assert asked("wo ist BB-1720") == [(Kind.CODE, ("c:bb1720",))]
    assert asked("wo ist 1720") == [(Kind.NUMBER, ("c:1720",))]


def test_the_parts_of_a_range_are_numbers_and_those_of_a_regulation_are_not() -> None:
    years = [(Kind.NUMBER, ("c:1990",)), (Kind.NUMBER, ("c:1995",))]
    assert asked("von 1990\u20131995") == [(Kind.CODE, ("c:1990-1995",)), *years]
    assert asked("was sagt 2019/1023") == [(Kind.CODE, ("c:2019-1023",))]


def test_units_and_ordinals_are_numbers() -> None:
    assert asked("das 19th") == [(Kind.NUMBER, ("c:19th",))]
    assert asked("um 1980s") == [(Kind.NUMBER, ("c:1980s",)), (Kind.NUMBER, ("c:1980",))]


def test_acronyms_keep_their_case_in_latin_script() -> None:
    assert asked("wer leitet die WHO") == [(Kind.ACRONYM, ("a:WHO", "n:who"))]
    assert asked("who leads it") == []
    assert "a:WHO" not in keys_of("who leads it")
    assert "a:WHO" in keys_of("the WHO said")


def test_a_question_all_in_capitals_holds_codes_only() -> None:
    assert asked("WO IST AA-1720") == [(Kind.CODE, ("c:aa1720",))]


def test_in_another_script_every_latin_word_is_a_name_in_any_case() -> None:
    expected = (Kind.NAME, ("a:NASA", "n:nasa"))
    assert asked("nasa क्या है") == [expected]
    assert asked("кто такой Kenzaburo") == [(Kind.NAME, ("a:KENZABURO", "n:kenzaburo"))]
    assert {"a:NASA", "n:nasa"} <= keys_of("NASA was founded")


def test_letters_of_african_and_azerbaijani_spellings_are_latin() -> None:
    for question in ("gidan who \u0257an kasuwa us", "wie viele \u00b5g Vitamin who"):
        assert not any("WHO" in key for _, keys in asked(question) for key in keys)
    assert "n:m\u0259mm\u0259d" in keys_of("by M\u0259mm\u0259d")


def test_fractions_and_raised_digits_do_not_join_a_number() -> None:
    assert asked("a plank of 123\u00bd cm") == [(Kind.NUMBER, ("c:123",))]
    assert keys_of("x\u00b2y\u00b3") == set()


def test_in_latin_script_a_name_is_capitalized_within_a_sentence() -> None:
    assert asked("Quién es Bogotá") == [(Kind.NAME, ("n:bogota",))]
    assert asked("Hallo. Wie geht es") == []
    assert "n:bogota" in keys_of("in Bogota")


def test_a_text_is_folded_to_the_digits_and_hyphens_of_ascii() -> None:
    assert fold("plain AA-1720") == "plain AA-1720"
    assert fold("\uff11\u0662\u0969\u2212\u09ea") == "123-4"


def test_identifiers_are_reported_as_the_passage_writes_them() -> None:
    found = identifiers_of("Order AA 1720 cost 12,500 in 1990\u20131995.")
    assert found["c:aa1720"] == "AA 1720"
    assert found["c:12500"] == "12,500"
    assert found["c:1990"] == "1990-1995"


def test_an_endless_word_and_an_endless_question_are_not_read() -> None:
    assert identifiers_of("A1" * 40) == {}
    assert asked("x " * 1000 + "AA-1720") == []


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        ("wo liegt Nairobi", [("n:nairobi",)]),
        ("Nairobi liegt wo", []),  # the first word of a sentence
        ("wo denn? Nairobi oder Lagos", [("n:lagos",)]),
        ("im jahr 1988 Nairobi", [("c:1988",), ("n:nairobi",)]),
        ("nairobi \u7684\u9996\u90fd", [("a:NAIROBI", "n:nairobi")]),  # among another script
        ("nairobi \u1369", []),  # a numeral is no letter of another script
    ],
)
def test_names_are_read_by_script_and_place(question: str, keys: list[tuple[str, ...]]) -> None:
    assert [found for _, found in asked(question)] == keys
