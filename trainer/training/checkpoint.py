"""The checkpoints of a run: which one a run resumes from, and whether its files are whole."""

import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from service.retrieval.storage import artifact
from trainer.errors import ConfigError
from trainer.training.run_directory import RecordError

WEIGHTS, STATE, PREFIX = "trained.safetensors", "trainer_state.json", "checkpoint-"
# Files of transformers' trainer, which would go on without one that is missing.
OPTIMIZER, SCHEDULER, RANDOM = "optimizer.pt", "scheduler.pt", "rng_state"


def last_checkpoint(directory: Path) -> Path | None:
    """Return the newest checkpoint; the state of training is written last.

    Raises:
        TrainerError: a file of it is missing or damaged.
    """
    found = [path.parent for path in directory.glob(f"{PREFIX}*/{STATE}")]
    last = max(found, key=step_of, default=None)
    if last:
        check_checkpoint(last)
    return last


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix(PREFIX))


def check_checkpoint(checkpoint: Path) -> None:
    """Refuse a checkpoint that a run cannot resume from.

    Raises:
        ConfigError: a file of it, or the weights of the best step, are missing or damaged; the
            message names the file and how to go on.
    """
    fix = (
        f"remove the folder {checkpoint}, and the same command continues from the checkpoint "
        "before it, or from the start"
    )
    try:
        state = artifact.read_json_object(checkpoint / STATE, RecordError)
    except RecordError:
        raise ConfigError(f"{checkpoint / STATE} is damaged: {fix}") from None
    random = sorted(checkpoint.glob(f"{RANDOM}*.pth")) or [checkpoint / f"{RANDOM}.pth"]
    for path in (*(checkpoint / name for name in (WEIGHTS, OPTIMIZER, SCHEDULER)), *random):
        if fault := _fault(path):
            raise ConfigError(f"{path} {fault}: {fix}")
    if best := state.get("best_model_checkpoint"):
        path = Path(str(best)) / WEIGHTS
        if fault := _fault(path):
            raise ConfigError(
                f"{path}, the best weights of the run, {fault}: put it back, or remove the folder "
                f"{checkpoint.parent}, and the same command starts again"
            )


def _fault(path: Path) -> str | None:
    """Return what is wrong with a file of weights or of torch's states, or None."""
    if not path.is_file():
        return "is missing"
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                file.keys()
        else:
            with zipfile.ZipFile(path) as archive:
                return f"is damaged ({broken})" if (broken := archive.testzip()) else None
    except (SafetensorError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return "is damaged"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None
