"""Resolves an encoder's name, such as a folder, a Hub name with its revision or `bundled`."""

from dataclasses import dataclass, replace
from pathlib import Path

from service.retrieval.checkpoint.adapter import DESCRIPTION, PEFT_CONFIG, is_adapter
from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.checkpoint.modules.listing import MODULES, read_modules
from service.retrieval.checkpoint.peft.config import is_peft, read_peft_config
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.checkpoint.transformer.weight_files import has_weights
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
LOCAL_BASE = "`base_model_name_or_path` to a local folder"


@dataclass(frozen=True)
class Location:
    """The folders of an encoder.

    Attributes:
        directory: the modules and, unless `base` is named, the weights.
        adapter: the folder of an adapter of those weights, if any; it may be `directory`.
        base: the folder of the transformer that an adapter in `directory` changes.
    """

    directory: Path
    adapter: Path | None = None
    base: Path | None = None


def locate_encoder(name: str, cache: Path) -> Location:
    """Find the folders of an encoder; download or write them if need be.

    Args:
        name: `bundled`, `bundled-base`, a folder, or a Hub name with its revision
            (`owner/name@commit`).
        cache: the folder of the bundled checkpoint; Hub files go to the Hub's own cache.

    Raises:
        CheckpointError: one does not exist, or cannot be downloaded or written.
    """
    if name in (BUNDLED, BUNDLED_BASE):
        adapter = BUNDLED_ADAPTER if name == BUNDLED else None
        return Location(bundled_checkpoint(cache), adapter)
    folder = resolve_path_or_hub_name(name, ENCODERS)
    if not _holds_adapter(folder):
        return Location(folder)
    if not (folder / MODULES).is_file():
        is_whole = has_weights(folder)
        return Location(folder if is_whole else _resolve_base(folder, cache), folder)
    modules = read_modules(folder)[1]
    if is_peft(folder) and not (modules and has_weights(modules[0].folder)):
        base = _resolve_base(folder, cache)
        is_encoder = (base / MODULES).is_file()
        return Location(folder, folder, read_layout(base).transformer if is_encoder else base)
    return Location(folder, folder)


def _resolve_base(adapter: Path, cache: Path) -> Path:
    """Return the folder of the encoder that an adapter changes.

    A relative path is one from the current folder or, where there is none, from the adapter's.
    """
    if is_adapter(adapter):
        path, field, kind = adapter / DESCRIPTION, "base", ENCODERS
        base = name = read_json_object(path, CheckpointError).get("base", BUNDLED_BASE)
    else:
        path, field, kind = adapter / PEFT_CONFIG, "base_model_name_or_path", _peft_bases()
        config = read_peft_config(adapter)
        base, name = config.base_model_name_or_path, config.base
    refusal = CheckpointError(
        f"{path}: `{field}` is not the name of an encoder without an adapter: name a Sentence "
        "Transformers folder, a Hub name with its revision, or `bundled-base`"
    )
    if not isinstance(base, str) or not is_usable_path(base):
        raise refusal
    if base in (BUNDLED, BUNDLED_BASE):
        return bundled_checkpoint(cache)
    folders = (folder for folder in (Path(base), adapter / base) if folder.is_dir())
    try:
        folder = next(folders, None) or resolve_path_or_hub_name(name, kind)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: `{field}`: {error}") from None
    if _holds_adapter(folder):
        raise refusal
    return folder


def _peft_bases() -> HubKind:
    """Return the kind of repository that `adapter_config.json` names by two fields."""
    return replace(
        ENCODERS,
        other_names=f"it by its Hub name, with the commit as `revision`, or set {LOCAL_BASE}",
        how_to_pin=f"set `revision` in {PEFT_CONFIG} to the commit, or {LOCAL_BASE}",
    )


def _holds_adapter(folder: Path) -> bool:
    return is_adapter(folder) or is_peft(folder)
