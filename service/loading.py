"""The encoder that the settings ask for."""

from service.retrieval.checkpoint import load_encoder
from service.retrieval.encoder import Encoder
from service.settings import Settings


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
