"""A server process with short timeouts, which every attack must leave healthy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.victim import SETTINGS, Victim
from tests.support.processes import running


@pytest.fixture(scope="session")
def victim_process(tiny_checkpoint: Path, tiny_index: Path) -> Iterator[Victim]:
    """The server for all attacks."""
    with running(tiny_checkpoint, tiny_index, **SETTINGS) as server:
        yield Victim(server)


@pytest.fixture
def victim(victim_process: Victim) -> Iterator[Victim]:
    """The server; after each attack it answers, and no request of the attack is left."""
    yield victim_process
    victim_process.assert_well()
