import json
import re
from pathlib import Path

from typer.testing import CliRunner

from service.cli.main import app


def test_doctor_says_what_each_part_takes_and_the_parts_are_the_whole(
    tuned_checkpoint: Path, tmp_path: Path
) -> None:
    flags = ["--memory", "--json", "--encoder", str(tuned_checkpoint), "--cache", str(tmp_path)]
    result = CliRunner().invoke(app, ["doctor", *flags], env={"CLEAR_CPU_ENGINE": "torch"})

    assert result.exit_code == 0, result.output
    *entries, content = json.loads(result.stdout)
    assert [entry["subject"].removeprefix("memory: ") for entry in entries] == [
        "Python",
        "libraries",
        "language detector",
        "encoder of queries, with its tokenizer",
        "its largest batches",
        "encoder of passages, once a text of them has come",
    ]
    pairs = [re.findall(r"-?[\d,]+(?= MiB)", entry["found"]) for entry in entries]
    grown, totals = (
        [int(text.replace(",", "")) for text in column] for column in zip(*pairs, strict=True)
    )
    assert abs(sum(grown) - totals[-1]) <= len(grown)  # rounded
    parts = [int(text.replace(",", "")) for text in re.findall(r"[\d,]+(?= MiB)", content["found"])]
    assert abs(sum(parts) - totals[-1]) <= 3
