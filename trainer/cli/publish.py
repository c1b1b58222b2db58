"""The command `publish`, which exports an encoder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.retrieval.defaults import BUNDLED_BASE, default_cache
from trainer.cli.options import CacheOption, JsonOption
from trainer.errors import DataError

if TYPE_CHECKING:
    from service.retrieval.relevance.calibration import Calibration

app = typer.Typer()

LicenseOption = Annotated[
    str | None, typer.Option("--license", help="License of the weights. Default: the base's.")
]
PassageEncoderOption = Annotated[
    str,
    typer.Option(help="For a query encoder: the passage encoder that it was trained for."),
]
ResultsOption = Annotated[
    Path | None, typer.Option(help="Markdown for the model card: report.md of `evaluate`.")
]
DataCardsOption = Annotated[
    list[Path] | None, typer.Option(help="card.json of an import; repeat for more.")
]
LanguagesFileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--languages",
        metavar="FILE",
        help="The encoder's languages.json of `evaluate --output`; a further one fills gaps.",
    ),
]
AsAdapterOption = Annotated[
    bool, typer.Option(help="Copy an adapter as it is, in place of merging it into an encoder.")
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(help="The relevance of its hits: the file of `clear-trainer calibrate`."),
]
PushOption = Annotated[
    str | None,
    typer.Option("--push", metavar="OWNER/NAME", help="Upload to a Hub, with HF_TOKEN."),
]


@app.command("publish")
def publish_command(
    checkpoint: Annotated[
        str, typer.Argument(help="An adapter or encoder that training or `blend` wrote.")
    ],
    to: Annotated[Path, typer.Option(envvar="CLEAR_TRAINER_TO", help="The folder to write.")],
    license: LicenseOption = None,
    name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
    passage_encoder: PassageEncoderOption = BUNDLED_BASE,
    results: ResultsOption = None,
    data_card: DataCardsOption = None,
    languages: LanguagesFileOption = None,
    as_adapter: AsAdapterOption = False,
    calibration: CalibrationOption = None,
    push_to: PushOption = None,
    private: Annotated[
        bool, typer.Option(help="Make the repository private, if --push creates it.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export an encoder as a Sentence Transformers directory with manifest and model card."""
    from trainer.output import refuse_input
    from trainer.publish.adapter import write_adapter_publication
    from trainer.publish.directory import Publication, open_sides, write_publication
    from trainer.publish.hub import push, read_token
    from trainer.publish.languages import read_languages

    if as_adapter and (results or data_card or push_to):
        raise DataError("--as-adapter writes no model card: leave --results, --data-card, --push")
    if not as_adapter:
        refuse_input(to, (Path(checkpoint), Path(passage_encoder)), "--to")
    if push_to:
        read_token()
    publication = (
        Publication(  # reads the files before the weights, so that a bad one fails at once
            name or push_to or to.resolve().name,
            license,
            _read_text(results) if results else "",
            [_read_card(path) for path in data_card or ()],
            read_languages(languages) if languages else None,
            _read_calibration(calibration) if calibration else None,
        )
    )
    query, passage = open_sides(checkpoint, passage_encoder, cache or default_cache())
    if as_adapter:
        write_adapter_publication(query, to, publication)
    else:
        write_publication(query, passage, to, publication)
    message = f"Publish {name or to.name}"
    commit = push(to, push_to, is_private=private, message=message) if push_to else None
    facts = {
        "directory": str(to),
        "name": publication.name,
        "passage_fingerprint": passage.own_passage_fingerprint,
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
    from service.retrieval.errors import ArtifactError
    from service.retrieval.storage.artifact import read_json_object

    class CardError(ArtifactError):
        """A data card cannot be read."""

        how_to_restore = "name the card.json of `clear-trainer import`"

    return read_json_object(path, CardError)


def _read_calibration(path: Path) -> "Calibration":
    from service.retrieval.relevance.calibration import read_calibration

    return read_calibration(path)
