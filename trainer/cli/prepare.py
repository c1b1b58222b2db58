"""The commands `import`, which converts published data, and `mine`, which finds hard negatives."""

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from service.retrieval.defaults import BUNDLED, MAX_SEED
from service.retrieval.progress import show_progress
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
    """The query of a row that negatives are searched with."""

    ENGLISH = "english"
    TRANSLATED = "translated"


# Options of `import`.
HeldOutShareOption = Annotated[
    float | None,
    typer.Option(min=0, max=0.9, help="Share of documents held out for evaluation (a third)."),
]
OwnPassagesOption = Annotated[
    bool,
    typer.Option(
        "--own-passages", help="For aligned lines: a sentence's passage is its English line."
    ),
]
ByPositionOption = Annotated[
    bool,
    typer.Option("--by-position", help="For tables: take the roles from the order of the columns."),
]
DecontaminateOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Evaluation set whose passages and questions no row may contain; repeat for more."
    ),
]

# Options of `mine`.
FirstRankOption = Annotated[
    int, typer.Option(min=1, help="First rank of the window; known positives do not count.")
]
MaxRelativeScoreOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Maximum score of a negative, as a share of the positive's score."
    ),
]
QuerySideOption = Annotated[QuerySide, typer.Option(help="The queries to search with.")]
KeepIncompleteOption = Annotated[bool, typer.Option(help="Also keep rows with fewer negatives.")]
UnpairedOption = Annotated[
    bool, typer.Option("--unpaired", help="Mine any passage, without a query that asks for it.")
]
CorpusOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Passages besides those of the rows (.jsonl, .parquet, BEIR); needs --unpaired."
    ),
]
BestOption = Annotated[
    bool, typer.Option("--best", help="Take the first of the window instead of a random sample.")
]


@app.command("import")
def import_command(
    kind: Annotated[str, typer.Argument(help="xquad, squad, mlqa, afriqa, belebele, ...")],
    source: Annotated[
        str, typer.Argument(help="The data set's folder or file, or owner/name@commit on the Hub.")
    ],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    languages: LanguagesOption = None,
    train_split: Annotated[
        str | None, typer.Option(help="The split to take training rows from.")
    ] = None,
    evaluation_split: Annotated[
        str | None, typer.Option(help="The split to take the evaluation set from.")
    ] = None,
    held_out_share: HeldOutShareOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the held-out split (0).")
    ] = None,
    own_passages: OwnPassagesOption = False,
    by_position: ByPositionOption = False,
    decontaminate: DecontaminateOption = None,
    keep_contaminated: Annotated[
        bool, typer.Option(help="Keep such rows, and count them in the data card.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a published data set to training rows and an evaluation set, with a data card."""
    from trainer.datasets.importer import import_data

    if kind not in KINDS:
        raise DataError(f"there is no import of {kind!r}: name one of {', '.join(KINDS)}")
    with show_progress() as on_progress:
        card = import_data(
            kind,
            source,
            output,
            decontaminate_from=decontaminate or (),
            keep_contaminated=keep_contaminated,
            on_progress=on_progress,
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
    num_negatives: Annotated[int, typer.Option(min=1, help="Negatives per row.")] = 5,
    first_rank: FirstRankOption = 50,
    last_rank: Annotated[int, typer.Option(min=1, help="Last rank of the window.")] = 100,
    max_relative_score: MaxRelativeScoreOption = None,
    query_side: QuerySideOption = QuerySide.ENGLISH,
    unpaired: UnpairedOption = False,
    corpus: CorpusOption = None,
    best: BestOption = False,
    keep_incomplete: KeepIncompleteOption = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the sample.")] = 0,
    encoder: EncoderOption = BUNDLED,
    device: DeviceOption = "auto",
    max_tokens: MaxTokensOption = 256,
    cpu_engine: CpuEngineOption = "torch",
    precision: PrecisionOption = "fp32",
    cache: CacheOption = None,
) -> None:
    """Find hard negative passages for training rows, each with a query that asks for it."""
    from trainer.mining.candidates import read_candidates
    from trainer.mining.miner import MiningOptions
    from trainer.mining.run import check_output, mine_rows

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
    with show_progress() as on_progress:
        on_progress("read", 0, None)
        check_output(output, (rows, *(corpus or ())))
        candidates = read_candidates(rows, corpus or (), is_paired=not unpaired)  # fails early
        from service.retrieval.encoder.loader import load_encoder

        on_progress("load", 0, None)
        loaded = load_encoder(
            encoder,
            cache=cache,
            device=device,
            max_tokens=max_tokens,
            cpu_engine=cpu_engine,
            precision=precision,
        )
        report = mine_rows(
            *(rows, candidates, output, loaded, options),
            keep_incomplete=keep_incomplete,
            on_progress=on_progress,
        )
    typer.echo(
        f"{report.num_rows - report.num_left_out} rows with negatives in {output}; "
        f"{report.num_left_out} left out for lack of candidates; "
        f"{report.num_resumed} were mined before"
    )
