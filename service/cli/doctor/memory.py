"""The account of `clear-service doctor --memory`: what each part of a service takes."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from service.cli.doctor.examine import Finding
from service.cli.options import pulled_index_folder
from service.process import configure_allocator, trim_memory
from service.retrieval.mapped_files import resident_bytes_by_mapping
from service.settings.settings import Settings

MEBIBYTE = 2**20


class Account:
    """The resident memory after each step of a start."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._last = 0

    def entry(self, part: str) -> Finding:
        """Return what a part took since the last entry, and what the process takes."""
        trim_memory()
        resident = sum(resident_bytes_by_mapping().values())
        grown, self._last = resident - self._last, resident
        return Finding(f"memory: {part}", f"{_mib(grown)}, in all {_mib(resident)}")


def examine_memory(settings: Settings) -> Iterator[Finding]:
    """Load what a service with these settings loads, and measure what each part takes.

    Raises:
        RetrievalError: the encoder or the index cannot be used.
    """
    configure_allocator()
    account = Account()
    yield account.entry("Python")
    import_module("service.app")
    from service.components import index_options_of, load_encoder_of
    from service.engine.language import LanguageDetector
    from service.lifespan import limits_of
    from service.retrieval.encoder.runtime.on_demand import load
    from service.retrieval.generation.generation import open_current

    yield account.entry("libraries")
    languages = LanguageDetector(settings.cache)
    yield account.entry("language detector")
    encoder = load_encoder_of(settings)
    yield account.entry("encoder of queries, with its tokenizer")
    max_batch_tokens = limits_of(settings, encoder.device.type).max_batch_tokens
    encoder.warm_up(max_batch_tokens)
    yield account.entry("its largest batches")
    if settings.index is not None:
        folder = pulled_index_folder(settings)
        generation = open_current(folder, index_options_of(settings, encoder))
        count = len(generation.passages)
        yield account.entry(f"index of {count:,} passage{'s' if count != 1 else ''}")
    if encoder.has_two_sides:
        load(encoder.side("passage").runtime)
        encoder.warm_up(max_batch_tokens)
        yield account.entry("encoder of passages, once a text of them has come")
    yield _by_content()
    del languages


def _by_content() -> Finding:
    """Return the resident memory by content: own, of libraries and of data files."""
    parts = {"own": 0, "programs and libraries": 0, "data files": 0}
    for path, resident in resident_bytes_by_mapping().items():
        is_library = ".so" in Path(path).name or "/bin/" in path
        other = "programs and libraries" if is_library else "data files"
        parts[other if path.startswith("/") else "own"] += resident
    found = ", ".join(f"{name} {_mib(resident)}" for name, resident in parts.items())
    return Finding("memory by content", found)


def _mib(number: int) -> str:
    return f"{number / MEBIBYTE:,.0f} MiB"
