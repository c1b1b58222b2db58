"""The commands that administer an index: verify, calibrate, push, plan, list, rollback and gc."""

import json
from pathlib import Path
from typing import Annotated

import typer

from service.cli import console
from service.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    IndexOption,
    IndexOrUrlOption,
    JsonOption,
    PassagePromptOption,
    QueryPromptOption,
    index_folder,
    load_settings,
    pulled_index_folder,
)
from service.cli.tables import print_generations, print_plans
from service.retrieval.progress import show_progress

app = typer.Typer()


@app.command("verify")
def index_verify(index: IndexOrUrlOption = None, as_json: JsonOption = False) -> None:
    """Verify every file of the live generation by its hash, and its vectors."""
    with console.one_line_errors():
        folder = pulled_index_folder(load_settings(index=index))
        from service.retrieval.generation.generation import open_current

        generation = open_current(folder)
        documents = generation.manifest.num_documents
        facts = {
            "generation": generation.name,
            "passages": len(generation.passages),
            **({"documents": documents} if documents else {}),
            "unembedded": generation.manifest.num_unembedded or 0,
            "encoder": generation.manifest.encoder.model_dump(exclude_none=True),
            "factory": generation.manifest.factory,
            "created": generation.created.isoformat(timespec="seconds"),
        }
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            passages = console.count_of(len(generation.passages), "passage")
            if documents:
                passages += f" of {console.count_of(documents, 'document')}"
            typer.echo(f"generation {generation.name} is whole: {passages}")
            if facts["unembedded"]:
                typer.echo(f"{facts['unembedded']} more got no unit vector and were left out")


@app.command("calibrate")
def index_calibrate(
    questions: Annotated[
        Path,
        typer.Option(
            help='JSON lines {"query", "language", "passage_ids"}, at least 200; the ids are empty '
            "for what the corpus does not answer"
        ),
    ],
    index: IndexOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the relevance of hits to questions about this index; the service reads it at start."""
    with console.one_line_errors("interrupted: nothing was written"):
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            cache=cache,
            device=device,
        )
        folder = index_folder(settings)
        from service.components import index_options_of, load_encoder_of
        from service.retrieval.generation.generation import current_name, open_current
        from service.retrieval.index_calibration import calibrate_index, read_questions
        from service.retrieval.relevance.calibration import write_calibration
        from service.retrieval.relevance.choice import CALIBRATION
        from service.retrieval.searcher import Searcher

        # Checked before the encoder is loaded, which takes seconds.
        asked = read_questions(questions)
        current_name(folder)
        with show_progress(is_transient=True) as on_progress:
            on_progress("load", 0, None)
            loaded = load_encoder_of(settings)
            on_progress("open", 0, None)
            searcher = Searcher(loaded, open_current(folder, index_options_of(settings, loaded)))
            on_progress("search", 0, None)
            found = calibrate_index(searcher, asked)
        write_calibration(folder / CALIBRATION, found.calibration)
        if as_json:
            typer.echo(json.dumps(found.measured))
            return
        measured = found.measured
        typer.echo(
            f"{folder / CALIBRATION} is written: {measured['answered']} of "
            f"{measured['questions']} questions are answered by their best hit; on questions left "
            f"out of the fit AUROC {measured['auroc']:.3f}, calibration error "
            f"{measured['ece']:.3f}, recall at precision .9 {measured['recall']:.2f}"
        )
        console.stderr_console().print("a running service reads it when it starts again")


@app.command("push")
def index_push(index: IndexOption = None, as_json: JsonOption = False) -> None:
    """Load the live generation into Milvus (CLEAR_MILVUS_URI) and point the alias at it."""
    with console.one_line_errors("interrupted: run it again, it starts over"):
        settings = load_settings(index=index, index_backend="milvus")
        folder = index_folder(settings)
        from service.components import index_options_of
        from service.retrieval.generation.generation import (
            current_name,
            generations_directory,
            verify_generation,
        )
        from service.retrieval.indexing.push import push_generation

        name = current_name(folder)
        directory = generations_directory(folder) / name
        verify_generation(directory)
        with show_progress() as on_progress:
            options = index_options_of(settings)
            collection = push_generation(directory, name, options, on_progress)
        if as_json:
            typer.echo(json.dumps({"generation": name, "collection": collection}))
        else:
            console.stderr_console().print(f"generation {name} is in Milvus as {collection}")


@app.command("plan")
def index_plan(
    passages: Annotated[int, typer.Option(min=1, help="Number of passages")],
    dimension: Annotated[int, typer.Option(min=1, help="Length of an embedding")] = 384,
    memory: Annotated[float, typer.Option(min=0.001, help="GiB of memory for the vectors")] = 8.0,
    on_gpu: Annotated[bool, typer.Option("--gpu", help="Search on a GPU, in its memory")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare index types for a corpus by size, recall and build time, and recommend one."""
    with console.one_line_errors():
        from service.retrieval.index.plan import plan

        print_plans(plan(passages, dimension, memory, on_gpu), as_json)


@app.command("list")
def index_list(index: IndexOption = None, as_json: JsonOption = False) -> None:
    """List the generations, last built first; file sizes are checked, hashes only by `verify`."""
    with console.one_line_errors():
        folder = index_folder(load_settings(index=index))
        from service.retrieval.generation.history import list_generations

        print_generations(list_generations(folder), as_json)


@app.command("rollback")
def index_rollback(
    index: IndexOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Name of a generation, or its first digits; by default the one live before"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a former generation and make it live again."""
    with console.one_line_errors():
        folder = index_folder(load_settings(index=index))
        from service.retrieval.generation.history import roll_back

        name = roll_back(folder, to)
        typer.echo(json.dumps({"generation": name}) if as_json else f"generation {name} is live")


@app.command("gc")
def index_gc(
    index: IndexOption = None,
    keep: Annotated[
        int, typer.Option(min=0, help="Number of former generations to keep for a rollback")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Remove old generations and the shards of interrupted builds."""
    with console.one_line_errors():
        folder = index_folder(load_settings(index=index))
        from service.retrieval.generation.history import collect_garbage

        removed = collect_garbage(folder, keep)
        if as_json:
            typer.echo(json.dumps({"removed": removed.names, "bytes": removed.num_bytes}))
        else:
            typer.echo(
                f"{console.count_of(len(removed.names), 'generation')} removed, "
                f"{removed.num_bytes / 2**20:.1f} MiB"
            )
