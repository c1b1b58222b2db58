"""Progress of training steps: a bar with loss terms, rows a second and time left, and a log."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.training.run import append_log

# Entries of the trainer's log that are not loss terms.
OTHERS = {"loss", "grad_norm", "learning_rate", "epoch"}
LINE_SECONDS = 30.0


class StepProgress(TrainerCallback):
    """Shows steps on stderr, as a bar on a terminal and elsewhere as a line every 30 seconds."""

    def __init__(self, directory: Path, console: Console | None = None) -> None:
        """Log to the `log.jsonl` of a run directory."""
        self._directory = directory
        self._console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._started = self._last_line = time.monotonic()
        self._first_step = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Start the bar and the clock; a resumed run counts only its own steps."""
        self._started = self._last_line = time.monotonic()
        self._first_step = state.global_step
        self._progress.start()
        self._task = self._progress.add_task(
            "train", total=state.max_steps, completed=state.global_step, facts=""
        )

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
        self._show(state, entry, seconds)

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

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Remove the bar."""
        self._progress.stop()

    def _show(self, state: TrainerState, entry: Mapping[str, Any], seconds: float) -> None:
        terms = " ".join(f"{name} {value:.3f}" for name, value in entry["terms"].items())
        facts = f"loss {entry['loss']:.3f} = {terms} · {entry['rows_per_second']:.1f} rows/s"
        self._progress.update(self._task, completed=state.global_step, facts=facts)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            steps = state.global_step - self._first_step
            left = seconds / max(steps, 1) * (state.max_steps - state.global_step)
            self._console.print(
                f"step {state.global_step} of {state.max_steps}: {facts} · {left:.0f} s left"
            )
