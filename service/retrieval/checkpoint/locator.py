"""Resolves an encoder's name, such as a folder, a Hub name with its revision or `bundled`."""

from pathlib import Path

from service.retrieval.checkpoint.adapter import DESCRIPTION, is_adapter
from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import is_usable_path, read_json_object
from service.retrieval.storage.hub import HubKind, resolve_path_or_hub_name

# The adapter of the bundled encoder's query side, trained by this project.
BUNDLED_ADAPTER = Path(__file__).parent / "adapters" / "bundled-query"
ENCODERS = HubKind(
    noun="the encoder",
    repository_type="model",
    file_patterns=("*.json", "*.safetensors", "*.model", "vocab.txt", "merges.txt"),
    other_names=(
        "a Sentence Transformers folder, a Hub name with its revision (owner/name@commit), "
        "or `bundled`"
    ),
    error=CheckpointError,
)


def resolve_checkpoint(name: str, cache: Path) -> Path:
    """Return the folder of an encoder's weights; download or write it if need be.

    Args:
        name: `bundled`, `bundled-base`, a folder, or a Hub name with its revision
            (`owner/name@commit`). For a folder that holds only an adapter, the folder of its base
            is returned.
        cache: the folder of the bundled checkpoint; Hub files go to the Hub's own cache.

    Raises:
        CheckpointError: it does not exist, or cannot be downloaded or written.
    """
    if name in (BUNDLED, BUNDLED_BASE):
        return bundled_checkpoint(cache)
    if is_adapter(Path(name)) and not (Path(name) / "modules.json").is_file():
        return _resolve_base(Path(name), cache)
    return resolve_path_or_hub_name(name, ENCODERS)


def resolve_adapter(name: str, directory: Path) -> Path | None:
    """Return the folder of the adapter of an encoder's query side; None if it has none.

    Args:
        name: the encoder's name.
        directory: the folder of its weights, as `resolve_checkpoint` returns it.
    """
    folders = {BUNDLED: [BUNDLED_ADAPTER], BUNDLED_BASE: []}.get(name, [Path(name), directory])
    return next(filter(is_adapter, folders), None)


def _resolve_base(adapter: Path, cache: Path) -> Path:
    base = _base_of(adapter)
    try:
        return resolve_checkpoint(base, cache)
    except CheckpointError as error:
        raise CheckpointError(f"{adapter / DESCRIPTION}: `base`: {error}") from None


def _base_of(adapter: Path) -> str:
    """Return the name of the encoder that an adapter changes: `base`, or else the bundled one."""
    path = adapter / DESCRIPTION
    base = read_json_object(path, CheckpointError).get("base", BUNDLED_BASE)
    if not isinstance(base, str) or not is_usable_path(base) or is_adapter(Path(base)):
        raise CheckpointError(
            f"{path}: `base` is not the name of an encoder without an adapter: name a Sentence "
            "Transformers folder, a Hub name with its revision, or `bundled-base`"
        )
    return base
