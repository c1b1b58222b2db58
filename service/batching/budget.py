"""How many padded tokens a batch may have: fewer where memory ended, for a while."""

MIN_BATCH_TOKENS = 16
# After so many good batches a budget that was halved is doubled again.
RECOVERY_BATCHES = 500


class BatchBudget:
    """Halved where memory ended, doubled after many good batches; the batcher holds its lock."""

    def __init__(self, max_tokens: int) -> None:
        """Start with all that is allowed."""
        self.num_tokens = self._max_tokens = max_tokens
        self._good_batches = 0

    def halve(self) -> None:
        """Take note that memory ended."""
        self._set(self.num_tokens // 2)

    def grow(self) -> bool:
        """Take note of a good batch; tell whether the budget was set anew."""
        self._good_batches += 1
        if self._good_batches < RECOVERY_BATCHES:
            return False
        self._set(self.num_tokens * 2)
        return True

    def _set(self, num_tokens: int) -> None:
        self.num_tokens = min(max(num_tokens, MIN_BATCH_TOKENS), self._max_tokens)
        self._good_batches = 0
