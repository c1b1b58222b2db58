"""Components by the settings: the encoder, the options of the index, what encodes a build."""

from functools import partial

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.choice import choose_here
from service.retrieval.encoder.runtime.cpu import Choice, choice_of
from service.retrieval.errors import DeviceError
from service.retrieval.hardware import resolve_device
from service.retrieval.index.options import IndexOptions, MilvusOptions
from service.retrieval.indexing.local_workers import LocalWorkers
from service.retrieval.indexing.ray_workers import RayWorkers
from service.retrieval.indexing.shards import InProcessEncoder, ShardEncoder
from service.retrieval.remote.mirror import Mirror
from service.settings.settings import Settings


def shard_encoder_of(
    settings: Settings, encoder: Encoder, workers: int | None, ray: str | None
) -> ShardEncoder:
    """Return what encodes a build: this process, local worker processes, or a Ray cluster.

    Args:
        settings: each worker loads its encoder by these.
        encoder: the encoder of this process; the workers' encoders must be identical to it.
        workers: their number; by default this process alone, or all that the cluster offers.
        ray: address of the cluster.
    """
    load, identity = partial(load_encoder_on, settings), EncoderIdentity.of(encoder)
    device = str(encoder.device)
    if ray:
        return RayWorkers(load, identity, device, ray, workers)
    if workers and workers > 1:
        return LocalWorkers(load, identity, device, workers)
    return InProcessEncoder(encoder, is_kept=False)


def load_encoder_on(settings: Settings, device: str) -> Encoder:
    """Load the encoder on another device than the settings name."""
    return load_encoder_of(settings.model_copy(update={"device": device}))


def settings_for_update(settings: Settings, runtime: str | None) -> Settings:
    """Return settings with the runtime that embedded an index in place of `auto`.

    New vectors then equal those of a build, and all others are reused. A setting that names
    another engine or precision counts more, and so does a GPU.

    Args:
        settings: of the service.
        runtime: the runtime's name in the index's manifest.

    Raises:
        DeviceError: this machine cannot run it.
    """
    choice = _choice_left_open(settings, runtime)
    if choice is None:
        return settings
    try:
        choose_here(choice.engine, choice.precision)
    except DeviceError as error:
        raise DeviceError(
            f"the index was embedded by {runtime}, which does not run here: {error}; or set "
            "CLEAR_CPU_ENGINE and CLEAR_PRECISION to what does, to embed every passage again"
        ) from None
    return settings.model_copy(update={"cpu_engine": choice.engine, "precision": choice.precision})


def _choice_left_open(settings: Settings, runtime: str | None) -> Choice | None:
    """Return the engine and precision of a runtime, if the settings do not say another."""
    choice = choice_of(runtime or "")
    if choice is None or resolve_device(settings.device).type != "cpu":
        return None
    named = {(settings.cpu_engine, choice.engine), (settings.precision, choice.precision)}
    return choice if all(setting in ("auto", found) for setting, found in named) else None


def load_encoder_of(settings: Settings, passage_runtime: str | None = None) -> Encoder:
    """Load the encoder that the settings name; raises as `load_encoder`.

    Args:
        settings: of the service.
        passage_runtime: replaces `auto` for a passage side of its own, if it runs here: the
            runtime that embedded the index, to which changes are made.
    """
    choice = _choice_left_open(settings, passage_runtime)
    if choice is not None:
        try:
            choose_here(choice.engine, choice.precision)
        except DeviceError:
            choice = None
    return load_encoder(
        settings.encoder,
        cache=settings.cache,
        device=settings.device,
        max_tokens=settings.max_tokens,
        cpu_engine=settings.cpu_engine,
        precision=settings.precision,
        query_prompt=settings.query_prompt,
        passage_prompt=settings.passage_prompt,
        pooling=settings.pooling,
        passage_choice=choice,
    )


def checkpoint_of(settings: Settings) -> Checkpoint:
    """Find the encoder's files by the settings; no weights are loaded."""
    return open_checkpoint(
        settings.encoder,
        settings.cache,
        settings.query_prompt,
        settings.passage_prompt,
        settings.pooling,
    )


def index_options_of(settings: Settings, encoder: Encoder | None = None) -> IndexOptions:
    """Return how to open the index, by default on the encoder's device."""
    return IndexOptions(
        device=settings.index_device or (str(encoder.device) if encoder else "cpu"),
        backend=settings.index_backend,
        nprobe=settings.nprobe,
        ef_search=settings.ef_search,
        milvus=milvus_options_of(settings),
    )


def mirror_of(settings: Settings) -> Mirror | None:
    """Return the mirror of an index at a URL, or None if the settings name a folder or nothing."""
    folder = settings.index_folder
    return Mirror(settings.index, folder) if isinstance(settings.index, str) and folder else None


def milvus_options_of(settings: Settings) -> MilvusOptions | None:
    """Return how to connect to Milvus, or None if the settings name no server."""
    if settings.milvus_uri is None:
        return None
    token = settings.milvus_token
    return MilvusOptions(
        uri=settings.milvus_uri,
        token=token.get_secret_value() if token else "",
        database=settings.milvus_database,
        index_type=settings.milvus_index_type,
        prefix=settings.milvus_prefix,
        ca_file=str(settings.milvus_ca_file or ""),
        client_certificate_file=str(settings.milvus_client_certificate_file or ""),
        client_key_file=str(settings.milvus_client_key_file or ""),
        timeout_seconds=settings.milvus_timeout_seconds,
    )
