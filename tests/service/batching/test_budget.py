from service.batching.budget import MIN_BATCH_TOKENS, RECOVERY_BATCHES, BatchBudget


def test_a_budget_is_halved_down_to_the_least_and_no_further() -> None:
    budget = BatchBudget(100)

    halved = []
    for _ in range(4):
        budget.halve()
        halved.append(budget.num_tokens)

    assert halved == [50, 25, MIN_BATCH_TOKENS, MIN_BATCH_TOKENS]


def test_a_halved_budget_is_doubled_after_so_many_good_batches_up_to_the_most() -> None:
    budget = BatchBudget(100)
    budget.halve()
    budget.halve()

    grown = [budget.num_tokens for _ in range(3 * RECOVERY_BATCHES) if budget.grow()]

    assert grown == [50, 100, 100]


def test_good_batches_are_counted_anew_from_each_failure() -> None:
    budget = BatchBudget(100)
    budget.halve()
    for _ in range(RECOVERY_BATCHES - 1):
        budget.grow()

    budget.halve()

    assert not budget.grow()
    assert budget.num_tokens == 25
