"""An encoder as a Sentence Transformers directory that every tool of the field reads.

Two sides become that library's Router: the passage side's files as they are, so that its
fingerprint and all its indexes stay valid, and the query side with its adapter merged.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.layout import LEGACY_POOLING, CheckpointLayout
from service.retrieval.checkpoint.manifest import write_manifest
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.storage import artifact
from trainer.errors import DataError, OutputError
from trainer.publish.model_card import model_card

TRANSFORMER_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "sentence_bert_config.json", "model.safetensors.index.json"),
)
CARD = "README.md"
# The record of what made the weights.
RECORD_FIELDS = ("training", "blend", "metrics", "objective", "data", "seed", "git_commit")
TYPES = {
    "Transformer": "sentence_transformers.models.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Normalize": "sentence_transformers.models.Normalize",
    "Router": "sentence_transformers.models.Router",
}


@dataclass(frozen=True)
class Publication:
    """What a publisher adds to what the checkpoint says of itself."""

    name: str
    license: str | None = None
    results: str = ""  # Markdown
    data_cards: Sequence[Mapping[str, Any]] = ()


def open_sides(name: str, passage_name: str, cache: Path) -> tuple[Checkpoint, Checkpoint]:
    """Open an encoder, and for a query encoder alone the one of its passages.

    Args:
        name: of the encoder to publish.
        passage_name: of the encoder that a query encoder alone was trained for.
        cache: the folder of the bundled encoder.

    Raises:
        CheckpointError: one cannot be used.
        DataError: the two don't belong together.
    """
    query = open_checkpoint(name, cache)
    own = query.fingerprint(query.passage)
    trained_for = str(query.manifest.get("passage_fingerprint", own))
    if trained_for == own:
        return query, query
    passage = open_checkpoint(passage_name, cache)
    found = passage.fingerprint(passage.passage)
    if found != trained_for:
        raise DataError(
            f"{name} encodes queries alone, for passages of the fingerprint {trained_for[:16]}; "
            f"{passage_name} has {found[:16]}: name the right one with --passage-encoder"
        )
    return query, passage


def write_publication(
    query: Checkpoint, passage: Checkpoint, directory: Path, publication: Publication
) -> dict[str, Any]:
    """Write the directory; one that is there must be such a directory, and is replaced as a whole.

    Args:
        query: whose query side encodes queries.
        passage: whose passage side encodes passages; often the same checkpoint.
        directory: where.
        publication: the publisher's facts.

    Returns:
        The manifest.

    Raises:
        CheckpointError: weights cannot be read.
        DataError: no licence is known.
        OutputError: the folder holds something else, or cannot be written.
    """
    if directory.exists() and not (directory / "modules.json").is_file():
        raise OutputError(f"{directory} holds something else: name another folder")
    facts = _facts(query, passage, publication)
    sides = (query.query, passage.passage)
    try:
        with artifact.temporary_directory(directory.parent, ".publishing-") as temporary:
            if query.query is passage.passage:
                _write_one_side(temporary, sides[0])
            else:
                _write_router(temporary, *sides)
            _write_json(temporary / "config_sentence_transformers.json", _library_config(sides))
            card = model_card(query, passage, facts, publication.results, publication.data_cards)
            (temporary / CARD).write_text(card, encoding="utf-8")
            manifest = write_manifest(temporary, **facts)
            shutil.rmtree(directory, ignore_errors=True)
            artifact.publish_directory(temporary, directory)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): name another folder"
        ) from None
    return manifest


def _facts(query: Checkpoint, passage: Checkpoint, publication: Publication) -> dict[str, Any]:
    """Gather the manifest's entries: the publisher's, the training record, the fingerprint."""
    adapter = query.query.adapter
    described = adapter.description if adapter else query.manifest
    license = publication.license or described.get("license") or passage.manifest.get("license")
    if not license:
        raise DataError("the encoder names no licence: give one with --license, such as mit")
    facts = {
        "name": publication.name,
        "license": license,
        "base_model": described.get("base_model") or passage.manifest.get("base_model"),
        "passage_fingerprint": passage.fingerprint(passage.passage),
        **{field: described[field] for field in RECORD_FIELDS if field in described},
    }
    if adapter:
        facts["adapter"] = {"scale": adapter.scale, "weights_sha256": adapter.weights_sha256}
    return {key: value for key, value in facts.items() if value is not None}


def _write_one_side(directory: Path, layout: CheckpointLayout) -> None:
    _write_transformer(directory, layout)
    _write_pooling(directory / "1_Pooling", layout)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write_modules(directory, modules)


def _write_router(directory: Path, query: CheckpointLayout, passage: CheckpointLayout) -> None:
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for route, layout in {"query": query, "document": passage}.items():
        names = {kind: f"{route}_{at}_{kind}" for at, kind in enumerate(("Transformer", "Pooling"))}
        _write_transformer(directory / names["Transformer"], layout)
        _write_pooling(directory / names["Pooling"], layout)
        types |= {name: TYPES[kind] for kind, name in names.items()}
        structure[route] = list(names.values())
    _write_json(
        directory / "router_config.json",
        {
            "types": types,
            "structure": structure,
            "parameters": {"default_route": "document", "allow_empty_key": True},
        },
    )
    _write_modules(directory, [("", "Router"), ("1_Normalize", "Normalize")])


def _write_transformer(directory: Path, layout: CheckpointLayout) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in TRANSFORMER_FILES:
        is_index = name.endswith("index.json") and layout.adapter is not None
        if (layout.transformer / name).is_file() and not is_index:
            shutil.copyfile(layout.transformer / name, directory / name)
    if layout.adapter is None:
        for path in layout.weights:
            shutil.copyfile(path, directory / path.name)
        return
    state = load_model(layout).state_dict()
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _write_pooling(directory: Path, layout: CheckpointLayout) -> None:
    # In the form that old versions read, too; they take the mean where it is not said to be false.
    modes = {key: mode == layout.pooling for key, mode in LEGACY_POOLING.items()}
    directory.mkdir(exist_ok=True)
    _write_json(
        directory / "config.json",
        {"word_embedding_dimension": layout.config["hidden_size"]} | modes,
    )


def _write_modules(directory: Path, modules: Sequence[tuple[str, str]]) -> None:
    content = [
        {"idx": at, "name": str(at), "path": path, "type": TYPES[kind]}
        for at, (path, kind) in enumerate(modules)
    ]
    _write_json(directory / "modules.json", content)


def _library_config(sides: tuple[CheckpointLayout, CheckpointLayout]) -> dict[str, object]:
    query, passage = (side.prompts for side in sides)
    return {
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        # sentence-transformers asks for `document`, other tools for `passage`.
        "prompts": {
            "query": query["query"],
            "document": passage["passage"],
            "passage": passage["passage"],
        },
        "similarity_fn_name": "cosine",
    }


def _write_json(path: Path, content: object) -> None:
    path.write_bytes(artifact.canonical_json(content))
