"""Reads the layouts of a folder's two sides, from JSON files alone.

Weights are neither loaded nor hashed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import is_adapter, refuse_undescribed_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.modules.head import check_inputs, read_head_module
from service.retrieval.checkpoint.modules.library_config import (
    LIBRARY_CONFIG,
    check_similarity,
    read_library_config,
)
from service.retrieval.checkpoint.modules.listing import (
    MODULES,
    ModuleEntry,
    read_modules,
    split_modules,
)
from service.retrieval.checkpoint.modules.pooling import Pooling, parse_pooling, read_pooling
from service.retrieval.checkpoint.peft.config import is_peft
from service.retrieval.checkpoint.transformer.config import FIX
from service.retrieval.checkpoint.transformer.sentence_config import read_sentence_config
from service.retrieval.checkpoint.transformer.token_limit import read_token_limit
from service.retrieval.checkpoint.transformer.tokenizer_config import (
    GENERIC_CLASSES,
    TokenizerConfig,
    read_tokenizer_config,
)
from service.retrieval.checkpoint.transformer.tokenizer_files import find_tokenizer, sources_of
from service.retrieval.checkpoint.transformer.weight_files import find_weights
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object

STATIC_WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
# sentence-transformers has no limit here; a service needs one.
STATIC_MAX_TOKENS = 8192


def read_layout(directory: Path) -> CheckpointLayout:
    """Read the layout of a checkpoint's passage side.

    Raises:
        CheckpointError: a file is missing, or needs what is not supported (an unknown module,
            pickled weights, remote code).
    """
    return read_sides(directory)[1]


def read_sides(
    directory: Path, pooling: str | None = None, base: Path | None = None
) -> tuple[CheckpointLayout, CheckpointLayout]:
    """Read the layouts of the query side and the passage side.

    Args:
        directory: the checkpoint.
        pooling: the mode for a folder without `modules.json`, as transformers saves it.
        base: the folder of the transformer, if the checkpoint holds only an adapter of it.

    Returns:
        Two layouts, which are the same object if the checkpoint has one side.

    Raises:
        CheckpointError: as `read_layout`; or `pooling` is needed, or contradicts the checkpoint.
    """
    _check_directory(directory)
    if (directory / MODULES).is_file():
        query, passage = (
            _read_side(directory, modules, base) for modules in read_modules(directory)
        )
        _check_pooling(directory, pooling, query, passage)
        return (passage, passage) if query == passage else (query, passage)
    if pooling is None:
        raise CheckpointError(
            f"{directory / MODULES} is missing: {directory} is not a Sentence Transformers folder; "
            "name one, save it as one with sentence-transformers, or, to serve it as transformers "
            "saved it, set CLEAR_POOLING=mean, cls or lasttoken, as the encoder's author says"
        )
    layout = _read_transformer(directory, directory, parse_pooling(pooling))
    return layout, layout


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(
            f"the encoder {directory} is not a folder: name a Sentence Transformers folder, "
            "a Hub name with its revision (owner/name@commit), or `bundled`"
        )
    refuse_undescribed_adapter(directory)
    if not any((directory / name).is_file() for name in (MODULES, "config.json")):
        raise CheckpointError(
            f"{directory} is no encoder: it has neither {MODULES} nor config.json: name a Sentence "
            "Transformers folder, or unpack the archive that holds it"
        )


def _check_pooling(directory: Path, pooling: str | None, *sides: CheckpointLayout) -> None:
    """Refuse a setting that contradicts the checkpoint."""
    found = {str(side.pooling) for side in sides}
    if pooling is not None and found != {pooling}:
        raise CheckpointError(
            f"CLEAR_POOLING={pooling} is not the pooling that {directory / MODULES} leads to, "
            f"{' and '.join(sorted(found))}: leave the setting out"
        )


def _read_side(directory: Path, modules: list[ModuleEntry], base: Path | None) -> CheckpointLayout:
    if modules and modules[0].kind == "StaticEmbedding":
        layout, head = _read_static(directory, modules[0].folder), modules[1:]
    else:
        transformer, pooling, head = split_modules(directory, modules)
        layout = _read_transformer(directory, transformer, read_pooling(pooling), base)
    layout = replace(layout, head=tuple(map(read_head_module, head)))
    check_inputs(layout.head)
    library = read_library_config(directory)
    check_similarity(library, directory / LIBRARY_CONFIG, is_unit=layout.is_unit)
    return layout


def _read_transformer(
    directory: Path, own: Path, pooling: Pooling, base: Path | None = None
) -> CheckpointLayout:
    transformer = base or own
    config = read_json_object(transformer / "config.json", CheckpointError)
    if "auto_map" in config and not _is_built_in(config):
        raise CheckpointError(
            f"{transformer / 'config.json'} asks for remote code (auto_map), which is never run: "
            "name an encoder of an architecture that transformers has built in"
        )
    if own != directory and (is_adapter(own) or is_peft(own)):
        raise CheckpointError(
            f"{own} holds an adapter, which is read beside modules.json only: move its "
            f"files to {directory}"
        )
    sentence = read_sentence_config(own)
    reader = own if sources_of(own) else transformer
    settings = read_tokenizer_config(reader)
    library = read_library_config(directory)
    return CheckpointLayout(
        transformer=transformer,
        weights=find_weights(transformer),
        tokenizer=find_tokenizer(reader),
        config=config,
        pooling=pooling,
        prompts=library.prompts_by_role,
        max_tokens=read_token_limit(transformer, config, sentence, settings),
        tokenizer_config=settings,
        lower_case=bool(sentence.do_lower_case),
        truncate_dim=library.truncate_dim,
    )


def _is_built_in(config: dict[str, Any]) -> bool:
    """Return whether transformers has the architecture of a `config.json` built in."""
    from transformers import CONFIG_MAPPING  # takes a second, which only such a config costs

    return config.get("model_type") in CONFIG_MAPPING


def _read_static(directory: Path, folder: Path) -> CheckpointLayout:
    """Read a StaticEmbedding, whose texts have no special tokens and no limit of their own."""
    for name in (STATIC_WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing: save the encoder again with sentence-transformers"
            )
    truncation = read_json_object(folder / TOKENIZER, CheckpointError).get("truncation")
    limit = truncation.get("max_length") if isinstance(truncation, dict) else None
    if limit is not None and (type(limit) is not int or limit < 1):
        raise CheckpointError(
            f"{folder / TOKENIZER}: `max_length` of `truncation` is not a whole number over 0: "
            f"{FIX}"
        )
    library = read_library_config(directory)
    return CheckpointLayout(
        transformer=folder,
        weights=(folder / STATIC_WEIGHTS,),
        tokenizer=folder / TOKENIZER,
        config={},
        pooling=Pooling(("mean",)),
        prompts=library.prompts_by_role,
        max_tokens=limit or STATIC_MAX_TOKENS,
        tokenizer_config=TokenizerConfig(tokenizer_class=GENERIC_CLASSES[0]),  # read as it is
        lower_case=False,
        truncate_dim=library.truncate_dim,
        is_static=True,
    )
