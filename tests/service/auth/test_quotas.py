import asyncio

import pytest

from service.auth.keys import Key
from service.auth.quotas import ACCOUNT, Account, hold_tokens
from service.errors import ContentTooLargeError, QuotaExceededError, RateLimitedError


def account(**limits: float) -> Account:
    return Account("page", Key(sha256="0" * 64, scopes=frozenset(["search"]), **limits))  # type: ignore[arg-type]


def count_passed(limited: Account, moments: list[float]) -> int:
    passed = 0
    for moment in moments:
        try:
            limited.count_request(moment)
        except RateLimitedError:
            continue
        passed += 1
    return passed


def test_a_burst_of_one_second_passes_and_then_the_rate_holds() -> None:
    limited = account(requests_per_second=5)

    assert count_passed(limited, [100.0] * 20) == 5
    assert count_passed(limited, [100.0 + i / 100 for i in range(1, 101)]) == 5
    assert count_passed(limited, [110.0] * 20) == 5


def test_a_rate_below_one_a_second_admits_one_and_says_when_to_retry() -> None:
    limited = account(requests_per_second=0.1)

    limited.count_request(50.0)
    with pytest.raises(RateLimitedError, match="0.1 requests per second: .* 8 s") as caught:
        limited.count_request(52.5)

    assert caught.value.headers == {"Retry-After": "8"}
    limited.count_request(60.0)


def test_a_retry_after_the_stated_time_passes() -> None:
    limited = account(requests_per_second=3)
    count_passed(limited, [7.0] * 3)

    with pytest.raises(RateLimitedError) as caught:
        limited.count_request(7.0)

    limited.count_request(7.0 + caught.value.retry_after_seconds)


def test_a_refused_request_does_not_count_against_the_rate() -> None:
    limited = account(requests_per_second=1)

    assert count_passed(limited, [1.0, *[1.5] * 100, 2.0]) == 2


def test_without_a_rate_everything_passes() -> None:
    assert count_passed(account(), [1.0] * 1000) == 1000


def test_tokens_in_flight_are_bounded_and_released_also_after_errors() -> None:
    limited = account(max_tokens=10)

    with (
        limited.hold(6),
        limited.hold(4),
        pytest.raises(QuotaExceededError) as caught,
        limited.hold(1),
    ):
        pass
    with pytest.raises(ZeroDivisionError), limited.hold(10):
        raise ZeroDivisionError

    assert caught.value.headers == {"Retry-After": "1"}
    assert limited.tokens == 0


def test_more_tokens_than_the_key_may_ever_have_are_too_large() -> None:
    """A retry could not succeed."""
    with pytest.raises(ContentTooLargeError, match="11 tokens .* 10 in flight: send fewer"):
        account(max_tokens=10).hold(11).__enter__()


def test_tokens_count_against_the_key_of_the_request() -> None:
    one, two = account(max_tokens=10), account(max_tokens=10)
    held: list[tuple[int, int]] = []

    async def work(whose: Account) -> None:
        ACCOUNT.set(whose)
        with hold_tokens(3):
            await asyncio.sleep(0)
            held.append((one.tokens, two.tokens))

    async def scenario() -> None:
        await asyncio.gather(work(one), work(two), work(two))

    asyncio.run(scenario())

    assert held[0] == (3, 6)
    assert (one.tokens, two.tokens) == (0, 0)


def test_without_keys_tokens_are_not_counted() -> None:
    with hold_tokens(10**9):
        pass
