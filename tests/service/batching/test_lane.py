"""A lane holds requests larger than a batch back, and lets them in slice by slice."""

from dataclasses import dataclass

from service.batching.lane import READY_BATCHES, LaneQueue

BATCH = 100


@dataclass
class Waiting:
    name: str
    num_tokens: int = 10
    has_left: bool = False
    kind: object = None

    def is_gone(self, moment: float) -> bool:
        return self.has_left


def texts(name: str, count: int, num_tokens: int = 10) -> list[Waiting]:
    return [Waiting(name, num_tokens) for _ in range(count)]


def served(lane: LaneQueue[Waiting]) -> str:
    """Take batch after batch from the front; return the name of each text."""
    order = ""
    while lane.texts:
        batch, left = lane.texts[:10], lane.texts[10:]
        order += "".join(text.name for text in batch)
        lane.keep(left, now=0.0)
    return order


def test_a_request_of_any_size_is_served_and_only_a_part_of_it_is_in_the_lane() -> None:
    lane = LaneQueue[Waiting](BATCH)

    lane.add(texts("a", 1000))

    assert lane.num_tokens == READY_BATCHES * BATCH
    assert lane.num_pending_tokens == 10_000
    assert served(lane) == "a" * 1000
    assert lane.num_pending_tokens == 0


def test_large_requests_take_turns() -> None:
    lane = LaneQueue[Waiting](BATCH)
    for name in "abc":
        lane.add(texts(name, 50))

    order = served(lane)

    assert order[20:] == ("b" * 10 + "c" * 10 + "a" * 10) * 3 + ("b" * 10 + "c" * 10) * 2
    assert order[:20] == "a" * 20


def test_a_small_request_waits_for_no_more_than_what_is_ready() -> None:
    lane = LaneQueue[Waiting](BATCH)
    lane.add(texts("a", 1000))

    lane.add(texts("b", 1))

    assert lane.num_tokens_before(10, now=0.0) == 210
    assert served(lane).index("b") == 20


def test_a_large_request_waits_for_as_much_of_others_as_it_has_itself() -> None:
    lane = LaneQueue[Waiting](BATCH)
    lane.add(texts("a", 1000))

    before = [lane.num_tokens_before(num_tokens, now=0.0) for num_tokens in (100, 300, 100_000)]

    assert before == [200, 400, 10_000]


def test_the_rest_of_a_request_whose_client_left_is_dropped_and_not_counted() -> None:
    lane = LaneQueue[Waiting](BATCH)
    left, stays = texts("a", 1000), texts("b", 30)
    lane.add(left)
    lane.add(stays)
    for text in left:
        text.has_left = True

    assert lane.num_tokens_before(100_000, now=0.0) == 500
    lane.keep([], now=0.0)
    assert served(lane) == "b" * 20  # its first slice was among the texts that were taken


def test_a_slice_holds_texts_of_like_length_the_longest_first() -> None:
    lane = LaneQueue[Waiting](BATCH)

    lane.add([Waiting(str(number), 1 + number % 50) for number in range(500)])

    lengths = [text.num_tokens for text in lane.texts]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 50
    assert [text.name for text in lane.texts[:2]] == ["49", "99"]


def test_a_text_longer_than_a_batch_enters_alone() -> None:
    lane = LaneQueue[Waiting](BATCH)

    lane.add([Waiting("a", 500), Waiting("b", 500)])

    assert [text.name for text in lane.texts] == ["a"]
    lane.keep([], now=0.0)
    assert [text.name for text in lane.texts] == ["b"]


def test_clearing_returns_the_rests_too() -> None:
    lane = LaneQueue[Waiting](BATCH)
    lane.add(texts("a", 100))

    assert len(lane.clear()) == 100
    assert (lane.texts, lane.num_pending_tokens) == ([], 0)
