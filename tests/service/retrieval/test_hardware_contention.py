"""Whether other processes took the cores while `doctor` or `bench` measured."""

import pytest

from service.retrieval import hardware
from service.retrieval.hardware import Contention

OTHERS = "other processes, or other machines on this host,"


@pytest.mark.parametrize(
    ("cores", "available", "busy", "warning"),
    [
        (
            2,
            2,
            2.6,
            f"{OTHERS} took 0.8 of 2 cores meanwhile: these",
        ),
        (2, 2, 1.9, ""),  # all but a tenth of a core are this process's
        (64, 4, 50.0, ""),  # enough of many are free
        (
            64,
            4,
            63.0,
            f"{OTHERS} took 61.2 of 64 cores meanwhile",
        ),
        (2, 2, 0.0, ""),  # the kernel does not tell
    ],
)
def test_a_warning_needs_others_that_leave_too_few_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, available: int, busy: float, warning: str
) -> None:
    # Ten seconds, of which this process used 1.8 cores.
    readings = iter([(100.0, 50.0, 3.0), (110.0, 50.0 + 10 * busy, 21.0)])
    monkeypatch.setattr(Contention, "_read", lambda self: next(readings))
    monkeypatch.setattr(hardware, "available_cores", lambda: available)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda process: set(range(cores)))

    found = Contention().warning()

    assert found.startswith(warning) and bool(found) == bool(warning)
