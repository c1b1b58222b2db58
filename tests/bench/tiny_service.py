"""A random two-layer encoder and its index, as files that a server process can open."""

from pathlib import Path

from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.indexing.build import build_index
from tests.conftest import PASSAGES, make_checkpoint, write_passages


def tiny_service(directory: Path) -> tuple[Path, dict[str, str]]:
    """Create encoder and index once; return the index and the settings of the service."""
    encoder, index = directory / "encoder", directory / "index"
    if not (index / "CURRENT").is_file():
        make_checkpoint(encoder)
        passages = write_passages(directory / "passages.jsonl", PASSAGES)
        build_index(read_passages(passages), index, load_encoder(str(encoder), device="cpu"))
    return index, {
        "CLEAR_ENCODER": str(encoder),
        "CLEAR_CPU_ENGINE": "torch",
        "CLEAR_PRECISION": "fp32",
    }
