import pytest

from service.batching.cost import MIN_BATCH_TOKENS, RECOVERY_BATCHES, BatchBudget, BatchCost


def test_the_fit_recovers_a_line() -> None:
    cost = BatchCost()

    for num_tokens in (10, 500, 20, 2000, 100, 1000) * 5:
        cost.learn(num_tokens, 0.004 + 0.0001 * num_tokens)

    assert cost.seconds_per_token == pytest.approx(0.0001, rel=1e-6)
    assert cost.overhead_seconds == pytest.approx(0.004, rel=1e-6)
    assert cost.seconds(1000, num_batches=2) == pytest.approx(0.108, rel=1e-6)
    assert cost.overhead_tokens == pytest.approx(40, rel=1e-6)


def test_equal_batches_still_predict_their_own_time() -> None:
    cost = BatchCost()

    for _ in range(100):
        cost.learn(200, 0.05)

    assert cost.seconds(200) == pytest.approx(0.05)
    assert cost.seconds_per_token > 0


def test_what_load_adds_to_a_batch_does_not_pay_for_padding() -> None:
    cost = BatchCost()
    cost.learn_alone(20, 0.005)
    for tokens in (100, 200, 300, 400) * 20:  # under load: 40 ms more for each batch
        cost.learn(tokens, 0.045 + 0.0001 * tokens)

    assert cost.overhead_seconds == pytest.approx(0.045, rel=0.05)
    assert cost.overhead_tokens == pytest.approx(0.005 / cost.seconds_per_token)


def test_a_change_of_speed_is_followed() -> None:
    cost = BatchCost()

    for seconds_per_token in (0.0001, 0.0002):
        for num_tokens in (100, 1000) * 100:
            cost.learn(num_tokens, seconds_per_token * num_tokens)

    assert cost.seconds(1000) == pytest.approx(0.2, rel=0.05)


def test_no_fit_is_negative() -> None:
    cost = BatchCost()

    for num_tokens, seconds in ((10, 1.0), (1000, 0.1), (500, 0.2)):
        cost.learn(num_tokens, seconds)

    assert cost.seconds_per_token > 0
    assert cost.overhead_seconds >= 0


def test_the_forecast_pads_texts_like_recent_batches() -> None:
    cost = BatchCost()

    for num_tokens in (100, 1000) * 10:
        cost.learn(num_tokens, 0.001 * num_tokens, text_tokens=num_tokens // 2)

    assert cost.seconds_of_texts(100, 0) == pytest.approx(0.2, rel=1e-6)


def test_the_forecast_of_a_backlog_uses_recent_batches_under_backlog() -> None:
    cost = BatchCost()
    cost.learn(100, 0.5, text_tokens=80, had_backlog=True)
    assert cost.backlog_seconds(160, num_batches=9) == pytest.approx(1.0)

    for _ in range(100):
        cost.learn(10, 0.001)

    assert cost.backlog_seconds(160, 9) == cost.seconds_of_texts(160, 9)


def test_a_budget_is_halved_down_to_the_minimum() -> None:
    budget = BatchBudget(100)

    halved = []
    for _ in range(4):
        budget.halve()
        halved.append(budget.num_tokens)

    assert halved == [50, 25, MIN_BATCH_TOKENS, MIN_BATCH_TOKENS]


def test_a_halved_budget_is_doubled_after_good_batches_up_to_the_maximum() -> None:
    budget = BatchBudget(100)
    budget.halve()
    budget.halve()

    grown = [budget.num_tokens for _ in range(3 * RECOVERY_BATCHES) if budget.grow()]

    assert grown == [50, 100, 100]


def test_each_failure_restarts_the_count_of_good_batches() -> None:
    budget = BatchBudget(100)
    budget.halve()
    for _ in range(RECOVERY_BATCHES - 1):
        budget.grow()

    budget.halve()

    assert not budget.grow()
    assert budget.num_tokens == 25
