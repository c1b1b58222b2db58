"""Options that several commands share, each with its environment variable; an exit code."""

from pathlib import Path
from typing import Annotated

import typer

GATE_FAILED = 3  # exit code: a gate, such as the margin of English, was not kept

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
        help="Truncate texts to this many tokens; published results use 256.",
    ),
]
CacheOption = Annotated[
    Path | None, typer.Option(envvar="CLEAR_CACHE", help="Cache folder of the bundled encoder.")
]
LanguagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--language",
        envvar="CLEAR_TRAINER_LANGUAGE",
        help="A language to use besides English; repeat for more. Default: all.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON instead of a table.")
]
TrainingLogOption = Annotated[
    Path | None, typer.Option(help="log.jsonl of a training run: plot its loss terms in the page.")
]
BlendCurveOption = Annotated[
    Path | None, typer.Option(help="curve.svg of a blend: show its trade-off in the page.")
]
EnglishMarginOption = Annotated[
    float, typer.Option(min=0, help="Maximum loss of English -> English nDCG@10.")
]
