"""Encoding of shards on a Ray cluster by Ray Data, which places, streams and retries them.

The cluster's machines need the same version of this package, and the checkpoint under the same
name. Texts go through the object store of this machine, which spills to disk. Without
RAY_AUTH_MODE=token, anyone who can reach a Ray cluster can run code on it.
"""

import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity, encode_passages
from service.retrieval.encoder.parts import EncodedText
from service.retrieval.errors import GenerationError
from service.retrieval.indexing.local_workers import LoadEncoder, check_identity
from service.retrieval.indexing.shards import OnTexts, Shard

Row = dict[str, Any]
CONNECT_SECONDS = 5.0


class RayWorkers:
    """Actors on a Ray cluster, each with its own encoder."""

    def __init__(
        self,
        load_encoder: LoadEncoder,
        identity: EncoderIdentity,
        device: str,
        address: str,
        count: int | None = None,
    ) -> None:
        """Keep the settings; `encode` connects to the cluster.

        Args:
            load_encoder: called in each worker with its device; must be importable there.
            identity: the encoder that must make the embeddings.
            device: `cpu` or `cuda`.
            address: the cluster's, `auto` or `host:port`.
            count: number of workers; by default one per GPU, or one per machine on CPUs.
        """
        self._load_encoder = load_encoder
        self.identity = identity
        self._device = "cuda" if device.startswith("cuda") else "cpu"
        self._address = address
        self._count = count

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Encode shards, in the order in which workers finish them.

        If a machine is lost, other workers encode its shards.

        Raises:
            GenerationError: the cluster cannot be reached, has no free device, or a worker failed.
        """
        ray = _connect(self._address)
        try:
            references = [ray.put(_table(shard)) for shard in shards]
            if not references:
                return
            ray.data.DataContext.get_current().enable_progress_bars = False
            rows = ray.data.from_arrow_refs(references).map(
                _EncodeActor,
                fn_constructor_args=(self._load_encoder, self.identity, self._device),
                **self._resources(ray, len(references)),
            )
            for row in rows.iter_rows():
                encoded = _unpack(row)
                on_texts(len(encoded))
                yield row["name"], encoded
        except ray.exceptions.RayError as error:
            raise GenerationError(
                f"the Ray cluster {self._address} failed: {_reason(error)}; "
                "run again: the encoded shards are kept"
            ) from None
        finally:
            ray.shutdown()

    def _resources(self, ray: Any, num_shards: int) -> dict[str, Any]:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        kind = "GPU" if self._device == "cuda" else "CPU"
        offers = [int(machine.get(kind, 0)) for machine in machines if machine.get(kind, 0) >= 1]
        if not offers:
            raise GenerationError(
                f"no machine of the Ray cluster {self._address} offers a {kind}: add one, "
                "or choose another --device"
            )
        count = self._count or (sum(offers) if kind == "GPU" else len(offers))
        count = min(count, num_shards, sum(offers))
        if kind == "GPU":
            return {"concurrency": count, "num_gpus": 1}
        workers_per_machine = -(-count // len(offers))
        return {"concurrency": count, "num_cpus": max(1, min(offers) // workers_per_machine)}


class _EncodeActor:
    """An actor of the cluster; loads the encoder once."""

    def __init__(self, load_encoder: LoadEncoder, identity: EncoderIdentity, device: str) -> None:
        where = f"the worker on {_import_ray().util.get_node_ip_address()}"
        self._encoder = check_identity(load_encoder(device), identity, where)

    def __call__(self, row: Row) -> Row:
        encoded = encode_passages(self._encoder, [_text(*parts) for parts in row["texts"]])
        return {
            "name": row["name"],
            "embeddings": encoded.embeddings.tobytes(),
            "is_truncated": encoded.is_truncated.tobytes(),
        }


def _connect(address: str) -> Any:
    try:
        _check_reachable(address)
        ray = _import_ray()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        raise GenerationError(
            f"there is no Ray cluster at {address} ({_reason(error)}): start one with "
            "`ray start --head`, and name its address or `auto`"
        ) from None
    return ray


def _check_reachable(address: str) -> None:
    """Connect once, because Ray itself retries for minutes.

    Raises:
        OSError: nothing listens at the address.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise GenerationError("--ray needs its package: pip install 'clear-search[ray]'") from None
    return ray


def _table(shard: Shard) -> pa.Table:
    texts = [[text] if isinstance(text, str) else list(text) for text in shard.texts]
    return pa.table({"name": [shard.name], "texts": [texts]})


def _text(first: str, *others: str) -> EncodedText:
    """Return a text as `_table` has it: whole, or with what stands before and after it."""
    return (first, *others) if others else first  # type: ignore[return-value]


def _unpack(row: Row) -> EncodedPassages:
    is_truncated = np.frombuffer(row["is_truncated"], np.bool_)
    embeddings = np.frombuffer(row["embeddings"], np.float32)
    return EncodedPassages(embeddings.reshape(len(is_truncated), -1), is_truncated)


def _reason(error: Exception) -> str:
    """Return the last line of a remote traceback, which says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
