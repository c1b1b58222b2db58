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


def test_a_batch_is_stuck_after_the_least_time_and_ten_times_its_own_forecast() -> None:
    slots = Slots(2)
    slots.begin(0, now=10.0, seconds=0.01)
    slots.begin(1, now=10.0, seconds=40.0)

    assert not slots.is_stuck(70.0, 60.0)
    assert slots.is_stuck(71.0, 60.0)

    slots.end(0)

    assert not slots.is_stuck(410.0, 60.0)
    assert slots.is_stuck(411.0, 60.0)
    slots.end(1)
    assert not slots.is_stuck(10_000.0, 60.0)
