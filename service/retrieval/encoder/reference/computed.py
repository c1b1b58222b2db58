"""Computes reference embeddings with sentence-transformers, or takes those that are stored."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.retrieval.checkpoint.adapter import ADAPTER_FILES, merge_adapter, without_adapter
from service.retrieval.checkpoint.checkpoint import Checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.modules.listing import MODULES
from service.retrieval.checkpoint.peft.adapter import merge_peft
from service.retrieval.checkpoint.prompts.prompts import CONFIG, Prompt
from service.retrieval.checkpoint.transformer.library import quiet_transformers
from service.retrieval.encoder.reference.stored import (
    PATH,
    ROLES,
    StoredReference,
    read_reference,
)
from service.retrieval.encoder.reference.texts import reference_texts, texts_digest
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact

LIBRARIES = ("sentence-transformers", "transformers", "torch")
HOW_TO_GET_ONE = (
    "pip install 'clear-search[reference]', or publish the encoder with clear-trainer, which "
    "stores them"
)


def has_library() -> bool:
    """Return whether sentence-transformers is installed."""
    return importlib.util.find_spec("sentence_transformers") is not None


def find_reference(checkpoint: Checkpoint, max_tokens: int | None = None) -> StoredReference:
    """Return the reference embeddings of an encoder: computed if the library is installed.

    Args:
        checkpoint: of the encoder, with the prompts in force.
        max_tokens: length at which texts are truncated; by default the encoder's own limit,
            which the library reads itself.

    Raises:
        CheckpointError: the library is missing, and no embeddings are stored that fit.
    """
    if has_library():
        return compute_reference(checkpoint, max_tokens)
    stored = read_reference(checkpoint.directory)
    if stored is None:
        raise CheckpointError(
            f"sentence-transformers is not installed, and {checkpoint.directory} holds no {PATH}: "
            f"{HOW_TO_GET_ONE}"
        )
    return _that_fit(stored, checkpoint, max_tokens)


def compute_reference(checkpoint: Checkpoint, max_tokens: int | None = None) -> StoredReference:
    """Embed the reference texts with sentence-transformers on the CPU in fp32.

    The library itself reads the prompts that the folder states.

    Args:
        checkpoint: as for `find_reference`.
        max_tokens: as for `find_reference`.
    """
    texts = [text for _, text in reference_texts()]
    embeddings = {}
    with _folder_without_adapters(checkpoint) as folder, quiet_transformers():
        model = _load_model(folder, checkpoint.passage)
    if max_tokens is not None:
        _limit(model, max_tokens)
    if checkpoint.passage.peft:
        merge_peft(model[0].auto_model, checkpoint.passage.peft)
    if checkpoint.trained_for is None:
        prompt, limit = checkpoint.prompts.passage, checkpoint.passage.max_tokens
        embeddings["passage"] = _embed(model, model.encode_document, texts, prompt, limit)
    if checkpoint.query.adapter:
        merge_adapter(model[0].auto_model, checkpoint.query.adapter)
    prompt, limit = checkpoint.prompts.query, checkpoint.query.max_tokens
    embeddings["query"] = _embed(model, model.encode_query, texts, prompt, limit)
    facts = _facts(checkpoint, max_tokens)
    made_by = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return StoredReference(embeddings, {"made_by": made_by, **facts})


@contextmanager
def _folder_without_adapters(checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield a folder with links to the modules, the weights and the tokenizer."""
    peft, directory = checkpoint.peft_folder, checkpoint.directory
    if peft is None:
        with without_adapter(directory) as folder:
            yield folder
        return
    transformer = checkpoint.passage.transformer
    folders = [*([] if transformer.is_relative_to(directory) else [transformer]), directory, peft]
    files = {
        path.name: path
        for folder in folders
        for path in folder.iterdir()
        if path.name not in ADAPTER_FILES
    }
    with artifact.temporary_links(files.values()) as folder:
        yield folder


def _load_model(folder: Path, layout: CheckpointLayout) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    if (folder / MODULES).is_file():
        return SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
        )
    transformer = Transformer(str(folder), model_kwargs={"dtype": torch.float32})
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=str(layout.pooling))
    prompts = {"query": layout.prompts["query"], "document": layout.prompts["passage"]}
    return SentenceTransformer(modules=[transformer, pooling], prompts=prompts, device="cpu")


def _embed(
    model: Any, encode: Any, texts: Sequence[str], prompt: Prompt, limit: int
) -> NDArray[np.float32]:
    """Embed texts, [N, D]; at `limit` tokens if the library's own is over the model's positions."""
    own = {} if prompt.source == CONFIG else {"prompt": prompt.text}
    options = {"normalize_embeddings": True, "show_progress_bar": False, **own}
    try:
        found = encode(list(texts), **options)
    except (IndexError, RuntimeError):  # what torch raises for a position without an embedding
        _limit(model, limit)
        found = encode(list(texts), **options)
    return np.asarray(found, dtype=np.float32)


def _limit(model: Any, max_tokens: int) -> None:
    """Truncate texts at `max_tokens` tokens."""
    for module in model.modules():
        if hasattr(module, "max_seq_length"):
            module.max_seq_length = max_tokens


def _facts(checkpoint: Checkpoint, max_tokens: int | None) -> dict[str, str]:
    limits = [max_tokens or side.max_tokens for side in (checkpoint.query, checkpoint.passage)]
    return {
        "texts_sha256": texts_digest(),
        "max_tokens": " ".join(map(str, limits)),
        "query_fingerprint": checkpoint.query_fingerprint,
        "passage_fingerprint": checkpoint.passage_fingerprint,
    }


def _that_fit(
    stored: StoredReference, checkpoint: Checkpoint, max_tokens: int | None
) -> StoredReference:
    """Return the stored embeddings of those sides whose fingerprint is the encoder's."""
    expected = _facts(checkpoint, max_tokens)
    path = checkpoint.directory / PATH
    for field, fix in (
        ("texts_sha256", "use the program that wrote it, or publish the encoder again"),
        ("max_tokens", "leave CLEAR_MAX_TOKENS out"),
    ):
        if stored.facts[field] != expected[field]:
            raise CheckpointError(
                f"{path}: `{field}` is {stored.facts[field][:16]}, not {expected[field][:16]}: "
                f"{fix}, or pip install 'clear-search[reference]'"
            )
    if damage := stored.damage(len(reference_texts())):
        raise CheckpointError(f"{path} is damaged: {damage}: restore it from a copy or remove it")
    sides = {role: f"{role}_fingerprint" for role in ROLES if role in stored.embeddings}
    fitting = {
        role: stored.embeddings[role]
        for role, field in sides.items()
        if stored.facts[field] == expected[field]
    }
    if not fitting:
        raise CheckpointError(
            f"{path} is of an encoder with other weights or prompts: {HOW_TO_GET_ONE}"
        )
    return StoredReference(fitting, stored.facts)
