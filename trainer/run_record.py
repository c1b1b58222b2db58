"""What a run directory says of its run: all that it takes to repeat it.

config.toml    the configuration, as it was given
run.json       its digest, the data's digests, versions, commit, device, base scores, results
log.jsonl      one line a logged step: loss terms, rows a second; one an evaluation
checkpoints/   trained parameters, optimiser and random state, to resume from
encoder/ or adapter/   what came out
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from service.retrieval import artifact
from service.retrieval.encoder import Encoder
from trainer.config import RunConfig
from trainer.errors import ConfigError, OutputError

RECORD, LOG, CONFIG, CHECKPOINTS = "run.json", "log.jsonl", "config.toml", "checkpoints"
PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy")


def open_run(directory: Path, config: RunConfig, source: str) -> dict[str, Any]:
    """Make a run directory, or find the one of the same configuration and data to go on with.

    Returns:
        Its record.

    Raises:
        ConfigError: the directory holds a run of another configuration or of other data.
        OutputError: it cannot be written.
    """
    identity = {"config": config_digest(config), "data": data_digests(config)}
    path = directory / RECORD
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_bytes())
        if {name: record[name] for name in identity} != identity:
            raise ConfigError(
                f"{directory} holds a run of another configuration or of other data: "
                "name another --run, or delete it"
            )
        return record
    try:
        (directory / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_text(source, encoding="utf-8")
        record = {**identity, "seed": config.seed, "is_finished": False, **environment()}
        write_record(directory, record)
    except OSError as error:
        raise OutputError(
            f"the run directory {directory} cannot be written ({error.strerror}): name another"
        ) from None
    return record


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`; a reader sees the old one or the new."""
    artifact.replace_file(directory / RECORD, artifact.canonical_json(record))


def append_log(directory: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to `log.jsonl`."""
    with (directory / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def config_digest(config: RunConfig) -> str:
    """Hash what decides a run's outcome; where its files lie does not."""
    content = config.model_dump(mode="json", exclude={"tensorboard": True})
    for section, names in (("data", ("rows",)), ("dev", ("rows", "pool"))):
        for name in names:
            content[section][name] = [Path(each).name for each in content[section][name]]
    return hashlib.sha256(artifact.canonical_json(content)).hexdigest()


def data_digests(config: RunConfig) -> dict[str, str]:
    """Hash the files of rows, by name.

    Raises:
        ConfigError: one is not there.
    """
    paths = dict.fromkeys([*config.data.rows, *config.dev.rows, *config.dev.pool])
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path} does not exist: make it with `clear-trainer import`")
    return {path.name: artifact.sha256_of(path) for path in paths}


def environment() -> dict[str, Any]:
    """Describe where a run runs: commit, versions, processor, device."""
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


def base_facts(base: Encoder) -> dict[str, str]:
    """Name the encoder that a run starts from."""
    return {"name": base.name, "fingerprint": base.fingerprint}
