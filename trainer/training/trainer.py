"""sentence-transformers' trainer as this project runs it: small checkpoints, exact resumption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.evaluation import BaseEvaluator

from trainer.training.model import TrainableEncoder, load_trained_tensors

WEIGHTS = "trained.safetensors"
STATE = "trainer_state.json"
PREFIX = "checkpoint-"


class EncoderTrainer(SentenceTransformerTrainer):
    """Takes the steps of a run; a checkpoint holds the parameters that learn and no others."""

    def __init__(self, trainable: TrainableEncoder, **arguments: Any) -> None:
        """Take a trainable and the library's own arguments."""
        self._trainee = trainable
        super().__init__(model=trainable.model, **arguments)

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        directory = Path(output_dir or self.args.output_dir or "")
        directory.mkdir(parents=True, exist_ok=True)
        trained = self._trainee.trained_tensors()
        save_file(
            {name: parameter.detach().cpu().contiguous() for name, parameter in trained.items()},
            directory / WEIGHTS,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: object = None) -> None:
        load_trained_tensors(self._trainee, load_file(Path(resume_from_checkpoint) / WEIGHTS))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def add_model_card_callback(self, default_args_dict: object) -> None:
        """Add none: publishing writes the card, from what the run recorded."""


class DevEvaluator(BaseEvaluator):
    """Hands the trainer what `measure` finds; the trainer's own arguments are not needed."""

    def __init__(self, measure: Callable[[int], dict[str, float]]) -> None:
        """Take what measures the model as it is now, at a step."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._measure = measure

    def __call__(
        self, model: object, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure."""
        return self._measure(steps)


def last_checkpoint(directory: Path) -> Path | None:
    """Find the newest checkpoint that was written to its end: its state is written last."""
    found = [path.parent for path in directory.glob(f"{PREFIX}*/{STATE}")]
    return max(found, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)


def best_step(trainer: EncoderTrainer) -> int | None:
    """Tell the step whose weights the run ended with, where it chose one."""
    best = trainer.state.best_model_checkpoint
    return int(Path(best).name.removeprefix(PREFIX)) if best else None
