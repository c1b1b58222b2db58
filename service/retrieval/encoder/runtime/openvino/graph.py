"""The cache of exported graphs: a checkpoint's transformer in OpenVINO's format, exported once.

The graph starts after the embedding table. The table holds four fifths of the bundled encoder's
bytes and needs no matrix product: its rows are read from the checkpoint's own file, which is mapped
into memory, so that only the rows that texts use are loaded.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock
from torch import Tensor

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.encoder.runtime.openvino.table import TablePlace, find_table, map_table
from service.retrieval.errors import CheckpointError
from service.retrieval.storage import artifact, checksums

GRAPH = "graph.xml"  # with the weights in graph.bin
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
MAKING = ".making-"
# Writes a graph's files to an empty folder; returns the name of the table's tensor.
Exporter = Callable[[Path], str]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graph:
    """A graph on disk with its embedding table, [V, H]."""

    directory: Path
    table: Tensor
    table_place: TablePlace

    @property
    def path(self) -> Path:
        """Return the graph's file: `inputs_embeds` [B, L, H] and `attention_mask` [B, L] in,
        `hidden` [B, L, H] out.
        """
        return self.directory / GRAPH

    @property
    def weight_bytes(self) -> int:
        """Return the size of the weights after the table."""
        return self.path.with_suffix(".bin").stat().st_size

    def sharing_table(self, other: "Graph") -> "Graph":
        """Return this graph with another's table if the two are equal, so that memory holds one."""
        is_equal = self.table_place.equals(other.table_place)
        return replace(self, table=other.table) if is_equal else self


def graph_directory(cache: Path, fingerprint: str) -> Path:
    """Return a checkpoint's folder, which depends on the weights and the exporting libraries."""
    libraries = "-".join(version(name) for name in ("torch", "transformers", "openvino"))
    return cache / f"openvino{FORMAT_VERSION}-{fingerprint[:16]}-{libraries}"


def open_graph(layout: CheckpointLayout, fingerprint: str, cache: Path, export: Exporter) -> Graph:
    """Open a checkpoint's graph; export it if it is missing or damaged.

    Several processes may start at once: one exports, the others wait for it.

    Args:
        layout: the checkpoint's files.
        fingerprint: the checkpoint's fingerprint.
        cache: folder of exported graphs.
        export: writes the graph's files.

    Raises:
        CheckpointError: the graph cannot be exported, or the cache cannot be written.
    """
    directory = graph_directory(cache, fingerprint)
    try:
        with suppress(CheckpointError):
            return _read(directory, layout, fingerprint)
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{directory.name}.lock"):
            try:  # another process may have exported it meanwhile
                return _read(directory, layout, fingerprint)
            except CheckpointError as error:
                if directory.exists():
                    logger.warning("the cached graph is made again: %s", error)
            _make(directory, layout, fingerprint, export)
    except OSError as error:
        reason = artifact.write_failure(cache, error)
        raise CheckpointError(
            f"the encoder's graph cannot be written to {cache}: {reason}; "
            "free some space or set CLEAR_CACHE to another folder"
        ) from None
    return _read(directory, layout, fingerprint)


def _make(directory: Path, layout: CheckpointLayout, fingerprint: str, export: Exporter) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    for stale in directory.parent.glob(f"{MAKING}{directory.name}-*"):  # under the lock
        shutil.rmtree(stale, ignore_errors=True)
    with artifact.temporary_directory(directory.parent, f"{MAKING}{directory.name}-") as made:
        tensor = export(made)
        names = sorted(path.name for path in made.iterdir())
        content = {
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint,
            "table": tensor,
            "files": checksums.record_files(made, names),
        }
        (made / MANIFEST).write_bytes(artifact.canonical_json(content))
        artifact.publish_directory(made, directory)


def _read(directory: Path, layout: CheckpointLayout, fingerprint: str) -> Graph:
    manifest = artifact.read_json_object(directory / MANIFEST, CheckpointError)
    if manifest.get("fingerprint") != fingerprint:
        raise CheckpointError(f"{directory} is of another encoder")
    files = manifest.get("files")
    if not isinstance(files, dict) or GRAPH not in files:
        raise CheckpointError(f"{directory / MANIFEST} does not name {GRAPH}")
    checksums.verify_files(directory, files, CheckpointError)
    place = find_table(layout.weights, str(manifest.get("table")))
    return Graph(directory, map_table(place), place)
