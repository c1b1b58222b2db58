"""Runs one batch: results to its requests, or the failure to the text that caused it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic

from service.batching.program import Batch, PreparedT, Program
from service.batching.queue import BatchQueue
from service.batching.request import Answer, PayloadT, RequestText, ResultT, deliver
from service.errors import BatchFailedError, RequestError

logger = logging.getLogger(__name__)


class BatchRunner(Generic[PayloadT, PreparedT, ResultT]):
    """Runs a program on batches, in the threads that own the slots."""

    def __init__(
        self,
        program: Program[PayloadT, PreparedT, ResultT],
        queue: BatchQueue[RequestText[PayloadT, ResultT], PreparedT],
        lock: threading.Lock,
        on_broken: Callable[[Sequence[RequestText[PayloadT, ResultT]]], None],
    ) -> None:
        """Keep what a batch needs.

        Args:
            program: what runs on a batch.
            queue: learns from each batch.
            lock: held while the queue changes.
            on_broken: called with the running texts when the device is broken.
        """
        self._program = program
        self._queue = queue
        self._lock = lock
        self._on_broken = on_broken
        self.last_batch_failed = False

    def run(self, batch: Batch[RequestText[PayloadT, ResultT], PreparedT]) -> None:
        """Run the texts that a client still waits for, and deliver their answers."""
        texts = [text for text in batch.texts if not text.is_gone(time.monotonic())]
        if len(texts) < len(batch.texts):
            batch = Batch(batch.lane, texts, batch.leaves_more)
        if not texts:
            return
        started = time.monotonic()
        try:
            prepared = batch.prepared
            if prepared is None:
                prepared = self._program.prepare([text.payload for text in texts])
            results = self._program.run(prepared)
        except Exception as error:  # noqa: BLE001  the batch boundary: the loop must go on
            self._on_failure(batch, error)
            return
        seconds = time.monotonic() - started
        self.last_batch_failed = any(isinstance(result, RequestError) for result in results)
        deliver(
            texts,
            [
                result if isinstance(result, RequestError) else Answer(result, started - text.since)
                for result, text in zip(results, texts, strict=True)
            ],
        )
        self._on_success(batch, seconds)

    def _on_success(
        self, batch: Batch[RequestText[PayloadT, ResultT], PreparedT], seconds: float
    ) -> None:
        lengths = [text.num_tokens for text in batch.texts]
        padded_tokens = max(lengths) * len(lengths)
        self._program.observe(batch.lane, len(lengths), sum(lengths), padded_tokens, seconds)
        with self._lock:
            self._queue.learn(batch, padded_tokens, seconds)

    def _on_failure(
        self, batch: Batch[RequestText[PayloadT, ResultT], PreparedT], error: Exception
    ) -> None:
        """Split the batch until the bad text fails alone; halve the budget if memory ran out."""
        fault = self._program.classify(error)
        texts = batch.texts
        logger.error("batch of %d failed (%s): %s", len(texts), fault, type(error).__name__)
        self.last_batch_failed = True
        if fault == "device":
            self._on_broken(texts)
            return
        if fault == "memory":
            with self._lock:
                self._queue.halve_budget()
        if len(texts) > 1:
            middle = len(texts) // 2
            for half in (texts[:middle], texts[middle:]):
                self.run(Batch(batch.lane, half))
            return
        reason = "there is not enough memory for it" if fault == "memory" else type(error).__name__
        deliver(texts, [BatchFailedError(f"a text cannot be encoded: {reason}")])
