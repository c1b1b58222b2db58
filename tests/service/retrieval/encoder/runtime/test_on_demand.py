from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.on_demand import OnDemandRuntime, is_loaded, load, unload
from service.retrieval.errors import CheckpointError
from service.retrieval.indexing.shards import InProcessEncoder, Shard

IDS = np.ones((1, 2), np.int64)


@dataclass
class OneRuntime:
    name: str = "torch-fp32"
    embedding_dim: int = 3
    num_slots: int = 2
    device: torch.device = torch.device("cpu")
    warmed_up: list[int] = field(default_factory=list)
    running: int = 0

    def passage_shape(self, length: int) -> None:
        """Name no shape."""

    def warm_up(self, max_batch_tokens: int) -> None:
        self.warmed_up.append(max_batch_tokens)

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        self.running += 1
        assert self.running <= self.num_slots
        self.running -= 1
        return torch.full((len(token_ids), 3), 7.0)


def counting(loaded: OneRuntime) -> tuple[list[OneRuntime], Callable[[], OneRuntime]]:
    calls: list[OneRuntime] = []

    def make() -> OneRuntime:
        calls.append(loaded)
        return loaded

    return calls, make


def test_an_unloaded_runtime_keeps_its_name_and_is_loaded_again_by_a_text() -> None:
    calls, make = counting(OneRuntime())
    runtime = OnDemandRuntime(make, OneRuntime())
    runtime.embed(IDS, IDS)

    unload(runtime)

    assert not is_loaded(runtime)
    assert runtime.name == "torch-fp32" and len(calls) == 1
    assert runtime.embed(IDS, IDS).tolist() == [[7.0] * 3]
    assert len(calls) == 2


def test_a_build_that_ends_with_its_command_frees_the_passage_side(tuned_encoder: Encoder) -> None:
    runtime = tuned_encoder.side("passage").runtime
    for is_kept in (True, False):
        encoder = InProcessEncoder(tuned_encoder, is_kept)
        [(_, encoded)] = encoder.encode([Shard("a", ["tea"])], lambda num_texts: None)
        assert len(encoded) == 1
        assert is_loaded(runtime) == is_kept


def test_the_first_text_loads_once() -> None:
    calls, make = counting(OneRuntime())
    runtime = OnDemandRuntime(make, OneRuntime())

    runtime.warm_up(64)
    assert (runtime.num_slots, runtime.embedding_dim, calls) == (2, 3, [])
    assert not is_loaded(runtime)
    for _ in range(2):
        assert runtime.embed(IDS, IDS).tolist() == [[7.0] * 3]
    assert len(calls) == 1
    assert is_loaded(runtime)
    runtime.warm_up(64)
    assert calls[0].warmed_up == [64]


def test_the_name_is_that_of_the_runtime_which_it_loads() -> None:
    runtime = OnDemandRuntime(lambda: OneRuntime("torch-bf16"), OneRuntime())

    assert runtime.name == "torch-bf16"


def test_a_runtime_of_another_length_is_refused_each_time() -> None:
    runtime = OnDemandRuntime(lambda: OneRuntime(embedding_dim=4), OneRuntime())

    for _ in range(2):
        with pytest.raises(CheckpointError, match="query side has 3 .* passage side 4"):
            load(runtime)
    assert not is_loaded(runtime)


def test_a_failure_is_raised_and_the_next_use_tries_again() -> None:
    found: list[OneRuntime | None] = [None, OneRuntime()]

    def make() -> OneRuntime:
        if (first := found.pop(0)) is None:
            raise CheckpointError("no file")
        return first

    runtime = OnDemandRuntime(make, OneRuntime())

    with pytest.raises(CheckpointError, match="no file"):
        runtime.embed(IDS, IDS)
    assert len(runtime.embed(IDS, IDS)) == 1


def test_a_runtime_of_one_slot_runs_one_batch_at_a_time() -> None:
    loaded = OneRuntime(num_slots=1)
    runtime = OnDemandRuntime(lambda: loaded, OneRuntime())

    threads = [Thread(target=runtime.embed, args=(IDS, IDS)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert loaded.running == 0


def test_other_runtimes_are_always_loaded() -> None:
    runtime = OneRuntime()
    assert load(runtime) is runtime
    assert is_loaded(runtime)
