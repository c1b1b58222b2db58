import asyncio

import torch

from service.engine.query_cache import Key, QueryCache


def key(name: str) -> Key:
    return ("encoder", "query", name.encode())


async def fill(cache: QueryCache, *names: str) -> None:
    for number, name in enumerate(names):
        cache.find(key(name))
        assert cache.join(key(name)) is None
        cache.complete(key(name), torch.tensor([float(number)]))


def test_the_least_recently_used_embedding_goes_first() -> None:
    async def scenario() -> None:
        cache = QueryCache(2)
        await fill(cache, "a", "b")
        cache.find(key("a"))
        await fill(cache, "c")

        found = [cache.find(key(name)) is not None for name in "abc"]

        assert found == [True, False, True]

    asyncio.run(scenario())


def test_equal_queries_share_one_flight() -> None:
    async def scenario() -> None:
        cache = QueryCache(2)
        leader, follower = cache.join(key("a")), cache.join(key("a"))
        cache.complete(key("a"), torch.tensor([7.0]))

        assert leader is None
        assert follower is not None
        assert (await follower) == torch.tensor([7.0])

    asyncio.run(scenario())


def test_a_failed_flight_releases_its_followers_and_caches_nothing() -> None:
    async def scenario() -> None:
        cache = QueryCache(2)
        cache.join(key("a"))
        follower = cache.join(key("a"))
        cache.complete(key("a"), None)

        assert follower is not None
        assert await follower is None
        assert cache.find(key("a")) is None
        assert cache.join(key("a")) is None

    asyncio.run(scenario())


def test_the_hit_ratio_counts_cached_and_shared_embeddings() -> None:
    async def scenario() -> None:
        cache = QueryCache(2)
        before = cache.hit_ratio
        await fill(cache, "a")
        cache.find(key("a"))
        for _ in range(2):
            cache.find(key("b"))
            cache.join(key("b"))

        assert (before, cache.hit_ratio) == (0.0, 0.5)

    asyncio.run(scenario())


def test_zero_entries_disable_the_cache() -> None:
    async def scenario() -> None:
        cache = QueryCache(0)
        await fill(cache, "a", "a")

        assert not cache.is_on
        assert cache.find(key("a")) is None

    asyncio.run(scenario())
