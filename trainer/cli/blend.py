"""The commands `blend`, which chooses a share of the weight change, and `sum`, which adds changes.

A share of 0 is the base encoder, a share of 1 the tuned one.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from service.retrieval.defaults import default_cache
from service.retrieval.progress import show_progress
from service.retrieval.terminal import print_table
from trainer.cli.options import (
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EnglishMarginOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
)

if TYPE_CHECKING:
    from trainer.blend.curve import Curve

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

app = typer.Typer()

BlendOutputOption = Annotated[
    Path,
    typer.Option(
        envvar="CLEAR_TRAINER_OUTPUT", help="A new folder for the blend, its curve and its plot."
    ),
]
SetsOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        envvar="CLEAR_TRAINER_SETS",
        help="Folder of an evaluation set to choose the share by; repeat for more.",
    ),
]
SharesOption = Annotated[
    list[float] | None,
    typer.Option(
        "--share", min=0, max=1, help="A share to try; repeat for more. Default: 0, .1 ... 1."
    ),
]
LanguageMarginOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Maximum loss of any other language; also, no set's mean may fall. Default: no limit.",
    ),
]


@app.command("blend")
def blend_command(
    base: Annotated[str, typer.Argument(help="The encoder before training: `bundled-base`, ...")],
    tuned: Annotated[
        str, typer.Argument(help="The `adapter` or `encoder` folder that training wrote.")
    ],
    output: BlendOutputOption,
    sets: SetsOption,
    languages: LanguagesOption = None,
    shares: SharesOption = None,
    english_margin: EnglishMarginOption = 0.005,
    language_margin: LanguageMarginOption = None,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Interpolate base and tuned weights; keep the best share that passes the English gate."""
    from trainer.data.languages import known_language
    from trainer.evaluation.sets import open_sets

    with ExitStack() as stack:
        on_progress = stack.enter_context(show_progress())
        on_progress("read", 0, None)
        # Read the inputs before torch is loaded, so that a wrong folder fails at once.
        chosen = [known_language(code) for code in languages or ()]
        evaluation_sets = open_sets(sets, stack)

        from trainer.blend.curve import Gates
        from trainer.blend.sweep import measure_on, run_blend
        from trainer.blend.weights import open_pair
        from trainer.report.run import EncoderOptions

        cache_folder = cache or default_cache()
        pair = open_pair(base, tuned, cache_folder)
        curve = run_blend(
            pair,
            (base, tuned),
            shares or SHARES,
            EncoderOptions(device, max_tokens, cpu_engine, precision, cache_folder),
            stack.enter_context(measure_on(evaluation_sets, chosen)),
            Gates(english_margin, language_margin),
            output,
            on_progress=on_progress,
        )
    _print_curve(curve, output / pair.kind, as_json)


@app.command("sum")
def sum_command(
    adapters: Annotated[
        list[Path], typer.Argument(help="The `adapter` folders; the first names the base.")
    ],
    shares: Annotated[
        list[float],
        typer.Option("--share", min=0, max=1, help="The share of an adapter, in their order."),
    ],
    output: Annotated[
        Path, typer.Option(envvar="CLEAR_TRAINER_OUTPUT", help="A new folder for the sum.")
    ],
) -> None:
    """Add up adapters of one encoder, each times its share; the ranks add up, too."""
    if len(adapters) < 2 or len(adapters) != len(shares):
        raise typer.BadParameter(
            f"{len(shares)} shares of {len(adapters)} adapters: give two or more adapters, and one "
            "share of each",
            param_hint="--share",
        )
    from trainer.blend.adapter_sum import Part, write_sum

    parts = [Part(folder, share) for folder, share in zip(adapters, shares, strict=True)]
    write_sum(parts, output)
    typer.echo(f"the sum is written to {output}")


def _print_curve(curve: "Curve", written: Path, as_json: bool) -> None:
    from trainer.blend.curve import curve_content
    from trainer.data.languages import ENGLISH
    from trainer.evaluation.measures import macro

    if as_json:
        typer.echo(json.dumps(curve_content(curve) | {"written": str(written)}))
        return
    table = Table(title="nDCG@10 by share of the tuned weights")
    for heading in ("share", "mean", *curve.base.scores, "English", "gates"):
        table.add_column(heading, justify="left" if heading == "gates" else "right")
    for point in curve.points:
        macros = [f"{macro(values):.4f}" for values in point.scores.values()]
        english = [values[ENGLISH] for values in point.scores.values() if ENGLISH in values]
        table.add_row(
            f"{point.share:g}",
            f"{point.mean:.4f}",
            *macros,
            ", ".join(f"{value:.4f}" for value in english),
            "; ".join(curve.broken(point)) or "kept",
            style="bold" if point is curve.chosen else None,
        )
    print_table(table)
    typer.echo(f"share {curve.chosen.share:g} is written to {written}")
    if curve.chosen.share == 0:
        typer.echo("no share above 0 is better and passes the gates: the base is kept", err=True)
