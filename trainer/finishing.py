"""The commands after training: `blend` chooses how much of it to keep, `publish` gives it away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.retrieval.defaults import BUNDLED_BASE, default_cache
from trainer.errors import DataError

if TYPE_CHECKING:
    from service.retrieval.encoder import Encoder
    from trainer.blend_curve import Curve, Scores

SHARES = tuple(step / 10 for step in range(11))

app = typer.Typer()

CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="CLEAR_CACHE", help="The folder that keeps the bundled encoder."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON, not a table.")
]


@app.command("blend")
def blend(
    base: Annotated[str, typer.Argument(help="The encoder before training: `bundled-base`, ...")],
    tuned: Annotated[str, typer.Argument(help="What training wrote: `adapter` or `encoder`.")],
    output: Annotated[
        Path,
        typer.Option(
            envvar="CLEAR_TRAINER_OUTPUT", help="A new folder for the blend, its curve and plot."
        ),
    ],
    xquad: Annotated[
        Path,
        typer.Option(envvar="CLEAR_TRAINER_XQUAD", help="The folder of xquad.<language>.json."),
    ],
    languages: Annotated[
        list[str] | None,
        typer.Option("--language", help="A query language beside English; all by default."),
    ] = None,
    shares: Annotated[
        list[float] | None,
        typer.Option("--share", min=0, max=1, help="A share to try; 0, .1 ... 1 by default."),
    ] = None,
    english_margin: Annotated[
        float, typer.Option(min=0, help="English -> English may lose so much nDCG@10.")
    ] = 0.005,
    language_margin: Annotated[
        float | None,
        typer.Option(
            min=0, help="Each other language may lose so much, and no set's mean; unset, any."
        ),
    ] = None,
    device: Annotated[str, typer.Option(envvar="CLEAR_DEVICE")] = "auto",
    max_tokens: Annotated[int, typer.Option(envvar="CLEAR_MAX_TOKENS", min=16)] = 256,
    cpu_engine: Annotated[str, typer.Option(envvar="CLEAR_CPU_ENGINE")] = "torch",
    precision: Annotated[str, typer.Option(envvar="CLEAR_PRECISION")] = "fp32",
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Interpolate base and tuned weights; keep the best share under the English gate."""
    from trainer.blend import open_pair
    from trainer.blend_curve import Gates
    from trainer.blend_sweep import LoadOptions, run_blend

    kept_in = cache or default_cache()
    pair = open_pair(base, tuned, kept_in)
    with Console(stderr=True).status("the base") as status:
        curve = run_blend(
            pair,
            (base, tuned),
            shares or SHARES,
            LoadOptions(kept_in, device, max_tokens, cpu_engine, precision),
            _measure(xquad, languages),
            Gates(english_margin, language_margin),
            output,
            on_point=lambda point: status.update(f"share {point.share:g}: {point.mean:.4f}"),
        )
    _print_curve(curve, output / pair.kind, as_json)


def _measure(directory: Path, languages: list[str] | None) -> "Callable[[Encoder], Scores]":
    from trainer.evaluate import evaluate
    from trainer.xquad import ENGLISH, read_xquad, xquad_languages

    chosen = dict.fromkeys([ENGLISH, *(languages or xquad_languages(directory))])
    data = {language: read_xquad(directory, language) for language in chosen}

    def measure(encoder: "Encoder") -> "Scores":
        results = evaluate(encoder, data, list(data)).languages
        return {"xquad": {each.language: each.measures["ndcg@10"] for each in results}}

    return measure


def _print_curve(curve: "Curve", written: Path, as_json: bool) -> None:
    from trainer.blend_curve import ENGLISH, curve_content, macro

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
    Console().print(table)
    typer.echo(f"share {curve.chosen.share:g} is written to {written}")
    if curve.chosen.share == 0:
        typer.echo("no share above 0 is better and keeps the gates: this is the base", err=True)


@app.command("publish")
def publish(
    checkpoint: Annotated[
        str, typer.Argument(help="An adapter or encoder that training or `blend` wrote.")
    ],
    to: Annotated[Path, typer.Option(envvar="CLEAR_TRAINER_TO", help="The folder to write.")],
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the weights; by default the base's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="By default that of the folder.")] = None,
    passage_encoder: Annotated[
        str,
        typer.Option(help="Of a query encoder alone: the encoder that it was trained for."),
    ] = BUNDLED_BASE,
    results: Annotated[
        Path | None, typer.Option(help="Markdown for the card: `report.md` of `evaluate`.")
    ] = None,
    data_card: Annotated[
        list[Path] | None, typer.Option(help="`card.json` of an import; repeat it for more.")
    ] = None,
    push_to: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload to a Hub, by HF_TOKEN."),
    ] = None,
    private: Annotated[bool, typer.Option(help="Of a repository that --push makes.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a Sentence Transformers directory with manifest and model card."""
    from trainer.hub import push, read_token
    from trainer.publish import Publication, open_sides, write_publication

    if push_to:
        read_token()
    query, passage = open_sides(checkpoint, passage_encoder, cache or default_cache())
    publication = Publication(
        name or push_to or to.resolve().name,
        licence,
        _read_text(results) if results else "",
        [_read_card(path) for path in data_card or ()],
    )
    manifest = write_publication(query, passage, to, publication)
    commit = (
        push(to, push_to, is_private=private, message=f"Publish {name or to.name}")
        if push_to
        else None
    )
    facts = {
        "directory": str(to),
        "name": manifest["name"],
        "passage_fingerprint": manifest["passage_fingerprint"],
        "commit": commit,
    }
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"{facts['name']} is written to {to}{f', pushed as {commit}' if commit else ''}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): name a Markdown file") from None


def _read_card(path: Path) -> dict[str, Any]:
    from service.retrieval.artifact import read_json_object
    from service.retrieval.errors import ArtifactError

    return read_json_object(path, ArtifactError)
