"""One training run: from a configuration to an encoder or an adapter, resumed where it stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from service.retrieval.progress import OnProgress, ignore_progress
from trainer.config import RunConfig
from trainer.data.training_rows import TrainingRows, columns_of, passage_codes, read_training_rows
from trainer.objective.batch import Bridge, InBatch
from trainer.objective.divergences import matched_temperature
from trainer.objective.frozen import embed_all, embed_once, frozen_pool
from trainer.objective.loss import BatchObjective, RetrievalLoss
from trainer.training.dev import DevSet, Scores, dev_scores, read_dev_set, summary
from trainer.training.export import export
from trainer.training.micro_batch import probe_micro_batch
from trainer.training.model import TrainableEncoder, load_trainable_encoder
from trainer.training.run import (
    CHECKPOINTS,
    append_log,
    base_facts,
    is_first_process,
    local_device,
    open_run,
    write_record,
)
from trainer.training.sampler import LanguageSampler
from trainer.training.trainer import DevEvaluator, EncoderTrainer, best_step, last_checkpoint

SAMPLE_ROWS = 512  # to match the temperature with


@dataclass
class Run:
    """A run under way."""

    config: RunConfig
    directory: Path
    cache: Path
    rows: TrainingRows
    dev: list[DevSet]
    trainable: TrainableEncoder
    on_progress: OnProgress
    record: dict[str, Any]

    @property
    def is_bridge(self) -> bool:
        """Tell whether passages stay as the base model made them."""
        return self.config.objective.name == "frozen_bridge"


def train(
    config: RunConfig,
    directory: Path,
    *,
    cache: Path,
    device: str = "auto",
    on_progress: OnProgress = ignore_progress,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train, or go on with a run that was stopped.

    Args:
        config: what to do.
        directory: the run directory; a finished run in it is not run again.
        cache: the folder of the bundled encoder and of frozen embeddings.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_progress: is told of the stages before training.
        callbacks: are told of the steps.

    Returns:
        The run's record.

    Raises:
        TrainerError: data or configuration are faulty; nothing was trained.
        RetrievalError: the encoder cannot be used.
    """
    record = open_run(directory, config)
    if record["is_finished"]:
        return record
    rows = read_training_rows(config.data, config.seed)
    dev = [read_dev_set(each, config.dev.max_queries) for each in config.dev.sets]
    trainable = load_trainable_encoder(
        config.encoder, cache, local_device(device), config.optimizer.precision, config.seed
    )
    run = Run(config, directory, cache, rows, dev, trainable, on_progress, record)
    record["base"] = base_facts(trainable.base)
    if dev:
        record.setdefault("base_scores", _scores(run, is_base=True))
    objective, labels = _objective(run)
    trainer = _trainer(run, objective, labels, callbacks)
    write_record(directory, record)
    last = last_checkpoint(directory / CHECKPOINTS)
    result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    return _finish(run, trainer, result.metrics)


def _objective(run: Run) -> tuple[BatchObjective, list[list[int]]]:
    """Build the objective and each row's labels, and fix the temperature."""
    config, rows = run.config.objective, run.rows.rows
    base, cache = run.trainable.base, run.cache
    if run.is_bridge:
        pool = frozen_pool(rows, base, cache, run.on_progress)
        sample = slice(0, SAMPLE_ROWS)
        temperature = config.temperature
        if temperature == "matched":
            queries, targets = pool.queries[sample], pool.targets[sample]
            temperature = matched_temperature(queries, pool.passages, targets)
        run.record["temperature"] = temperature
        return Bridge(config, pool, temperature), [[number] for number in range(len(rows))]
    temperature = config.temperature
    if temperature == "matched":
        sample_rows = rows[:SAMPLE_ROWS]
        pool = frozen_pool(sample_rows, base, cache, run.on_progress)
        temperature = matched_temperature(pool.queries, pool.passages, pool.targets)
    run.record["temperature"] = temperature
    num_negatives = run.config.data.hard_negatives
    return InBatch(config, num_negatives, temperature), passage_codes(rows, num_negatives)


def _trainer(
    run: Run,
    objective: BatchObjective,
    labels: list[list[int]],
    callbacks: Sequence[TrainerCallback],
) -> EncoderTrainer:
    names = (*objective.query_columns, *objective.passage_columns)
    dataset = Dataset.from_dict(columns_of(run.rows.rows, names) | {"label": labels})
    micro_batch_rows = run.config.optimizer.micro_batch_rows
    if micro_batch_rows == "auto":
        micro_batch_rows = probe_micro_batch(run.trainable, run.config, run.rows.rows)
        run.record["micro_batch_rows"] = micro_batch_rows
    loss = RetrievalLoss(
        run.trainable.model,
        objective,
        micro_batch_rows=micro_batch_rows or None,
        micro_batch_tokens=run.config.optimizer.micro_batch_tokens or None,
        is_gathering=run.config.objective.gathers,
    )
    early = [EarlyStoppingCallback(run.config.dev.patience)] if run.config.dev.patience else []
    trainer = EncoderTrainer(
        run.trainable,
        args=_arguments(run, objective),
        train_dataset=dataset,
        loss=loss,
        evaluator=DevEvaluator(lambda step: _measure(run, step)) if run.dev else None,
        callbacks=[*early, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(run: Run, objective: BatchObjective) -> SentenceTransformerTrainingArguments:
    config, base = run.config, run.trainable.base
    prompts = dict.fromkeys(objective.query_columns, base.prompts["query"])
    prompts |= dict.fromkeys(objective.passage_columns, base.prompts["passage"])
    has_dev = bool(run.dev)
    keeps_best = has_dev and (config.dev.keeps_best or bool(config.dev.patience))
    is_cpu = base.device.type == "cpu"
    optimizer = config.optimizer
    return SentenceTransformerTrainingArguments(
        output_dir=str(run.directory / CHECKPOINTS),
        max_steps=optimizer.steps,
        per_device_train_batch_size=optimizer.batch_rows,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type=optimizer.schedule,
        warmup_steps=optimizer.warmup,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_gradient_norm,
        bf16=run.trainable.precision == "bf16",
        seed=config.seed,
        full_determinism=optimizer.is_deterministic,
        use_cpu=is_cpu,
        prompts={name: prompt for name, prompt in prompts.items() if prompt},
        batch_sampler=lambda dataset, **planned: _sampler(run, dataset, planned),
        dataloader_drop_last=True,
        logging_steps=1,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=config.dev.every_steps,
        save_strategy="steps",
        save_steps=config.dev.every_steps if keeps_best else config.checkpoint_steps,
        save_total_limit=2,
        load_best_model_at_end=keeps_best,
        metric_for_best_model="gated" if keeps_best else None,
        greater_is_better=True if keeps_best else None,
        disable_tqdm=True,
        report_to=["tensorboard"] if config.tensorboard else [],
        ddp_find_unused_parameters=False,
    )


def _sampler(run: Run, dataset: Dataset, planned: dict[str, Any]) -> LanguageSampler:
    return LanguageSampler(
        dataset,
        groups=run.rows.groups,
        passage_ids=[row.passage_id for row in run.rows.rows],
        shares=run.rows.shares,
        mixing=run.config.data.mixing,
        **{name: planned[name] for name in ("batch_size", "drop_last", "seed")},
    )


def _measure(run: Run, step: int) -> dict[str, float]:
    """Measure the model as it is, and log it."""
    scores = _scores(run, is_base=False)
    found = summary(run.record["base_scores"], scores, run.config.dev.english_margin)
    append_log(run.directory, {"step": step, "dev": scores, **found})
    return found


def _scores(run: Run, *, is_base: bool) -> Scores:
    """Search the dev pool; passages are embedded anew only where their encoder learns."""
    base, told = run.trainable.base, run.on_progress
    encoder = base if is_base else run.trainable.serving_encoder()
    scores: Scores = {}
    for dev_set in run.dev:
        if is_base or run.is_bridge:
            passages = embed_once(dev_set.passages, "passage", base, run.cache, told)
        else:
            passages = embed_all(dev_set.passages, "passage", encoder, told)
        scores[dev_set.name] = dev_scores(dev_set, encoder, passages)
    return scores


def _finish(run: Run, trainer: EncoderTrainer, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write what was trained, with the record that goes with it."""
    record = run.record
    record["steps"], record["best_step"] = trainer.state.global_step, best_step(trainer)
    record["train_seconds"] = metrics.get("train_runtime")
    if run.dev:
        record["scores"] = scores = _scores(run, is_base=False)
        margin = run.config.dev.english_margin
        record["summary"] = summary(record["base_scores"], scores, margin)
        record["english_gate"] = record["summary"]["english_drop"] <= margin
    facts = {"training": {name: value for name, value in record.items() if name != "is_finished"}}
    facts["training"]["objective"] = run.config.objective.model_dump(mode="json")
    if is_first_process():
        record["output"] = export(run.directory, run.trainable, run.config, facts).name
    record["is_finished"] = True
    write_record(run.directory, record)
    return record
