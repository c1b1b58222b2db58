"""What runs on a device at the moment: at most one batch a slot."""


class Slots:
    """Knows since when each slot has been busy and how long it is thought to stay so.

    The batcher holds its lock to change it; to ask, no lock is needed.
    """

    def __init__(self, count: int) -> None:
        """Start with all slots idle."""
        self.count = count
        self._spans: dict[int, tuple[float, float]] = {}  # since when, until when; by slot

    @property
    def idle(self) -> list[int]:
        """List the slots where nothing runs."""
        return [slot for slot in range(self.count) if slot not in self._spans]

    @property
    def num_idle(self) -> int:
        """Count them."""
        return self.count - len(self._spans)

    def begin(self, slot: int, now: float, seconds: float) -> None:
        """Note that a batch begins, and what it will take."""
        self._spans[slot] = (now, now + seconds)

    def end(self, slot: int) -> None:
        """Note that a slot's batch is done."""
        del self._spans[slot]

    def running_seconds(self, now: float) -> float:
        """Tell for how long the oldest batch has been running; 0 where none is."""
        return max((now - since for since, _ in tuple(self._spans.values())), default=0.0)

    def wait_seconds(self, now: float) -> float:
        """Predict how long until a slot is free, as a mean over what waits for one."""
        if self.num_idle:
            return 0.0
        spans = tuple(self._spans.values())
        return sum(max(0.0, until - now) for _, until in spans) / self.count
