"""Calls of transformers: what it raises for files that it cannot use, and its output suppressed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

LOADING_ERRORS = (
    *(SafetensorError, StrictDataclassError, OSError, ImportError, MemoryError),
    *(ValueError, LookupError, RuntimeError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError),
)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress the library's progress bars, warnings and loading report; errors still raise."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
