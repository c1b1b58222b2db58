"""Options of the commands; one that has a setting names the setting's environment variable."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console

if TYPE_CHECKING:
    from service.settings.settings import Settings

EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="bundled, a folder, or name@revision (CLEAR_ENCODER)"),
]
QueryPromptOption = Annotated[
    str | None,
    typer.Option("--query-prompt", help="Text before each query (CLEAR_QUERY_PROMPT)"),
]
PassagePromptOption = Annotated[
    str | None,
    typer.Option("--passage-prompt", help="Text before each passage (CLEAR_PASSAGE_PROMPT)"),
]
IndexOption = Annotated[str | None, typer.Option("--index", help="The index folder (CLEAR_INDEX)")]
IndexOrUrlOption = Annotated[
    str | None,
    typer.Option("--index", help="The index folder, or a URL such as s3://... (CLEAR_INDEX)"),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for downloaded and generated files (CLEAR_CACHE)"),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N (CLEAR_DEVICE)")
]
HostOption = Annotated[str | None, typer.Option("--host", help="Address (CLEAR_HOST)")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port (CLEAR_PORT)")]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON, for programs")
]

PassagesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Files (.jsonl, .csv, .tsv, .parquet; .gz, .zst), folders or patterns of them; - is "
        "the standard input"
    ),
]
ChangesArgument = Annotated[
    list[Path],
    typer.Argument(
        help='Files of documents to put, as for `build`, and of lines {"id": ..., "delete": true}; '
        "- is the standard input"
    ),
]
IdFieldOption = Annotated[
    str,
    typer.Option("--id-field", envvar="CLEAR_ID_FIELD", help="Key of the id; a.b if nested"),
]
TextFieldOption = Annotated[
    str, typer.Option("--text-field", envvar="CLEAR_TEXT_FIELD", help="Key of the text")
]
TitleFieldOption = Annotated[
    str, typer.Option("--title-field", envvar="CLEAR_TITLE_FIELD", help="Key of the title")
]
FactoryOption = Annotated[
    str | None, typer.Option("--factory", help="FAISS factory string (CLEAR_FACTORY)")
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        envvar="CLEAR_FIELD",
        help="NAME:KIND to filter by (string, number, boolean, strings, date), or a .toml or .json "
        "file of them; may be repeated",
    ),
]
ChunkTokensOption = Annotated[
    int | None,
    typer.Option(
        "--chunk-tokens",
        envvar="CLEAR_CHUNK_TOKENS",
        help="Split documents over this many tokens, into chunks of as many; by default those over "
        "the encoder's limit, into chunks of 80",
    ),
]
ChunkOverlapOption = Annotated[
    int | None,
    typer.Option(
        "--chunk-overlap",
        min=0,
        envvar="CLEAR_CHUNK_OVERLAP",
        help="Tokens that a chunk repeats of the one before, whole sentences; by default 0",
    ),
]
NoChunkOption = Annotated[
    bool,
    typer.Option(
        "--no-chunk", envvar="CLEAR_NO_CHUNK", help="Cut long documents at the encoder's limit"
    ),
]
EvidenceOption = Annotated[
    bool | None,
    typer.Option(
        "--evidence/--no-evidence",
        envvar="CLEAR_EVIDENCE",
        help="Embed each sentence, too, so that hits can show the part that answers best; by "
        "default an update does as the build did",
    ),
]
LateChunkingOption = Annotated[
    bool | None,
    typer.Option(
        "--late-chunking/--no-late-chunking",
        envvar="CLEAR_LATE_CHUNKING",
        help="Embed neighboring chunks in one pass over as many tokens as the encoder reads; by "
        "default each alone",
    ),
]
DeduplicateOption = Annotated[
    bool | None,
    typer.Option(
        "--deduplicate/--no-deduplicate",
        envvar="CLEAR_DEDUPLICATE",
        help="Fold documents with equal texts (but for case and spaces) in answers, with their ids",
    ),
]
SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-invalid", envvar="CLEAR_SKIP_INVALID", help="Skip and count invalid passages"
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="CLEAR_WORKERS",
        help="Processes that encode, each with its share of the cores or a GPU",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", envvar="CLEAR_RAY", help="Encode on this Ray cluster: auto or host:port"),
]


def load_settings(**given: object) -> "Settings":
    """Load the settings; their module takes half of the start of `--help`, which needs none."""
    from service.settings.settings import load_settings as load

    return load(**given)


def index_folder(settings: "Settings") -> Path:
    """Return the index folder; end the command with an error if none is set, or a URL."""
    if settings.index is None:
        console.fail("no index is named: give --index DIR or set CLEAR_INDEX")
    if isinstance(settings.index, str):
        console.fail(
            f"{settings.index} is a URL, which this command cannot use: give --index DIR, the "
            "folder that is uploaded there by `clear-service index upload`"
        )
    return settings.index


def pulled_index_folder(settings: "Settings") -> Path:
    """Return the index folder; of a URL that of its local copy, once it is pulled."""
    from service.components import mirror_of
    from service.retrieval.progress import show_progress

    if (mirror := mirror_of(settings)) is None:
        return index_folder(settings)
    with show_progress() as on_progress:
        mirror.pull_current(on_progress)
    return mirror.folder


def chunk_limits(
    tokens: int | None, overlap: int | None, late: bool | None, is_unsplit: bool
) -> tuple[int | None, int | None, bool | None]:
    """Return the arguments of `Chunking.of`; refuse options that contradict each other."""
    if not is_unsplit:
        return tokens, overlap, late
    given = {"chunk-tokens": tokens, "chunk-overlap": overlap, "late-chunking": late or None}
    for name, value in given.items():
        if value is not None:
            variable = name.upper().replace("-", "_")
            console.fail(
                f"--no-chunk (CLEAR_NO_CHUNK) and --{name} (CLEAR_{variable}) contradict each "
                "other: leave one out"
            )
    return 0, None, late
