"""The published graph: the bundled encoder's, exported once and kept without its weights.

An export takes ten seconds and needs transformers. Both sides of the bundled encoder have the same
graph; its weights are those of the checkpoint, changed by the adapter of the side. So a start only
writes the weights into their places. The probe's reference of each side is published, too: a start
checks such a graph as one that was exported here.

Run: python -m service.retrieval.encoder.runtime.openvino.published      (writes the file anew)
"""

import gzip
import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.lora import with_product
from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.encoder.runtime.openvino.graph import GRAPH
from service.retrieval.encoder.runtime.openvino.probe import FILE_NAME as PROBE
from service.retrieval.errors import CheckpointError

PUBLISHED = Path(__file__).parent / "bundled.safetensors"
WEIGHTS = "graph.bin"
LEAST_BYTES = 1024  # of a constant that may be a weight
CONSTANT = re.compile(r'<data element_type="f32" shape="[^"]*" offset="(\d+)" size="(\d+)" />')
Tensors = dict[str, NDArray[np.generic]]
# Start and end of each weight in the file of weights, by the weight's name, ascending.
Places = dict[str, tuple[int, int]]


def write_published(
    directory: Path, layout: CheckpointLayout, fingerprint: str, path: Path = PUBLISHED
) -> str | None:
    """Write graph and probe of an encoder's side to a folder, if its graph is published.

    Args:
        directory: an empty folder.
        layout: of the side.
        fingerprint: of the side.
        path: the published file.

    Returns:
        The name of the embedding table's tensor in the checkpoint; None if it is not published.
    """
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata()
            if fingerprint not in json.loads(facts["fingerprints"]):
                return None
            graph, rest = file.get_tensor("graph"), file.get_tensor("rest")
            names = [name for name in file.keys() if name.startswith(fingerprint)]  # noqa: SIM118
            probe = {name.partition("/")[2]: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): install the package again"
        ) from None
    (directory / GRAPH).write_bytes(gzip.decompress(graph.tobytes()))
    places: Places = json.loads(facts["places"])
    _write_weights(directory / WEIGHTS, rest.tobytes(), places, _weights(layout, places))
    save_file(probe, directory / PROBE)
    return str(facts["table"])


def publish_graph(path: Path, sides: Mapping[str, CheckpointLayout]) -> None:
    """Export the graphs of an encoder's sides, which must be the same, and write the published one.

    Args:
        path: the file that is written.
        sides: the layouts by fingerprint; their weights are in one file, in fp32.

    Raises:
        CheckpointError: a side cannot be exported, or its graph is not that of the other side.
    """
    tensors: Tensors = {}
    facts = {"fingerprints": json.dumps(list(sides))}
    for fingerprint, layout in sides.items():
        with tempfile.TemporaryDirectory() as folder:
            shared, stated = _export(Path(folder), layout)
            probe = load_file(Path(folder, PROBE))
        if any(not np.array_equal(tensors.get(name, each), each) for name, each in shared.items()):
            raise CheckpointError(f"the sides of {layout.transformer} have different graphs")
        tensors |= shared | {f"{fingerprint}/{name}": each for name, each in probe.items()}
        facts |= stated
    save_file(tensors, path, facts)


def _export(directory: Path, layout: CheckpointLayout) -> tuple[Tensors, dict[str, str]]:
    """Export a side's graph; return it without weights, and its table and places as text."""
    from service.retrieval.encoder.runtime.openvino.export import export_graph

    table = export_graph(directory, layout)
    graph, content = (directory / GRAPH).read_bytes(), (directory / WEIGHTS).read_bytes()
    places = _find_places(graph.decode(), content, layout)
    starts, ends = zip(*places.values(), strict=True)
    gaps = zip((0, *ends), (*starts, len(content)), strict=True)
    rest = b"".join(content[start:end] for start, end in gaps)
    parts = {"graph": gzip.compress(graph, mtime=0), "rest": rest}
    tensors: Tensors = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
    return tensors, {"table": table, "places": json.dumps(places)}


def _find_places(graph: str, content: bytes, layout: CheckpointLayout) -> Places:
    """Find the constants of a graph that are weights of a side."""
    spans = sorted({(int(start), int(size)) for start, size in CONSTANT.findall(graph)})
    sizes = {size for _, size in spans if size >= LEAST_BYTES}
    [path] = layout.weights
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    names = [name for name, shape in shapes.items() if 4 * math.prod(shape) in sizes]
    weights = zip(names, _weights(layout, names), strict=True)
    names_by_content = {weight.numpy().tobytes(): name for name, weight in weights}
    found: Places = {}
    for start, size in spans:
        if name := names_by_content.get(content[start : start + size]):
            found.setdefault(name, (start, start + size))
    return found


def _write_weights(path: Path, rest: bytes, places: Places, weights: Iterator[Tensor]) -> None:
    """Write weights to their places, and the rest into the gaps between them."""
    taken = 0
    with path.open("wb") as file:
        for (start, _), weight in zip(places.values(), weights, strict=True):
            gap = start - file.tell()
            file.write(rest[taken : taken + gap])
            taken += gap
            file.write(weight.numpy().tobytes())
        file.write(rest[taken:])


def _weights(layout: CheckpointLayout, names: Iterable[str]) -> Iterator[Tensor]:
    """Yield a side's weights by name; where an adapter changes them, merged as an export does."""
    [path] = layout.weights
    adapter = layout.adapter
    with safe_open(path, "pt") as file:
        for name in names:
            weight: Tensor = file.get_tensor(name)
            if adapter and (pair := adapter.pairs.get(name.removesuffix(".weight"))):
                weight = with_product(weight, *pair, adapter.scale)
            yield weight


if __name__ == "__main__":
    bundled = open_checkpoint(BUNDLED, default_cache())
    publish_graph(
        PUBLISHED,
        {bundled.fingerprint(each): each for each in (bundled.passage, bundled.query)},
    )
