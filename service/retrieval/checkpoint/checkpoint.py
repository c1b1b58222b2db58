"""Opens checkpoints: locates an encoder's files, verifies their hashes, loads no weights."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import DESCRIPTION, PEFT_CONFIG, check_base, is_adapter
from service.retrieval.checkpoint.adapter_files import read_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.locator import locate_encoder
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import (
    CheckpointManifest,
    fingerprint_parts,
    hash_parts,
    verify_manifest,
)
from service.retrieval.checkpoint.modules.library_config import read_library_config
from service.retrieval.checkpoint.peft.adapter import read_peft_adapter
from service.retrieval.checkpoint.peft.config import is_peft
from service.retrieval.checkpoint.prompts.families import find_family
from service.retrieval.checkpoint.prompts.prompts import Prompts, Side, own_prompts
from service.retrieval.checkpoint.sides import read_sides
from service.retrieval.checkpoint.transformer.tokenizer_config import read_tokenizer_config
from service.retrieval.checkpoint.transformer.tokenizer_files import (
    find_tokenizer,
    resolve_tokenizer,
    sources_of,
)
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.language_quality import LanguageRecord


@dataclass(frozen=True)
class Checkpoint:
    """The verified files of an encoder: a layout for each side, one object if it has one side.

    `own_prompts` are the encoder's, of its folder or its family; `prompts` are those in force.
    """

    name: str
    directory: Path
    manifest: CheckpointManifest | None
    query: CheckpointLayout
    passage: CheckpointLayout
    own_prompts: Prompts
    prompts: Prompts

    def fingerprint(self, layout: CheckpointLayout) -> str:
        """Return the fingerprint of a side's files, whatever prompts are in force."""
        return hash_parts(self._query_parts if layout is self.query else self._passage_parts)

    @property
    def query_fingerprint(self) -> str:
        """Return the fingerprint of the queries, with their prompt."""
        return self._with_prompt("query", self.prompts.query.text)

    @cached_property
    def passage_fingerprint(self) -> str:
        """Return the fingerprint of the passages that this encoder's queries search.

        It is the fingerprint of this encoder's passage side unless the manifest names another:
        a query encoder that was trained for another encoder's passages.
        """
        return self.trained_for or self.passage_fingerprint_with(self.prompts.passage.text)

    @cached_property
    def trained_for(self) -> str | None:
        """Return the fingerprint of the passages of another encoder, if it encodes only queries."""
        stated = self.manifest.passage_fingerprint if self.manifest else None
        return stated if stated != self.own_passage_fingerprint else None

    @property
    def own_passage_fingerprint(self) -> str:
        """Return the fingerprint of the passage side with its own prompt."""
        return self.passage_fingerprint_with(self.own_prompts.passage.text)

    @property
    def fingerprint_prompts(self) -> dict[str, str]:
        """Return the prompts that the fingerprint of the passage side starts from."""
        return dict(self._passage_parts["prompts"])

    def passage_fingerprint_with(self, prompt: str) -> str:
        """Return the fingerprint of the passage side with a prompt of passages."""
        return self._with_prompt("passage", prompt)

    def _with_prompt(self, side: Side, prompt: str) -> str:
        # A prompt that is not the folder's enters the fingerprint of its own side only: another
        # prompt of queries leaves the passages, and their indexes, as they are.
        parts = self._query_parts if side == "query" else self._passage_parts
        return hash_parts(parts | {"prompts": parts["prompts"] | {side: prompt}})

    @cached_property
    def _query_parts(self) -> dict[str, Any]:
        if self.query is self.passage:
            return self._passage_parts
        return fingerprint_parts(self.directory, self.query, self.manifest)

    @cached_property
    def _passage_parts(self) -> dict[str, Any]:
        parts = fingerprint_parts(self.directory, self.passage, self.manifest)
        kept = self.manifest.fingerprint_prompts if self.manifest else None
        return parts | {"prompts": kept} if kept else parts

    @property
    def peft_folder(self) -> Path | None:
        """Return the folder of an adapter that changes both sides, if there is one."""
        return self.query.peft.weights.parent if self.query.peft else None

    @property
    def facts(self) -> dict[str, Any]:
        """Return license, base model and training record, from the adapter or else the manifest."""
        described = self.query.adapter.description if self.query.adapter else self.manifest
        return described.facts if described else {}

    @property
    def languages(self) -> LanguageRecord | None:
        """Return the measured quality by language, if it was recorded for these very weights."""
        described = self.query.adapter.description if self.query.adapter else self.manifest
        return described.languages if described and not self.query.peft else None


def open_checkpoint(
    name: str,
    cache: Path,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    pooling: str | None = None,
) -> Checkpoint:
    """Find an encoder's files and verify their hashes; no weights are loaded.

    Args:
        name: `bundled`, `bundled-base`, a folder, or `owner/name@commit`.
        cache: the folder of the bundled checkpoint.
        query_prompt: replaces the encoder's own prompt of queries; None leaves it.
        passage_prompt: replaces the encoder's own prompt of passages; None leaves it.
        pooling: the mode for a folder without `modules.json`, as transformers saves it.

    Raises:
        CheckpointError: the files are missing, altered or not supported, or `passage_prompt` is
            given for an encoder of queries alone.
    """
    location = locate_encoder(name, cache)
    directory, adapter = location.directory, location.adapter
    try:
        manifest = verify_manifest(directory)
    except CheckpointError as error:
        if name not in (BUNDLED, BUNDLED_BASE):
            raise
        raise CheckpointError(f"{error}; or delete {directory}: it is written again") from None
    own_name = manifest.name if manifest else None
    known_as = name if name in (BUNDLED, BUNDLED_BASE) else own_name or name
    sides = read_sides(directory, pooling, location.base)
    if adapter and is_peft(adapter):
        sides = _with_peft(sides, adapter, directory)
        known_as = f"{own_name}+{adapter.name}" if own_name and adapter != directory else known_as
    sides = _with_tokenizers(*sides, cache)
    prompts = _own_prompts(directory, sides[1])
    checkpoint = Checkpoint(known_as, directory, manifest, *sides, prompts, prompts)
    if adapter and is_adapter(adapter):
        checkpoint = _with_adapter(checkpoint, adapter)
    if checkpoint.query is not checkpoint.passage:
        _check_sides(checkpoint)
    if passage_prompt is not None and checkpoint.trained_for:
        raise CheckpointError(
            f"the encoder {known_as} encodes queries alone: leave CLEAR_PASSAGE_PROMPT out"
        )
    return replace(checkpoint, prompts=prompts.overridden(query_prompt, passage_prompt))


def _own_prompts(directory: Path, layout: CheckpointLayout) -> Prompts:
    family = find_family(directory, layout.config)
    return own_prompts(layout.prompts, read_library_config(directory).named_prompts, family)


def _with_peft(
    sides: tuple[CheckpointLayout, CheckpointLayout], folder: Path, directory: Path
) -> tuple[CheckpointLayout, CheckpointLayout]:
    """Return the layout with an adapter of both sides, and with the adapter's own tokenizer."""
    layout = sides[0]
    if layout is not sides[1]:
        raise CheckpointError(
            f"{folder / PEFT_CONFIG}: the encoder {directory} has a query side of its own: use the "
            "adapter with the base that it was trained on"
        )
    layout = replace(layout, peft=read_peft_adapter(folder))
    if sources_of(folder):
        layout = replace(
            layout,
            tokenizer=find_tokenizer(folder),
            tokenizer_config=read_tokenizer_config(folder),
        )
    return layout, layout


def _with_tokenizers(
    query: CheckpointLayout, passage: CheckpointLayout, cache: Path
) -> tuple[CheckpointLayout, CheckpointLayout]:
    """Return the layouts with the tokenizers' files that are read; one object for one side."""

    def resolved(layout: CheckpointLayout) -> CheckpointLayout:
        model = layout.transformer / "config.json"
        path = resolve_tokenizer(
            layout.tokenizer,
            layout.tokenizer_config,
            model,
            cache,
            lower_case=layout.lower_case,
        )
        if path == layout.tokenizer:
            return layout
        sources = sources_of(layout.tokenizer.parent)
        return replace(layout, tokenizer=path, tokenizer_sources=sources)

    own = resolved(passage)
    return (own if query is passage else resolved(query), own)


def _with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    adapter = read_adapter(folder)
    if checkpoint.query is not checkpoint.passage:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: the encoder {checkpoint.directory} has a query side of its "
            "own: use the adapter with the base that it was trained on"
        )
    fingerprints = (checkpoint.query_fingerprint, checkpoint.passage_fingerprint)
    check_base(adapter, *fingerprints, str(checkpoint.directory))
    base = checkpoint.manifest.name if checkpoint.manifest else None
    name = adapter.description.name or (f"{base}+{folder.name}" if base else checkpoint.name)
    if checkpoint.name == BUNDLED:
        name = BUNDLED
    return replace(checkpoint, name=name, query=replace(checkpoint.query, adapter=adapter))


def _check_sides(checkpoint: Checkpoint) -> None:
    """Refuse two sides of different sizes, or a manifest with another passage fingerprint."""
    if stated := checkpoint.trained_for:
        found = checkpoint.own_passage_fingerprint
        raise CheckpointError(
            f"{checkpoint.directory / MANIFEST}: `passage_fingerprint` is {quoted(stated[:16])}, "
            f"the passage side has {found[:16]}: restore the folder from a copy"
        )
    sizes = [layout.embedding_dim for layout in (checkpoint.query, checkpoint.passage)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{checkpoint.directory}: the query side has {quoted(sizes[0])} dimensions, the "
            f"passage side {quoted(sizes[1])}: use a checkpoint whose sides have the same number"
        )
