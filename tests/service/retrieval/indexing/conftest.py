"""Fixtures of the tests that compare the bytes of indexes."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Give torch one thread: with two, matrices as small as the tiny encoder's round by shape."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
