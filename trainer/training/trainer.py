"""sentence-transformers' trainer with small checkpoints and exact resumption."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.util.distributed import get_world_size
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from service.retrieval import interruption
from trainer.errors import ConfigError
from trainer.training.checkpoint import WEIGHTS, step_of
from trainer.training.model import TrainableEncoder, load_trained_tensors


class EncoderTrainer(SentenceTransformerTrainer):
    """A trainer whose checkpoints hold only the trained parameters and the state of training."""

    def __init__(self, trainable: TrainableEncoder, **arguments: Any) -> None:
        """Train an encoder with the arguments of sentence-transformers' trainer."""
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

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        """Take a step; refuse a loss that is not finite, which the log would replace."""
        loss: Tensor = super().training_step(*arguments, **named)
        if not loss.isfinite().all():
            raise self._divergence(f"the loss of step {self.state.global_step + 1} is not finite")
        return loss

    def check_weights(self) -> None:
        """Refuse trained weights that are not finite, which no encoder can embed with.

        Raises:
            ConfigError: naming the step and the learning rate.
        """
        if not all(each.isfinite().all() for each in self._trainee.trained_tensors().values()):
            raise self._divergence(
                f"the weights after step {self.state.global_step} are not finite"
            )

    def _divergence(self, what: str) -> ConfigError:
        return ConfigError(
            f"the training diverged: {what}, with optimizer.learning_rate = "
            f"{self.args.learning_rate:g}: lower it, and name another --output"
        )

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def add_model_card_callback(self, default_args_dict: object) -> None:
        """Do nothing: `publish` writes the model card from the run's record."""


class DevEvaluator(BaseEvaluator):
    """An evaluator that calls a function of the step; the trainer's arguments are not needed."""

    def __init__(self, measure: Callable[[int], dict[str, float]]) -> None:
        """Call `measure`, which evaluates the current model at a step."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._measure = measure

    def __call__(
        self, model: object, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the scores at a step."""
        return self._measure(steps)


class RefuseDivergence(TrainerCallback):
    """Checks the weights after a step, before they are evaluated or saved."""

    def __init__(self, trainer: EncoderTrainer) -> None:
        """Check the weights of a trainer."""
        self._trainer = trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Check before an evaluation, a checkpoint and the end."""
        if control.should_evaluate or control.should_save or control.should_training_stop:
            self._trainer.check_weights()


class StopWhenAsked(TrainerCallback):
    """Ends training after a step, with a checkpoint, once a function returns true."""

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        """Ask the function after each step."""
        self._is_asked = is_asked

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Stop if asked."""
        if self._is_asked():
            control.should_save = control.should_training_stop = True


@contextmanager
def stopping_after_a_step(trainer: EncoderTrainer) -> Iterator[None]:
    """At the first SIGTERM or SIGINT, end the process after the step, with a checkpoint.

    Several processes end at once: one would stop a step before another, which would wait for it.
    """
    if get_world_size() > 1:
        yield
        return

    def report() -> str:
        return f"interrupted after step {trainer.state.global_step}: the same command resumes it"

    with interruption.reporting(report), interruption.deferring() as is_asked:
        trainer.add_callback(StopWhenAsked(is_asked))
        yield


def best_step(trainer: EncoderTrainer) -> int | None:
    """Return the step of the best weights, or None if the run does not select the best."""
    best = trainer.state.best_model_checkpoint
    return step_of(Path(best)) if best else None
