"""Progress reports of long operations: the stage, how much is done, and of how much."""

from collections.abc import Callable

# Stage, number done, total (None while the total is unknown).
OnProgress = Callable[[str, int, int | None], None]


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """Discard a progress report; the default where a caller passes no `OnProgress`."""
