import random
import time

from service.changes import ledger as ledger_module
from service.changes.journal import Record
from service.changes.ledger import Accepted, Ledger, Result, applied_record
from service.retrieval.corpus.reader import Passage


def accepted(number: int, *put: str, delete: tuple[str, ...] = ()) -> Record:
    passages = [Passage(each, f"text {each}", metadata={"n": 1}) for each in put]
    return Accepted(number, 1.0, passages, delete).as_record()


def played(*records: Record) -> Ledger:
    ledger = Ledger()
    for record in records:
        ledger.play(record)
    return ledger


def test_a_change_waits_until_it_is_applied_or_refused() -> None:
    ledger = played(accepted(1, "a"), accepted(2, "b"), accepted(3, "c"))

    assert [ledger.result_of(number) for number in (1, 2, 3)] == [Result("waiting")] * 3

    ledger.play({"applied": [1, 3], "generation": "g"})
    ledger.play({"refused": 2, "reason": "why"})

    assert ledger.result_of(1) == ledger.result_of(3) == Result("applied", "g")
    assert ledger.result_of(2) == Result("refused", reason="why")
    assert ledger.result_of(4) is None
    assert (ledger.waiting, ledger.num_waiting_documents, ledger.next_number) == ({}, 0, 4)


def test_an_applied_change_keeps_why_its_generation_is_not_served() -> None:
    ledger = played(accepted(1, "a"), applied_record([1], "g", "why"))

    assert ledger.result_of(1) == Result("applied", "g", "why")
    assert played(*ledger.records()).result_of(1) == Result("applied", "g", "why")
    assert applied_record([1], "g") == {"applied": [1], "generation": "g"}


def test_a_documents_last_waiting_change_is_known() -> None:
    ledger = played(accepted(1, "a", "b"), accepted(2, delete=("a",)))

    assert ledger.waiting_change_of("a") == (2, True)
    assert ledger.waiting_change_of("b") == (1, False)

    ledger.play({"applied": [1], "generation": "g"})

    assert ledger.waiting_change_of("a") == (2, True)
    assert ledger.waiting_change_of("b") is None


def test_a_batch_holds_the_oldest_changes_and_one_at_the_least() -> None:
    ledger = played(accepted(1, "a", "b", "c"), accepted(2, "d"), accepted(3, "e"))

    assert [[each.number for each in ledger.batch(size)] for size in (1, 3, 4, 99)] == [
        [1],
        [1],
        [1, 2],
        [1, 2, 3],
    ]


def test_the_oldest_change_has_an_age() -> None:
    at = time.time() - 60

    assert Ledger().oldest_seconds == 0
    assert 60 <= played(Accepted(1, at, (), ["a"]).as_record()).oldest_seconds < 61


def test_the_fewest_records_give_the_same_ledger() -> None:
    dice = random.Random(0)
    ledger = Ledger()
    for number in range(1, 60):
        ledger.play(accepted(number, *dice.sample("abcdef", 2), delete=("x",)))
        waiting = list(ledger.waiting)
        if dice.random() < 0.5:
            ledger.play({"prepared": waiting, "generation": "g", "base": "b"})
        if dice.random() < 0.3:
            ledger.play({"applied": waiting[:3], "generation": f"g{number}"})
        elif dice.random() < 0.3:
            ledger.play({"refused": waiting[0], "reason": "r"})
        assert played(*ledger.records()) == ledger


def test_only_the_last_results_are_kept() -> None:
    ledger = Ledger()
    count = ledger_module.MAX_RESULTS + 5

    ledger.play({"applied": list(range(1, count + 1)), "generation": "g"})

    assert ledger.result_of(5) is None
    assert ledger.result_of(6) == Result("applied", "g")
    assert played(*ledger.records()).next_number == count + 1
