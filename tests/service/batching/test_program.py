from service.batching.program import Slots


def test_an_idle_slot_means_no_wait() -> None:
    slots = Slots(2)
    slots.begin(0, now=10.0, seconds=4.0)

    assert (slots.idle, slots.num_idle) == ([1], 1)
    assert slots.wait_seconds(11.0) == 0.0


def test_the_wait_for_a_slot_is_the_mean_over_waiting_batches() -> None:
    slots = Slots(2)
    slots.begin(0, now=10.0, seconds=4.0)
    slots.begin(1, now=11.0, seconds=1.0)

    assert slots.wait_seconds(11.0) == (3.0 + 1.0) / 2
    assert slots.wait_seconds(100.0) == 0.0


def test_running_seconds_are_those_of_the_oldest_batch() -> None:
    slots = Slots(2)
    slots.begin(0, now=10.0, seconds=4.0)
    slots.begin(1, now=11.0, seconds=1.0)
    assert slots.running_seconds(12.0) == 2.0

    slots.end(0)

    assert slots.running_seconds(12.0) == 1.0
    slots.end(1)
    assert slots.running_seconds(12.0) == 0.0
