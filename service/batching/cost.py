"""What a batch costs: a forecast of its seconds, and how many padded tokens memory allows."""

import math

# Weight of the past with each new batch: the last fifty or so decide.
DECAY = 0.98
# Under a backlog, batches are large and few, and the forecast must be right within seconds.
BACKLOG_DECAY = 0.8
# The least time is raised by this factor with each batch, in case the device became slower.
LEAST_GROWTH = 1.02
MIN_BATCH_TOKENS = 16
# A halved budget is doubled again after this many batches without a failure.
RECOVERY_BATCHES = 500


class BatchCost:
    """Least-squares fit of `seconds = per_token * tokens + overhead`; recent batches weigh more."""

    def __init__(self, seconds_per_token: float = 2e-4, overhead_seconds: float = 5e-3) -> None:
        """Start from a guess that the first batches replace."""
        self.seconds_per_token = seconds_per_token
        self.overhead_seconds = overhead_seconds
        self._weight = self._tokens = self._seconds = self._tokens_squared = self._product = 0.0
        self._text_tokens = 0.0
        self._backlog_tokens = self._backlog_seconds = 0.0
        self._least_seconds_per_token = 0.0
        self._most_overhead_seconds = math.inf

    def learn_alone(self, num_tokens: int, seconds: float) -> None:
        """Add a batch that ran while nothing else did: no overhead takes longer than all of it.

        Under load a batch also waits for the cores that read and answer requests. That time grows
        with the texts and not with the batches, so padding does not save it.
        """
        self._most_overhead_seconds = min(self._most_overhead_seconds, seconds)
        self.learn(num_tokens, seconds)

    def learn(
        self,
        num_tokens: int,
        seconds: float,
        text_tokens: int | None = None,
        had_backlog: bool = False,
    ) -> None:
        """Add one batch to the fit.

        Args:
            num_tokens: tokens with padding.
            seconds: duration on the device.
            text_tokens: tokens without padding; by default there was no padding.
            had_backlog: more texts waited than the batch could take.
        """
        rate = seconds / (text_tokens or num_tokens)
        least = self._least_seconds_per_token * LEAST_GROWTH or rate
        self._least_seconds_per_token = min(rate, least)
        self._backlog_tokens *= BACKLOG_DECAY
        self._backlog_seconds *= BACKLOG_DECAY
        if had_backlog:
            self._backlog_tokens += text_tokens or num_tokens
            self._backlog_seconds += seconds
        self._text_tokens = self._text_tokens * DECAY + (text_tokens or num_tokens)
        self._weight = self._weight * DECAY + 1
        self._tokens = self._tokens * DECAY + num_tokens
        self._seconds = self._seconds * DECAY + seconds
        self._tokens_squared = self._tokens_squared * DECAY + num_tokens**2
        self._product = self._product * DECAY + num_tokens * seconds
        self._fit()

    def seconds(self, num_tokens: int, num_batches: int = 1) -> float:
        """Predict the seconds of `num_tokens` padded tokens in `num_batches` batches."""
        return num_tokens * self.seconds_per_token + num_batches * self.overhead_seconds

    def seconds_of_texts(self, text_tokens: int, num_batches: int = 1) -> float:
        """Predict the seconds of texts, with padding in the proportion of recent batches."""
        padding = self._tokens / self._text_tokens if self._text_tokens else 1.0
        return self.seconds(round(text_tokens * padding), num_batches)

    def backlog_seconds(self, text_tokens: int, num_batches: int = 1) -> float:
        """Predict the seconds of waiting texts, batch after batch.

        Where lengths differ, batches hold fewer tokens than they may. So the mean of recent batches
        under a backlog is a better forecast than the fit, which is used where there were none.
        """
        if self._backlog_tokens < 1:
            return self.seconds_of_texts(text_tokens, num_batches)
        return text_tokens * self._backlog_seconds / self._backlog_tokens

    def least_seconds(self, text_tokens: int) -> float:
        """Return the seconds of texts at the speed of the fastest batch; 0 before any batch.

        A mean can be wrong after a few slow batches, and only another batch corrects it. So only
        this figure says that something cannot be done.
        """
        return text_tokens * self._least_seconds_per_token

    @property
    def overhead_tokens(self) -> float:
        """Return how many padding tokens take as long as another batch."""
        overhead = min(self.overhead_seconds, self._most_overhead_seconds)
        return overhead / self.seconds_per_token

    def _fit(self) -> None:
        mean_tokens, mean_seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._tokens_squared / self._weight - mean_tokens**2
        if variance > (0.05 * mean_tokens) ** 2:
            covariance = self._product / self._weight - mean_tokens * mean_seconds
            self.seconds_per_token = covariance / variance
        # If all batches are alike, or noise makes the slope negative, keep a line through the mean.
        most = mean_seconds / mean_tokens
        self.seconds_per_token = min(max(self.seconds_per_token, most / 10), most)
        self.overhead_seconds = mean_seconds - self.seconds_per_token * mean_tokens


class BatchBudget:
    """Padded tokens that a batch may have: halved when memory runs out, doubled again later.

    Not thread-safe: callers hold the batcher's lock.
    """

    def __init__(self, max_tokens: int) -> None:
        """Start with the maximum."""
        self.num_tokens = self._max_tokens = max_tokens
        self._good_batches = 0

    def halve(self) -> None:
        """Halve the budget after a batch that ran out of memory."""
        self._set(self.num_tokens // 2)

    def grow(self) -> bool:
        """Count a batch that succeeded; return whether the budget was raised."""
        self._good_batches += 1
        if self._good_batches < RECOVERY_BATCHES:
            return False
        self._set(self.num_tokens * 2)
        return True

    def _set(self, num_tokens: int) -> None:
        self.num_tokens = min(max(num_tokens, MIN_BATCH_TOKENS), self._max_tokens)
        self._good_batches = 0
