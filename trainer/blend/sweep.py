"""Measures the blend of each share through the service's search, and writes the best one."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ProgressDisplay, ignore_progress
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
    """Load a blend; combine a query encoder with the passage side of the base."""
    blend = options.load(str(directory))
    return blend if blend.encodes_passages else blend.with_passage_side(base)


@contextmanager
def measure_on(
    sets: Sequence[EvaluationSet], languages: Sequence[str] = ()
) -> Iterator[Callable[[Encoder], Scores]]:
    """Yield a function that measures an encoder by nDCG@10 over English passages.

    The function reuses the indexes of passages that are encoded alike, until the context closes.

    Args:
        sets: evaluation sets.
        languages: languages of queries besides English; all by default.
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
    on_progress: ProgressDisplay = ignore_progress,
) -> list[Point]:
    """Measure the blends of several shares; always includes share 0, which the gates compare with.

    Args:
        pair: of base and tuned encoder.
        shares: from 0 to 1.
        base: the base encoder, loaded.
        options: how to load blends.
        measure: returns an encoder's nDCG@10 by set and language.
        on_progress: called with the stage blend and the last share's mean.

    Returns:
        The points, ordered by share.
    """
    points: list[Point] = []
    facts = ""
    for share in (ordered := sorted({0.0, *shares})):
        on_progress("blend", len(points), len(ordered), facts)
        with tempfile.TemporaryDirectory(prefix="clear-blend-") as folder:
            if share == 0:
                encoder = base
            else:
                write_blend(pair, share, Path(folder) / "blend")
                encoder = load_blend(Path(folder) / "blend", base, options)
            points.append(Point(share, measure(encoder)))
        facts = f"share {share:g}: {points[-1].mean:.4f}"
    return points


def run_blend(
    pair: Pair,
    names: tuple[str, str],
    shares: Sequence[float],
    options: EncoderOptions,
    measure: Callable[[Encoder], Scores],
    gates: Gates,
    output: Path,
    on_progress: ProgressDisplay = ignore_progress,
) -> Curve:
    """Measure the curve, then write it and the blend of the chosen share.

    Args:
        pair: of base and tuned encoder.
        names: of base and tuned encoder, as `load_encoder` takes them.
        shares: the shares to try.
        options: how to load encoders.
        measure: returns an encoder's nDCG@10 by set and language.
        gates: maximum losses.
        output: a new folder for `curve.json`, `curve.svg`, and the blend in `adapter` or `encoder`.
        on_progress: called with the stage blend and the last share's mean.

    Raises:
        OutputError: the folder exists, or cannot be written.
    """
    require_matplotlib()
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be created ({error.strerror}): name a new folder"
        ) from None
    on_progress("load", 0, None)
    points = sweep(pair, shares, options.load(names[0]), options, measure, on_progress)
    curve = Curve(*names, points, gates)
    artifact.replace_file(output / CURVE, curve_json(curve))
    artifact.replace_file(output / PLOT, trade_off(curve).encode())
    chosen = {"metrics": {name: dict(values) for name, values in curve.chosen.scores.items()}}
    write_blend(pair, curve.chosen.share, output / pair.kind, **chosen)
    return curve
