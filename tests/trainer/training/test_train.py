import copy
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

from service.retrieval import interruption
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from tests.support.architectures import make_encoder
from trainer.config import RunConfig, parse_config, read_config
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import Row, write_rows
from trainer.errors import ConfigError, DataError
from trainer.training.progress import StepProgress
from trainer.training.run_directory import base_facts, run_summary
from trainer.training.train import train

FIELDS = ("wheat", "barley", "millet", "maize", "beans", "cassava", "yams", "teff")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        Row(
            query=f"Where does {name} grow?",
            translated_query=f"Wo wächst {name[::-1]}?",
            language="de",
            passage_id=f"p.{name}",
            positive=f"In the {k}th valley {name} is sown by hand.",
            query_id=f"q.{name}",
        )
        for k, name in enumerate(FIELDS)
    ]
    write_rows(folder / "rows.jsonl", rows)
    judged = EvaluationData(
        passages={"en": [Passage(row.passage_id, row.positive) for row in rows]},
        queries={
            "en": [Query(row.query_id, row.query) for row in rows],
            "de": [Query(row.query_id, row.translated_query) for row in rows],
        },
        qrels={row.query_id: {row.passage_id: 1} for row in rows},
    )
    write_evaluation_set(folder / "fields", judged)
    return folder


def make_config(folder: Path, checkpoint: Path, **sections: Any) -> RunConfig:
    content: dict[str, Any] = {
        "seed": 7,
        "encoder": {"name": str(checkpoint), "max_tokens": 64, **sections.pop("encoder", {})},
        "data": {"rows": ["rows.jsonl"], **sections.pop("data", {})},
        "optimizer": {
            "steps": 6,
            "batch_rows": 4,
            "learning_rate": 1e-3,
            "precision": "fp32",
            **sections.pop("optimizer", {}),
        },
        "checkpoint_steps": 2,
        **sections,
    }
    return parse_config(content, folder / "config.toml")


def run(
    config: RunConfig, directory: Path, *callbacks: TrainerCallback, device: str = "cpu"
) -> dict[str, Any]:
    cache = directory.parent / "cache"
    return train(config, directory, cache=cache, device=device, callbacks=callbacks)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return str(request.param)


def steps_of(log: Path) -> list[int]:
    entries = map(json.loads, log.read_text().splitlines())
    return [entry["step"] for entry in entries if "loss" in entry]


class Kill(TrainerCallback):
    """Interrupts a run after a step and its line in the log, as a lost machine does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


CLEAR: dict[str, Any] = {"encoder": {"dropout": 0.1}}
BRIDGE: dict[str, Any] = {
    "encoder": {"lora_rank": 2, "dropout": 0.1},
    "objective": {"name": "frozen_bridge", "temperature": 0.02},
    "dev": {"sets": ["fields"], "every_steps": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "paper"])
def test_a_published_setting_runs(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    """Thirteen columns of 64 rows; only encoder, rows and the number of steps differ."""
    rows = [
        Row(
            query=f"Where is hill {k}?",
            translated_query=f"Wo ist Hügel {k}?",
            language="de",
            passage_id=f"p.{k}",
            positive=f"Hill {k} is {k} miles from the sea.",
            query_id=f"q.{k}",
            hard_negatives=tuple(f"Hill {k + n} has {n} paths." for n in range(1, 6)),
            hard_negative_queries=tuple(f"How many paths has hill {k + n}?" for n in range(1, 6)),
            hard_negative_ids=tuple(f"n.{k}.{n}" for n in range(1, 6)),
        )
        for k in range(130)
    ]
    write_rows(tmp_path / "mined.jsonl", rows)
    shipped = read_config(Path(__file__).parents[3] / "trainer" / "configs" / f"{name}.toml")
    encoder = shipped.encoder.model_copy(update={"name": str(tiny_checkpoint), "max_tokens": 64})
    data = shipped.data.model_copy(update={"rows": [tmp_path / "mined.jsonl"]})
    optimizer = shipped.optimizer.model_copy(update={"steps": 2})
    changes = {"encoder": encoder, "data": data, "optimizer": optimizer}

    progress = StepProgress(tmp_path / "run", console=Console(file=io.StringIO()))
    record = run(shipped.model_copy(update=changes), tmp_path / "run", progress)

    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [entry for entry in map(json.loads, log) if "loss" in entry]
    assert record["is_finished"]
    assert len(steps) == 2
    assert steps[-1]["terms"].keys() == {"english", "reverse", "kl"}
    assert all(0 < entry["loss"] < 10 for entry in steps)
    before = load_file(tiny_checkpoint / "model.safetensors")
    after = load_file(tmp_path / "run" / "encoder" / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"} <= moved


@pytest.mark.parametrize(("sections", "output"), [(CLEAR, "encoder"), (BRIDGE, "adapter")])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    folder: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    sections: dict[str, Any],
    output: str,
    device: str,
) -> None:
    """Dropout is on, so that the random state must be restored, too."""
    optimizer = {"is_deterministic": device == "cuda"}
    config = make_config(folder, tiny_checkpoint, **sections, optimizer=optimizer)
    run(config, tmp_path / "whole", device=device)
    log = tmp_path / "cut/log.jsonl"
    progress = StepProgress(tmp_path / "cut", console=Console(file=io.StringIO()))
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut", progress, Kill(step=5), device=device)
    assert not (tmp_path / "cut" / output).exists()
    torch.manual_seed(99)  # another process has another state

    before = steps_of(log)
    record = run(config, tmp_path / "cut", progress, device=device)

    assert before == [1, 2, 3, 4, 5]  # the checkpoint of step 4 is resumed from
    assert steps_of(log) == [1, 2, 3, 4, 5, 6]
    name = "adapter_model.safetensors" if output == "adapter" else "model.safetensors"
    whole, cut = (load_file(tmp_path / each / output / name) for each in ("whole", "cut"))
    assert record["steps"] == 6
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_a_trained_encoder_loads_and_its_manifest_records_the_run(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = load_encoder(str(tiny_checkpoint), device="cpu")

    shown = Console(file=io.StringIO())
    reports: list[tuple[str, int, int | None, str]] = []
    progress = StepProgress(
        tmp_path / "run",
        lambda stage, done, total, facts="": reports.append((stage, done, total, facts)),
        console=shown,
    )
    record = run(make_config(folder, tiny_checkpoint), tmp_path / "run", progress)

    encoder = load_encoder(str(tmp_path / "run" / "encoder"), device="cpu")
    manifest = json.loads((tmp_path / "run" / "encoder" / "manifest.json").read_text())
    assert encoder.fingerprint != base.fingerprint
    assert encoder.prompts == base.prompts
    assert encoder.passage_fingerprint == encoder.fingerprint
    training = manifest["training"]
    assert training["seed"] == 7
    assert training["objective"]["name"] == "clear"
    assert training["base"]["fingerprint"] == base.fingerprint
    assert [name.rpartition("/")[2] for name in training["data"]] == ["rows.jsonl"]
    assert record["is_finished"]
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    for step in steps:
        assert step["terms"].keys() == {"english", "reverse", "kl"}
        assert sum(step["terms"].values()) == pytest.approx(float(step["loss"]), abs=1e-3)
        assert step["rows_per_second"] > 0
    assert [report[:3] for report in reports] == [("train", step, 6) for step in range(7)]
    assert reports[-1][3].startswith(f"loss {steps[-1]['loss']:.3f} = english ")


def test_queries_trained_for_frozen_passages_keep_their_fingerprint(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = load_encoder(str(tiny_checkpoint), device="cpu")
    bridge = {"objective": {"name": "frozen_bridge"}}

    run(make_config(folder, tiny_checkpoint, **bridge), tmp_path / "run")

    encoder = load_encoder(str(tmp_path / "run" / "encoder"), device="cpu")
    assert encoder.fingerprint != base.fingerprint
    assert encoder.passage_fingerprint == base.passage_fingerprint


@pytest.mark.parametrize(
    "sections",
    [
        # The other terms are off: they would teach the English of a random base.
        {"objective": {"name": "frozen_bridge", "cross": 1, "kl": 0, "anchor": 0}},
        pytest.param(
            {
                "optimizer": {
                    "steps": 30,
                    "micro_batch_rows": 3,
                    "batch_rows": 8,
                    "learning_rate": 3e-3,
                }
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_eight_pairs_are_learned_to_recall_1(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path, sections: dict[str, Any], device: str
) -> None:
    optimizer = {"steps": 40, "batch_rows": 8, "learning_rate": 3e-3}
    dev = {"sets": ["fields"], "every_steps": 40, "english_margin": 1.0}
    config = make_config(
        folder, tiny_checkpoint, **{"optimizer": optimizer, "dev": dev, **sections}
    )

    record = run(config, tmp_path / "run", device=device)

    assert record["base_scores"]["fields"]["de"] < 0.9
    assert record["scores"]["fields"]["de"] == pytest.approx(1.0)


def test_a_run_directory_of_other_settings_or_data_is_refused(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(make_config(folder, tiny_checkpoint, optimizer={"steps": 1}), tmp_path / "run")

    with pytest.raises(ConfigError, match="another configuration or of other data"):
        run(make_config(folder, tiny_checkpoint, optimizer={"steps": 2}), tmp_path / "run")


class Signal(TrainerCallback):
    """Sends a signal to the process in the middle of a step."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(
    folder: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(interruption, "_program", interruption._Program())
    former = signal.signal(number, interruption._on_signal)
    config = make_config(folder, tiny_checkpoint).model_copy(update={"checkpoint_steps": 100})
    try:
        with pytest.raises(interruption.Interrupted):
            run(config, tmp_path / "run", Signal(number))
    finally:
        signal.signal(number, former)

    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-3"]
    assert not (tmp_path / "run" / "encoder").exists()


def test_a_finished_run_is_not_run_again(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = make_config(folder, tiny_checkpoint, optimizer={"steps": 1})
    first = run(config, tmp_path / "run")

    assert run(config, tmp_path / "run", Kill(step=1)) == first


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"languages": ["sw"]}, "in sw: check data.languages"),
        ({"languages": ["no such"]}, "data.languages: 'no such' is not a language of BCP 47"),
        ({"languages": ["deu"]}, "data.languages: 'deu' is 'de' in training rows: write it"),
        ({"hard_negatives": 2}, r"rows.jsonl:1 has 0 hard negatives, .* asks for 2"),
    ],
)
def test_rows_that_do_not_fit_fail_before_training(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(make_config(folder, tiny_checkpoint, data=data), tmp_path / "run")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"batch_rows": 9}}, r"rows.jsonl: an epoch has 8 rows, .*batch_rows = 9"),
        ({"data": {"shares": [0.01]}}, "data.shares: 0.01 of the rows of .*rows.jsonl rounds to"),
        (
            {"data": {"mixing": "separate"}, "optimizer": {"batch_rows": 9}},
            "optimizer.batch_rows = 9",
        ),
    ],
)
def test_data_that_make_no_batch_are_refused_before_anything_loads_or_is_written(
    folder: Path, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    config = make_config(folder, Path("no-such-encoder"), **sections)

    with pytest.raises(DataError, match=message):
        run(config, tmp_path / "run")

    assert not (tmp_path / "run").exists()  # the corrected configuration may use the same folder


def test_a_base_of_two_sides_is_refused_before_training(
    folder: Path, tuned_checkpoint: Path, tmp_path: Path
) -> None:
    """Its adapter would be left out silently."""
    with pytest.raises(ConfigError, match=r"^encoder.name: .* has two sides: name an encoder"):
        run(make_config(folder, tuned_checkpoint), tmp_path / "run")


def test_gradient_checkpointing_is_refused_where_the_transformer_has_none(
    folder: Path, tmp_path: Path
) -> None:
    checkpoint = make_encoder(tmp_path / "mpnet", "mpnet")
    encoder = {"gradient_checkpointing": True}

    with pytest.raises(ConfigError, match=r"^encoder.gradient_checkpointing: MPNetModel does not"):
        run(make_config(folder, checkpoint, encoder=encoder), tmp_path / "run")


def test_a_rank_over_the_hidden_size_is_refused_before_weights_load(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    size = json.loads((base / "config.json").read_text())["hidden_size"]
    (base / "model.safetensors").write_bytes(b"damaged")
    encoder = {"lora_rank": size + 1}

    with pytest.raises(ConfigError, match=rf"^encoder.lora_rank: {size + 1} is over {size}, the"):
        run(make_config(folder, base, encoder=encoder), tmp_path / "run")


def test_a_training_that_diverges_names_step_and_learning_rate(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    optimizer = {"learning_rate": 1e38, "warmup": 0, "max_gradient_norm": 1e30}
    message = r"^the training diverged: the (loss of|weights after) step \d .*_rate = 1e\+38:"

    dev = {"sets": ["fields"], "every_steps": 1}  # its evaluation would blame the base encoder
    config = make_config(folder, tiny_checkpoint, optimizer=optimizer, dev=dev)

    with pytest.raises(ConfigError, match=message):
        run(config, tmp_path / "run")


def test_a_base_is_recorded_with_its_revision_and_without_its_folder(
    tiny_encoder: Encoder,
) -> None:
    revision = "0" * 40
    unnamed = copy.copy(tiny_encoder)
    unnamed.name = "/home/someone/models/e5"

    assert base_facts(unnamed, unnamed.name)["name"] == "e5"

    assert base_facts(tiny_encoder, f"owner/name@{revision}") == {
        "name": "owner/name",
        "revision": revision,
        "fingerprint": tiny_encoder.fingerprint,
    }


def test_matrices_without_an_adapter_are_reported() -> None:
    left = {"layers.0.experts.up": "Experts", "layers.0.experts.down": "Experts"}
    record = {"output": "adapter", "steps": 3, "best_step": None, "without_adapter": left}

    assert run_summary(Path("run"), record).splitlines() == [
        "run/adapter: 3 steps",
        "2 matrices of Experts have no adapter and are those of the base",
    ]


def test_the_summary_of_a_run_states_the_prompts_in_force() -> None:
    prompts = ['query prompt "query: " (family e5: its card)', 'passage prompt "passage: " (…)']
    record = {"output": "encoder", "steps": 3, "best_step": None, "prompts": prompts}

    assert run_summary(Path("run"), record).splitlines()[1:] == prompts


# One start of the two processes for all runs: their imports are most of its time.
EACH_RUN = """
import sys
from trainer.cli.main import main

for arguments in sys.argv[1:]:
    sys.argv = ["clear-trainer", "train", *arguments.split("|")]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
TWO_PROCESSES = [("clear", 0), ("clear", 20), ("frozen_bridge", 20)]


@pytest.mark.slow
def test_two_processes_train_as_one_run(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """torchrun over gloo: rows are gathered, the first process writes, both exit with 0."""
    runs = {
        tmp_path / f"{objective}-{tokens}": (objective, tokens)
        for objective, tokens in TWO_PROCESSES
    }
    for run, (objective, micro_batch_tokens) in runs.items():
        (folder / f"{run.name}.toml").write_text(
            f"""
            [encoder]
            name = "{tiny_checkpoint}"
            max_tokens = 64
            [data]
            rows = ["rows.jsonl"]
            [objective]
            name = "{objective}"
            [optimizer]
            steps = 3
            batch_rows = 4
            micro_batch_tokens = {micro_batch_tokens}
            precision = "fp32"
            [dev]
            sets = ["fields"]
            every_steps = 3
            english_margin = 1.0
            """
        )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    trains = [f"{folder / run.name}.toml|--output|{run}|--device|cpu" for run in runs]

    done = subprocess.run(
        [*launch, "--no-python", sys.executable, "-c", EACH_RUN, *trains],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CLEAR_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("3 steps") == len(runs)
    for run in runs:
        record = json.loads((run / "run.json").read_text())
        assert record["steps"] == 3
        load_encoder(str(run / "encoder"), device="cpu")
