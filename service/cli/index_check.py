"""The command index check: read a whole corpus and report it; nothing is encoded or written."""

import json
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.table import Table

from service.cli import console
from service.cli.corpus import Corpus
from service.cli.options import (
    EncoderOption,
    FieldOption,
    IdFieldOption,
    JsonOption,
    PassagePromptOption,
    PassagesArgument,
    TextFieldOption,
    TitleFieldOption,
    load_settings,
)
from service.retrieval.progress import show_progress
from service.retrieval.terminal import print_table

if TYPE_CHECKING:
    from service.retrieval.corpus.survey import Survey

app = typer.Typer()
PROGRESS_PASSAGES = 256
# The encoder is loaded for its tokenizer, so the engine that loads first will do.
TOKENIZER_ONLY = {"device": "cpu", "cpu_engine": "torch", "precision": "fp32"}


@app.command("check")
def index_check(
    passages: PassagesArgument,
    encoder: EncoderOption = None,
    field: FieldOption = None,
    id_field: IdFieldOption = "",
    text_field: TextFieldOption = "",
    title_field: TitleFieldOption = "",
    passage_prompt: PassagePromptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a corpus as a build would, and report counts, lengths, languages and refusals."""
    with console.one_line_errors("interrupted: nothing was written"):
        settings = load_settings(encoder=encoder, passage_prompt=passage_prompt)
        from service.components import load_encoder_of
        from service.engine.language import LanguageDetector
        from service.retrieval.corpus.fields import checked_values, parse_fields
        from service.retrieval.corpus.survey import Surveyor
        from service.retrieval.errors import PassageError

        fields = parse_fields(field or [])
        names = (id_field, text_field, title_field)
        corpus = Corpus(passages, names, fields, skip_invalid=True, word="refused")
        with show_progress() as on_progress:
            records = corpus.read()
            on_progress("load", 0, None)
            loaded = load_encoder_of(settings.model_copy(update=TOKENIZER_ONLY))
            limit = settings.max_tokens or loaded.side("passage").max_tokens
            surveyor = Surveyor(
                loaded.count_passage_tokens, LanguageDetector().detect_certain, limit
            )
            for origin, passage in records:
                try:
                    checked_values(origin, passage.metadata, fields)
                    surveyor.add(origin, passage)
                except PassageError as error:
                    corpus.on_invalid(error)
                if surveyor.num_passages % PROGRESS_PASSAGES == 0:
                    on_progress("read", surveyor.num_passages, None)
            survey = surveyor.finish(corpus.num_skipped)
        empty = [name for name in fields if name not in survey.metadata]
        if as_json:
            found = {**survey.as_dict(), "refusals": corpus.first_errors, "empty_fields": empty}
            typer.echo(json.dumps(found))
        else:
            table = _table(survey)
            if empty:
                table.add_row("declared with --field, and in no passage", ", ".join(empty))
            print_table(table)
        if survey.num_refused:
            raise typer.Exit(1)


def _table(survey: "Survey") -> Table:
    """Return the survey as a table for people."""
    from service.engine.language import UNDETERMINED

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_row("passages", f"{survey.num_passages:,}")
    table.add_row("refused by a build", f"{survey.num_refused:,}")
    equal = "".join(f"\n{each['id']} ({each['origin']})" for each in survey.equal_texts)
    more = "\n..." if survey.num_equal_texts > len(survey.equal_texts) else ""
    table.add_row("with a text that came before", f"{survey.num_equal_texts:,}{equal}{more}")
    tokens = ", ".join(f"{name} {length:,}" for name, length in survey.tokens.items())
    table.add_row("tokens", tokens)
    over = f"{survey.num_over_limit:,} (a build splits them)" if survey.num_over_limit else "0"
    table.add_row(f"longer than {survey.max_tokens:,} tokens", over)
    names = {UNDETERMINED: "uncertain"}
    shares = ", ".join(
        f"{names.get(code, code)} {share:.1%}" for code, share in survey.languages.items()
    )
    table.add_row(f"languages, of {survey.num_detected:,} texts", shares)
    for name, kinds in survey.metadata.items():
        counts = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
        table.add_row(f"metadata {name}", counts + _advice(name, survey))
    return table


def _advice(name: str, survey: "Survey") -> str:
    """Return what a declaration of a key with values of several kinds would refuse."""
    if name not in survey.mixed:
        return ""
    kind, count = survey.mixed[name]
    return (
        f"\nof several kinds: --field {name}:{kind} would refuse {count:,}, without those in cells "
        f"of CSV that can be read as {kind}: check again with it"
    )
