"""A display of progress that keeps the stages which are reported to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.retrieval.progress import ProgressDisplay


class KeptProgress:
    """Stands in for `show_progress`; `stages` are in the order of their first reports."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    @contextmanager
    def show(self, is_transient: bool = False) -> Iterator[ProgressDisplay]:
        """Yield a callback that keeps the stages."""

        def on_progress(stage: str, done: int, total: int | None, facts: str = "") -> None:
            if stage not in self.stages:
                self.stages.append(stage)

        yield on_progress
