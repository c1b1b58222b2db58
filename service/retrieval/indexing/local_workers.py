"""Encoding of shards in several processes of this machine, each with its cores or a GPU."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from service.retrieval import interruption
from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity, encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.parts import EncodedText
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.indexing.shards import OnTexts, Shard

# Loads the encoder in a worker, on the device given; the function must be importable there.
LoadEncoder = Callable[[str], Encoder]
AHEAD = 2  # queued shards per worker


class LocalWorkers:
    """A process pool; each worker has its own encoder and its share of the cores, or a GPU."""

    def __init__(
        self, load_encoder: LoadEncoder, identity: EncoderIdentity, device: str, count: int
    ) -> None:
        """Keep the settings; `encode` starts the processes.

        Args:
            load_encoder: called in each worker with its device.
            identity: the encoder that must make the embeddings.
            device: `cpu` or `cuda`.
            count: number of workers.
        """
        self._load_encoder = load_encoder
        self.identity = identity
        self._device = device
        self._count = count

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards, in the order in which workers finish them.

        Raises:
            GenerationError: a worker died.
            EncoderMismatchError: a worker loaded another encoder.
        """
        context = multiprocessing.get_context("spawn")  # CUDA and FAISS do not work after a fork
        numbers = context.Queue()
        for number in range(self._count):
            numbers.put(number)
        start = (self._load_encoder, self.identity, self._device, self._count, numbers)
        pool = ProcessPoolExecutor(self._count, context, _start_worker, start)
        running: dict[Future[EncodedPassages], str] = {}
        try:
            for shard in shards:
                running[pool.submit(_encode, shard.texts)] = shard.name
                if len(running) >= self._count * AHEAD:
                    yield from _finished(running, on_texts)
            while running:
                yield from _finished(running, on_texts)
        except BrokenProcessPool:
            raise GenerationError(
                "a worker died, perhaps for lack of memory: run again with fewer --workers; "
                "the encoded shards are kept"
            ) from None
        except interruption.Interrupted:
            for worker in multiprocessing.active_children():  # each would finish its shard first
                worker.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            del pool, start, numbers  # frees their semaphores also if the process ends at once


def _finished(
    running: dict[Future[EncodedPassages], str], on_texts: OnTexts
) -> Iterator[tuple[str, EncodedPassages]]:
    """Wait for the next finished shards; remove them from `running` and yield them."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        name, encoded = running.pop(future), future.result()
        on_texts(len(encoded))
        yield name, encoded


# State of a worker process.
_worker: dict[str, Any] = {}


def _start_worker(
    load_encoder: LoadEncoder, identity: EncoderIdentity, device: str, count: int, numbers: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent, too
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = numbers.get()
    if device.startswith("cuda"):
        device = f"cuda:{number % torch.cuda.device_count()}"
    else:
        _take_share_of_cores(number, count)
    _worker["load"] = lambda: check_identity(load_encoder(device), identity, f"worker {number}")


def _end_with_parent() -> None:
    """End this worker when its parent has died; it would wait for shards forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode(texts: Sequence[EncodedText]) -> EncodedPassages:
    # Loaded here: an error in the initializer would not reach the parent.
    if "encoder" not in _worker:
        _worker["encoder"] = _worker["load"]()
    return encode_passages(_worker["encoder"], texts)


def check_identity(encoder: Encoder, identity: EncoderIdentity, where: str) -> Encoder:
    """Check that a worker's encoder is the one that must make the embeddings, and return it.

    Raises:
        EncoderMismatchError: it is another one; both are named.
    """
    found = EncoderIdentity.of(encoder)
    if found != identity:
        raise EncoderMismatchError(
            f"{where} has the encoder {found}, but {identity} is needed: give all machines the "
            "same checkpoint, CLEAR_CPU_ENGINE, CLEAR_PRECISION, CLEAR_MAX_TOKENS and prompts"
        )
    return encoder


def _take_share_of_cores(number: int, count: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    share = cores[number % len(cores) :: count] or cores
    os.sched_setaffinity(0, share)
    torch.set_num_threads(len(share))
