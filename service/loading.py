"""The encoder that the settings ask for, here or in the workers of a build."""

from functools import partial

from service.retrieval.bulk import Origin
from service.retrieval.checkpoint import load_encoder
from service.retrieval.encoder import Encoder
from service.retrieval.local_workers import LocalWorkers
from service.retrieval.ray_workers import RayWorkers
from service.retrieval.shards import EncoderHere, ShardEncoder
from service.settings import Settings


def shard_encoder_of(
    settings: Settings, encoder: Encoder, workers: int | None, ray: str | None
) -> ShardEncoder:
    """Choose where a build encodes: here, in processes beside, or on a Ray cluster.

    Args:
        settings: what each worker loads its encoder by.
        encoder: what this process has loaded; workers must have its like.
        workers: how many; by default this process alone, on a cluster what it offers.
        ray: the cluster's address.
    """
    load, origin = partial(load_encoder_on, settings), Origin.of(encoder)
    device = str(encoder.device)
    if ray:
        return RayWorkers(load, origin, device, ray, workers)
    if workers and workers > 1:
        return LocalWorkers(load, origin, device, workers)
    return EncoderHere(encoder)


def load_encoder_on(settings: Settings, device: str) -> Encoder:
    """Load it on another device than the settings name."""
    return load_encoder_of(settings.model_copy(update={"device": device}))


def load_encoder_of(settings: Settings) -> Encoder:
    """Load it; errors are those of `load_encoder`."""
    return load_encoder(
        settings.encoder,
        cache=settings.cache,
        device=settings.device,
        max_tokens=settings.max_tokens,
        cpu_engine=settings.cpu_engine,
        precision=settings.precision,
    )
