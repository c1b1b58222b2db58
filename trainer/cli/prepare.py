"""The commands before training: `import` reads published data, `mine` finds hard negatives."""

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from service.retrieval.defaults import BUNDLED
from trainer.cli.console import show_progress
from trainer.cli.options import (
    CacheOption,
    CpuEngineOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguagesOption,
    MaxTokensOption,
    PrecisionOption,
)
from trainer.datasets.registry import KINDS
from trainer.errors import DataError

app = typer.Typer()


class QuerySide(enum.StrEnum):
    """The side of a row that searches for its negatives."""

    ENGLISH = "english"
    TRANSLATED = "translated"


@app.command("import")
def import_command(
    kind: Annotated[str, typer.Argument(help="xquad, squad, mlqa, afriqa, belebele, ...")],
    source: Annotated[
        str, typer.Argument(help="The data set's folder or file, or owner/name@commit on the Hub.")
    ],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    languages: LanguagesOption = None,
    train_split: Annotated[
        str | None, typer.Option(help="The split that gives the training rows.")
    ] = None,
    evaluation_split: Annotated[
        str | None, typer.Option(help="The split that gives the evaluation set.")
    ] = None,
    held_out_share: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Of the documents, for evaluation (a third)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides what is held out (0).")] = None,
    own_passages: Annotated[
        bool,
        typer.Option(
            "--own-passages", help="Of aligned lines: each sentence's passage is its English line."
        ),
    ] = False,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="A table's roles by the order of its columns.")
    ] = False,
    decontaminate: Annotated[
        list[Path] | None,
        typer.Option(help="An evaluation set whose passages and questions no row may have."),
    ] = None,
    keep_contaminated: Annotated[
        bool, typer.Option(help="Count such rows in the data card, and keep them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a published data set into training rows and an evaluation set, with a data card."""
    from trainer.datasets.importer import import_data

    if kind not in KINDS:
        raise DataError(f"there is no import of {kind!r}: name one of {', '.join(KINDS)}")
    card = import_data(
        kind,
        source,
        output,
        decontaminate_from=decontaminate or (),
        keep_contaminated=keep_contaminated,
        languages=languages,
        train_split=train_split,
        evaluation_split=evaluation_split,
        held_out_share=held_out_share,
        seed=seed,
        own_passages=own_passages,
        by_position=by_position,
    )
    typer.echo(json.dumps(card.as_dict(), indent=1) if as_json else card.as_markdown(), nl=as_json)


@app.command("mine")
def mine_command(
    rows: Annotated[Path, typer.Argument(help="Training rows (.jsonl).")],
    output: Annotated[Path, typer.Option(help="The file to write: the rows with negatives.")],
    num_negatives: Annotated[int, typer.Option(min=1, help="Of each row.")] = 5,
    first_rank: Annotated[
        int, typer.Option(min=1, help="Of the window of ranks, known positives not counted.")
    ] = 50,
    last_rank: Annotated[int, typer.Option(min=1, help="Of the window of ranks.")] = 100,
    max_relative_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Only passages scored at most this much of the positive."),
    ] = None,
    query_side: Annotated[QuerySide, typer.Option(help="The queries that search.")] = (
        QuerySide.ENGLISH
    ),
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Any passage, without a query that asks for it.")
    ] = False,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Passages beside the rows' own (.jsonl, .parquet, BEIR); --unpaired."),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Take the window's first, do not draw at random.")
    ] = False,
    keep_incomplete: Annotated[
        bool, typer.Option(help="Keep rows that got fewer negatives, too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    encoder: EncoderOption = BUNDLED,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
) -> None:
    """Find hard negative passages for training rows, and queries that ask for those."""
    from trainer.mining.miner import MiningOptions

    options = MiningOptions(
        num_negatives=num_negatives,
        first_rank=first_rank,
        last_rank=last_rank,
        max_relative_score=max_relative_score,
        query_side=query_side.value,
        is_paired=not unpaired,
        is_random=not best,
        seed=seed,
    )
    from trainer.mining.run import mine_rows, read_known

    known = read_known(rows, corpus or (), options)  # a bad row is told before the encoder loads

    from service.retrieval.encoder.loader import load_encoder

    loaded = load_encoder(
        encoder,
        cache=cache,
        device=device,
        max_tokens=max_tokens,
        cpu_engine=cpu_engine,
        precision=precision,
    )
    with show_progress() as on_progress:
        report = mine_rows(
            rows,
            known,
            output,
            loaded,
            options,
            keep_incomplete=keep_incomplete,
            on_progress=on_progress,
        )
    typer.echo(
        f"{report.num_rows - report.num_left_out} rows with negatives in {output}; "
        f"{report.num_left_out} left out for want of candidates; "
        f"{report.num_resumed} were mined before"
    )
