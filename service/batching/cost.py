"""How long a batch takes: a running fit of seconds against padded tokens, and the padding."""

# How fast old batches fade: the last fifty or so decide.
DECAY = 0.98
# Under a backlog batches are large and few, and the forecast must be right within seconds.
BACKLOG_DECAY = 0.8


class BatchCost:
    """Fits `seconds = per_token * tokens + overhead`; recent batches weigh more."""

    def __init__(self, seconds_per_token: float = 2e-4, overhead_seconds: float = 5e-3) -> None:
        """Start from a guess, which the first batches outweigh."""
        self.seconds_per_token = seconds_per_token
        self.overhead_seconds = overhead_seconds
        self._weight = self._tokens = self._seconds = self._tokens_squared = self._product = 0.0
        self._text_tokens = 0.0
        self._backlog_tokens = self._backlog_seconds = 0.0

    def learn(
        self,
        num_tokens: int,
        seconds: float,
        text_tokens: int | None = None,
        had_backlog: bool = False,
    ) -> None:
        """Take in one batch.

        Args:
            num_tokens: padding included.
            seconds: what it took.
            text_tokens: padding apart; by default there was none.
            had_backlog: others waited that might have been in it.
        """
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
        """Predict how long tokens take in so many batches."""
        return num_tokens * self.seconds_per_token + num_batches * self.overhead_seconds

    def seconds_of_texts(self, text_tokens: int, num_batches: int = 1) -> float:
        """Predict how long texts take that will be padded as the last ones were."""
        padding = self._tokens / self._text_tokens if self._text_tokens else 1.0
        return self.seconds(round(text_tokens * padding), num_batches)

    def backlog_seconds(self, text_tokens: int, num_batches: int = 1) -> float:
        """Predict how long texts take one batch after the other.

        Batches hold fewer tokens than they may where lengths differ; so what recent batches took
        that were taken from among many says more than the fit, which is the guess without them.
        """
        if self._backlog_tokens < 1:
            return self.seconds_of_texts(text_tokens, num_batches)
        return text_tokens * self._backlog_seconds / self._backlog_tokens

    @property
    def overhead_tokens(self) -> float:
        """Tell how much padding costs as much as a further batch."""
        return self.overhead_seconds / self.seconds_per_token

    def _fit(self) -> None:
        mean_tokens, mean_seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._tokens_squared / self._weight - mean_tokens**2
        if variance > (0.05 * mean_tokens) ** 2:
            covariance = self._product / self._weight - mean_tokens * mean_seconds
            self.seconds_per_token = covariance / variance
        # Where all batches are alike (or noise turns the slope), keep the line through their mean.
        most = mean_seconds / mean_tokens
        self.seconds_per_token = min(max(self.seconds_per_token, most / 10), most)
        self.overhead_seconds = mean_seconds - self.seconds_per_token * mean_tokens
