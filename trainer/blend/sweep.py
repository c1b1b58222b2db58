"""Measures blends share by share through the code that serves, and keeps the best."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.storage import artifact
from trainer.blend.curve import Curve, Gates, Point, Scores, curve_json
from trainer.blend.plot import trade_off
from trainer.blend.weights import Pair, write_blend
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import OutputError
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.measures import MAIN
from trainer.report.plots import require_matplotlib
from trainer.report.run import EncoderOptions

CURVE, PLOT = "curve.json", "curve.svg"


def load_blend(directory: Path, base: Encoder, options: EncoderOptions) -> Encoder:
    """Load a blend as it will serve; a query encoder alone goes with the base's passages."""
    blend = options.load(str(directory))
    return blend if blend.encodes_passages else blend.with_passage_side(base)


@contextmanager
def measured_by(
    sets: Sequence[EvaluationSet], languages: Sequence[str] = ()
) -> Iterator[Callable[[Encoder], Scores]]:
    """Measure encoders by nDCG@10 over English passages; passages of one side are embedded once.

    Args:
        sets: to measure on.
        languages: of queries, beside English; all by default.

    Yields:
        What measures an encoder, until the context is left.
    """
    with tempfile.TemporaryDirectory(prefix="clear-blend-") as folder:

        def measure(encoder: Encoder) -> Scores:
            found = evaluate(
                encoder,
                sets,
                languages=languages,
                directions=("en-en", "L-en"),
                indexes=Path(folder),
            )
            scores: dict[str, dict[str, float]] = {}
            for each in found.results:
                by_language = scores.setdefault(each.task.set_name, {})
                by_language[each.task.query_language] = each.measures[MAIN]
            return scores

        yield measure


def sweep(
    pair: Pair,
    shares: Sequence[float],
    base: Encoder,
    options: EncoderOptions,
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
    options: EncoderOptions,
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
    artifact.replace_file(output / PLOT, trade_off(curve).encode())
    chosen = {"metrics": {name: dict(values) for name, values in curve.chosen.scores.items()}}
    write_blend(pair, curve.chosen.share, output / pair.kind, **chosen)
    return curve
