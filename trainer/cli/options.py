"""Options that several commands share, each with its variable."""

from pathlib import Path
from typing import Annotated

import typer

EncoderOption = Annotated[
    str,
    typer.Option(envvar="CLEAR_ENCODER", help="`bundled`, a folder, or owner/name@commit."),
]
DeviceOption = Annotated[
    str, typer.Option(envvar="CLEAR_DEVICE", help="auto, cpu, cuda or cuda:N.")
]
CpuEngineOption = Annotated[
    str, typer.Option(envvar="CLEAR_CPU_ENGINE", help="On a CPU: auto, torch or openvino.")
]
PrecisionOption = Annotated[
    str, typer.Option(envvar="CLEAR_PRECISION", help="auto, fp32, bf16, fp16 or int8.")
]
MaxTokensOption = Annotated[
    int,
    typer.Option(
        envvar="CLEAR_MAX_TOKENS",
        min=16,
        help="Texts are cut here; the known figures are for 256.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="CLEAR_CACHE", help="The folder that keeps the bundled encoder."),
]
LanguagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--language",
        envvar="CLEAR_TRAINER_LANGUAGE",
        help="A language beside English; repeat it for more. All by default.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON, not a table.")
]
TrainingLogOption = Annotated[
    Path | None, typer.Option(help="A run's log.jsonl: its loss terms go on the page.")
]
BlendCurveOption = Annotated[
    Path | None, typer.Option(help="A blend's curve.svg: its trade-off goes on the page.")
]
