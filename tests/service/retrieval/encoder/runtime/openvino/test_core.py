import errno
import os

import pytest

from service.retrieval.encoder.runtime.openvino import core


@pytest.mark.parametrize(("before", "after"), [(-5, 5), (0, 5), (5, 5), (6, 6), (19, 19)])
def test_the_priority_of_a_thread_is_only_lowered(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """Without a right, a process under `nice -n 6` may not raise its priority to 5."""
    niceness = [before]
    monkeypatch.setattr(os, "getpriority", lambda which, who: niceness[-1])
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: niceness.append(value))

    core._be_nice()

    assert niceness[-1] == after


def test_a_sandbox_that_forbids_priorities_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "setpriority", forbid)
    core._be_nice()
    monkeypatch.setattr(os, "getpriority", forbid)
    core._be_nice()
