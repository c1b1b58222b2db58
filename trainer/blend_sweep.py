"""Measures blends share by share through the code that serves, and keeps the best."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval import artifact
from service.retrieval.checkpoint import load_encoder
from service.retrieval.encoder import Encoder
from trainer.blend import Pair, write_blend
from trainer.blend_curve import (
    Curve,
    Gates,
    Point,
    Scores,
    curve_json,
    curve_svg,
    require_matplotlib,
)
from trainer.errors import OutputError

CURVE, PLOT = "curve.json", "curve.svg"


@dataclass(frozen=True)
class LoadOptions:
    """How encoders are loaded; all of them alike."""

    cache: Path
    device: str = "auto"
    max_tokens: int | None = None
    cpu_engine: str = "torch"
    precision: str = "fp32"

    def load(self, name: str) -> Encoder:
        """Load one; errors are those of `load_encoder`."""
        return load_encoder(
            name,
            cache=self.cache,
            device=self.device,
            max_tokens=self.max_tokens,
            cpu_engine=self.cpu_engine,
            precision=self.precision,
        )


def load_blend(directory: Path, base: Encoder, options: LoadOptions) -> Encoder:
    """Load a blend as it will serve; a query encoder alone goes with the base's passages."""
    blend = options.load(str(directory))
    return blend if blend.encodes_passages else blend.with_passage_side(base)


def sweep(
    pair: Pair,
    shares: Sequence[float],
    base: Encoder,
    options: LoadOptions,
    measure: Callable[[Encoder], Scores],
    on_point: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """Measure blends of several shares; 0 is always among them, as the gate compares with it.

    Args:
        pair: of base and tuned encoder.
        shares: from 0 to 1.
        base: the base, loaded.
        options: how to load blends.
        measure: an encoder's nDCG@10 by set and language.
        on_point: is told of each.

    Returns:
        The points in the order of their shares.
    """
    points: list[Point] = []
    for share in sorted({0.0, *shares}):
        with tempfile.TemporaryDirectory(prefix="clear-blend-") as folder:
            if share == 0:
                encoder = base
            else:
                write_blend(pair, share, Path(folder) / "blend")
                encoder = load_blend(Path(folder) / "blend", base, options)
            points.append(Point(share, measure(encoder)))
        on_point(points[-1])
    return points


def run_blend(
    pair: Pair,
    names: tuple[str, str],
    shares: Sequence[float],
    options: LoadOptions,
    measure: Callable[[Encoder], Scores],
    gates: Gates,
    output: Path,
    on_point: Callable[[Point], None] = lambda point: None,
) -> Curve:
    """Measure the whole curve, write it, and the blend of the share that it chooses.

    Args:
        pair: of base and tuned encoder.
        names: of the two, as `load_encoder` takes them.
        shares: to try.
        options: how to load encoders.
        measure: an encoder's nDCG@10 by set and language.
        gates: what must not be lost.
        output: a new folder: `curve.json`, `curve.svg`, and the blend in `adapter` or `encoder`.
        on_point: is told of each share.

    Raises:
        OutputError: the folder is there already, or cannot be written.
    """
    require_matplotlib()
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be made ({error.strerror}): name a new folder"
        ) from None
    points = sweep(pair, shares, options.load(names[0]), options, measure, on_point)
    curve = Curve(*names, points, gates)
    artifact.replace_file(output / CURVE, curve_json(curve))
    artifact.replace_file(output / PLOT, curve_svg(curve))
    chosen = {"metrics": {name: dict(values) for name, values in curve.chosen.scores.items()}}
    write_blend(pair, curve.chosen.share, output / pair.kind, **chosen)
    return curve
