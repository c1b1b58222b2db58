"""What a finished run tells on a terminal; imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_summary(directory: Path, record: Mapping[str, Any]) -> str:
    """Say what came out and what the dev sets say of it."""
    lines = [f"{directory / record['output']}: {record['steps']} steps"]
    if record["best_step"]:
        lines[0] += f", weights of step {record['best_step']}"
    for name, scores in record.get("scores", {}).items():
        base = record["base_scores"][name]
        cells = (f"{key} {value:.4f} ({value - base[key]:+.4f})" for key, value in scores.items())
        lines.append(f"{name}, nDCG@10 and its change: {', '.join(cells)}")
    if not record.get("english_gate", True):
        lines.append("the English gate is broken: take fewer steps, a lower rate, or blend")
    return "\n".join(lines)
