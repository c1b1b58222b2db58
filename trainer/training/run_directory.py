"""The directory of a training run: what is needed to resume it and to repeat it.

config.json    the configuration, with defaults
run.json       digests of configuration and data, versions, commit, device, base scores, results
log.jsonl      a line for each step (loss terms, rows a second) and for each evaluation
checkpoints/   trained parameters, optimizer and random state, to resume from
encoder/ or adapter/   the result
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import ArtifactError
from service.retrieval.storage import artifact, checksums
from service.retrieval.storage.hub import split_hub_name
from trainer.config import RunConfig
from trainer.errors import ConfigError, OutputError
from trainer.output import disk_failure, exclusive_output

RECORD, LOG, CONFIG, CHECKPOINTS = "run.json", "log.jsonl", "config.json", "checkpoints"
PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy")


class RecordError(ArtifactError):
    """A file of a run cannot be read."""

    how_to_restore = "restore it from a copy, or delete the run's folder and train again"


def find_run(directory: Path, config: RunConfig) -> dict[str, Any] | None:
    """Return the record of a run in a directory, or None if it holds none.

    Raises:
        ConfigError: the directory holds a run of another configuration or of other data, or a
            file of the data does not exist.
        RecordError: the run's record cannot be read.
    """
    identity = _identity(config)
    path = directory / RECORD
    if not path.is_file():
        return None
    record = artifact.read_json_object(path, RecordError)
    if {name: record.get(name) for name in identity} != identity:
        raise ConfigError(
            f"{directory} holds a run of another configuration or of other data: "
            "name another --output, or delete it"
        )
    return record


def create_run(directory: Path, config: RunConfig) -> dict[str, Any]:
    """Create a run directory, and return the run's record.

    Raises:
        OutputError: the directory cannot be written.
    """
    record = {**_identity(config), "seed": config.seed, "is_finished": False, **environment()}
    try:
        (directory / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        write_record(directory, record)
        if is_first_process():
            artifact.replace_file(directory / CONFIG, config.model_dump_json(indent=1).encode())
    except OSError as error:
        raise _unwritable(directory, error.strerror) from None
    return record


@contextmanager
def exclusive_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, in the first process only; name it if the disk is full.

    Raises:
        OutputError: another run holds the lock, or the directory cannot be written.
    """
    try:
        with exclusive_output(directory) if is_first_process() else nullcontext():
            yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = disk_failure(error)
        if reason is None:
            raise
        raise _unwritable(directory, reason) from None


def _unwritable(directory: Path, reason: str | None) -> OutputError:
    return OutputError(
        f"the run directory {directory} cannot be written ({reason}): free the disk, and the same "
        "command continues, or name another"
    )


def _identity(config: RunConfig) -> dict[str, Any]:
    return {"config": config_digest(config), "data": data_digests(config)}


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Replace `run.json` atomically, in the first process only."""
    if not is_first_process():
        return
    artifact.replace_file(directory / RECORD, artifact.canonical_json(record))


def append_log(directory: Path, entry: Mapping[str, Any]) -> None:
    """Append a line to `log.jsonl`, in the first process only."""
    if not is_first_process():
        return
    with (directory / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def cut_log(directory: Path, step: int) -> None:
    """Remove from `log.jsonl` what came after a step, from which the run is resumed.

    A last line that a killed process did not finish goes, too.

    Raises:
        ConfigError: a line before the last is damaged.
    """
    path = directory / LOG
    if not is_first_process() or not path.is_file():
        return
    lines, kept = path.read_bytes().splitlines(keepends=True), list[bytes]()
    for number, line in enumerate(lines, 1):
        found = _logged_step(line)
        if found is None and number < len(lines):
            raise ConfigError(
                f"{path}:{number} is damaged: remove the line, and the same command continues"
            )
        if found is None or found > step:
            break
        kept.append(line)
    artifact.replace_file(path, b"".join(kept))


def _logged_step(line: bytes) -> int | None:
    """Return the step of a line of the log, or None if it is not whole."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return step if isinstance(step, int) else None


def config_digest(config: RunConfig) -> str:
    """Return a digest of everything that the result depends on; paths are not part of it."""
    content = config.model_dump(mode="json", exclude={"tensorboard": True})
    for section, name in (("data", "rows"), ("dev", "sets")):
        content[section][name] = len(content[section][name])
    return hashlib.sha256(artifact.canonical_json(content)).hexdigest()


def data_digests(config: RunConfig) -> dict[str, str]:
    """Return the digests of the files of rows and dev sets.

    A file is named with its last two folders, because all sets have the same file names.

    Raises:
        ConfigError: a file does not exist.
    """
    digests = {}
    for path in dict.fromkeys([*config.data.rows, *config.dev.sets]):
        files = sorted(path.glob("*.[jt]s*")) if path.is_dir() else [path]
        for file in files:
            if not file.is_file():
                raise ConfigError(f"{file} does not exist: make it with `clear-trainer import`")
            digests["/".join(file.parts[-3:])] = checksums.sha256_of(file)
    return digests


def environment() -> dict[str, Any]:
    """Return the environment of a run: commit, versions, processor, GPUs."""
    return {
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        },
    }


def _git_commit() -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def base_facts(base: Encoder, configured_name: str) -> dict[str, str | None]:
    """Return name, revision (if it is a Hub name) and fingerprint of the run's base.

    Of a folder only its own name is recorded: the record is published.
    """
    name, revision = split_hub_name(configured_name)
    return {
        "name": name if revision else base.public_name,
        "revision": revision,
        "fingerprint": base.fingerprint,
    }


def is_first_process() -> bool:
    """Return whether this is the first of several processes, which writes the run's files."""
    return os.environ.get("RANK", "0") == "0"


def run_summary(directory: Path, record: Mapping[str, Any]) -> str:
    """Return the lines about a finished run: the output, dev scores, and prompts in force."""
    lines = [f"{directory / record['output']}: {record['steps']} steps"]
    if record["best_step"]:
        lines[0] += f", weights of step {record['best_step']}"
    for name, scores in record.get("scores", {}).items():
        base = record["base_scores"][name]
        cells = (f"{key} {value:.4f} ({value - base[key]:+.4f})" for key, value in scores.items())
        lines.append(f"{name}, nDCG@10 and its change: {', '.join(cells)}")
    lines += record.get("prompts", [])
    if left := record.get("without_adapter"):
        kinds = ", ".join(sorted(set(left.values())))
        lines.append(f"{len(left)} matrices of {kinds} have no adapter and are those of the base")
    if not record.get("english_gate", True):
        lines.append(
            "the result fails the English gate: take fewer steps, a lower learning rate, or blend"
        )
    return "\n".join(lines)
