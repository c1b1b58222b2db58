"""What the commands that write an index print: what they did, or what an interruption leaves."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.retrieval.corpus.duplicates import Duplicates
    from service.retrieval.generation.manifest import GenerationManifest
    from service.retrieval.indexing.build import BuildReport

MAX_NAMED = 20
NOTHING_WRITTEN = "interrupted: nothing was written"


def what_is_kept(index: Path) -> "Callable[[], str]":
    """Return a function that says, at the end of an interrupted build, what it leaves."""
    from service.retrieval.generation.generation import CURRENT
    from service.retrieval.generation.history import UNFINISHED

    def describe() -> str:
        has_live, has_shards = (index / CURRENT).exists(), any((index / UNFINISHED).glob("[!.]*"))
        live = "the live generation is unchanged" if has_live else "no index was written"
        return f"interrupted: {live}{', the encoded shards are kept' if has_shards else ''}"

    return describe


def live_manifest(index: Path) -> "GenerationManifest | None":
    """Return the manifest of the live generation; None if there is none that can be read."""
    from service.retrieval.errors import GenerationError
    from service.retrieval.generation.generation import current_name, generations_directory
    from service.retrieval.generation.manifest import read_manifest

    try:
        return read_manifest(generations_directory(index) / current_name(index))
    except GenerationError:
        return None


def print_replaced(before: "GenerationManifest | None", report: "BuildReport") -> None:
    """Print what a build replaced, and whether the generation before had evidence that it lacks."""
    from service.retrieval.generation.manifest import EVIDENCE, generation_name, read_manifest

    if before is None or generation_name(before.to_bytes()) == report.directory.name:
        return
    out = console.stderr_console()
    passages = console.count_of(before.count, "passage")
    line = (
        f"it replaces a generation of {passages}: what only that had, such as documents put by "
        "changes, is not in it; clear-service index rollback makes that live again"
    )
    out.print(line, markup=False, soft_wrap=True)
    if EVIDENCE in before.files and EVIDENCE not in read_manifest(report.directory).files:
        line = "the generation before had evidence: give --evidence to keep it"
        out.print(line, markup=False, soft_wrap=True)


def print_report(
    report: "BuildReport",
    num_skipped: int,
    as_json: bool,
    duplicates: "Duplicates | None" = None,
    before: Path | None = None,
) -> None:
    """Print what a build, an update or an apply did.

    Args:
        report: of the generation.
        num_skipped: invalid passages.
        as_json: print JSON.
        duplicates: of a whole corpus.
        before: the generation, verified, whose passages count as removed where this one has none
            of their ids.
    """
    from service.retrieval.generation.manifest import read_manifest
    from service.retrieval.indexing.reuse import count_removed, empty_fields

    manifest = read_manifest(report.directory)
    empty = empty_fields(report.directory, manifest)
    num_removed = count_removed(before, report.directory) if before else 0
    if as_json:
        facts = {
            "generation": report.directory.name,
            "passages": report.counts.num_passages,
            **({"documents": manifest.num_documents} if manifest.num_documents else {}),
            "truncated": report.counts.num_truncated,
            "reused": report.counts.num_reused,
            "encoded": report.counts.num_encoded,
            **({"removed": num_removed} if before else {}),
            "skipped": num_skipped,
            "unembedded": report.counts.num_unembedded,
            **({"duplicates": asdict(duplicates)} if duplicates and duplicates.count else {}),
            **({"empty_fields": empty} if empty else {}),
        }
        typer.echo(json.dumps(facts))
        return
    lines = [*_counts(report, num_skipped, manifest.num_documents)]
    if num_removed:
        before_it = "of the generation before"
        removed = f"passage {before_it} was removed", f"passages {before_it} were removed"
        lines.append(console.count_of(num_removed, *removed))
    if duplicates and duplicates.count:
        lines.append(describe_duplicates(duplicates, is_folded=bool(manifest.deduplicate)))
    if empty:
        lines.append(
            f"no passage has the declared field {', '.join(empty)}: correct its name in --field, "
            "or leave it out"
        )
    out = console.stderr_console()
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _counts(report: "BuildReport", num_skipped: int, num_documents: int | None) -> "Iterator[str]":
    """Yield lines that say what was embedded, truncated, and left out."""
    from service.retrieval.indexing.reuse import truncated_ids

    counts = report.counts
    of_documents = console.count_of(num_documents or 0, "document")
    yield (
        f"generation {report.directory.name}: {console.count_of(counts.num_passages, 'passage')}"
        f"{f' of {of_documents}' if num_documents else ''}, "
        f"{counts.num_encoded} embedded, {counts.num_reused} reused"
    )
    if counts.num_truncated:
        names = ", ".join(truncated_ids(report.directory, MAX_NAMED))
        more = ", ..." if counts.num_truncated > MAX_NAMED else ""
        were = console.count_of(counts.num_truncated, "passage was", "passages were")
        yield f"{were} truncated at the encoder's token limit: {names}{more}"
    if num_skipped:
        were = console.count_of(num_skipped, "invalid passage was", "invalid passages were")
        yield f"{were} skipped"
    if counts.num_unembedded:
        yield f"{counts.num_unembedded} of them got no unit vector from the encoder"


def describe_duplicates(duplicates: "Duplicates", is_folded: bool) -> str:
    """Return lines that say how many documents repeat a text, and which ones do, with origins."""
    effect = "answers fold them" if is_folded else "--deduplicate folds them in answers"
    named = [
        f"  {each.document_id} ({each.origin}) repeats {each.first_id} ({each.first_origin})"
        for each in duplicates.named
    ]
    more = ["  ..."] if duplicates.count > len(duplicates.named) else []
    repeat = console.count_of(duplicates.count, "document repeats", "documents repeat")
    head = f"{repeat} the text of another one ({effect}):"
    return "\n".join([head, *named, *more])
