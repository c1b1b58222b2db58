"""Progress of training steps: loss terms and rows a second, shown and logged."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from service.retrieval.progress import ProgressDisplay, ignore_progress
from service.retrieval.terminal import open_console
from trainer.training.run_directory import append_log

# Entries of the trainer's log that are not loss terms.
OTHERS = {"loss", "grad_norm", "learning_rate", "epoch"}


class StepProgress(TrainerCallback):
    """Logs the steps of a run, and shows them with their loss."""

    def __init__(
        self,
        directory: Path,
        on_progress: ProgressDisplay = ignore_progress,
        console: Console | None = None,
    ) -> None:
        """Log to the `log.jsonl` of a run directory.

        Args:
            directory: the run directory.
            on_progress: called with the stage `train` and the loss of each step.
            console: where the dev scores are printed; stderr by default.
        """
        self._directory = directory
        self._on_progress = on_progress
        self._console = console or open_console(stderr=True)
        self._started = time.monotonic()
        self._first_step = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Start the clock; a resumed run counts only its own steps."""
        self._started = time.monotonic()
        self._first_step = state.global_step
        if state.is_world_process_zero:
            self._on_progress("train", state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Log a step with its terms and rows a second, and show it."""
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        seconds = time.monotonic() - self._started
        rows = args.train_batch_size * args.world_size * (state.global_step - self._first_step)
        terms = {name: value for name, value in logs.items() if name not in OTHERS}
        entry = {"step": state.global_step, "loss": logs["loss"], "terms": terms}
        entry |= {"learning_rate": logs.get("learning_rate"), "grad_norm": logs.get("grad_norm")}
        entry["rows_per_second"] = round(rows / max(seconds, 1e-9), 2)
        append_log(self._directory, entry)
        shown = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
        facts = f"loss {entry['loss']:.3f} = {shown} · {entry['rows_per_second']:.1f} rows/s"
        self._on_progress("train", state.global_step, state.max_steps, facts)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Print the dev scores and whether the English gate holds."""
        if metrics and "eval_ndcg@10" in metrics and state.is_world_process_zero:
            is_kept = metrics["eval_gated"] == metrics["eval_ndcg@10"]
            self._console.print(
                f"step {state.global_step}: dev nDCG@10 {metrics['eval_ndcg@10']:.4f}, "
                f"English {-metrics['eval_english_drop']:+.4f}"
                f"{'' if is_kept else ' (fails the English gate)'}"
            )
