"""One training run: from a configuration to an encoder or an adapter.

The way of a row: `read_epoch` reads it, `text_columns` makes columns of texts,
`LanguageSampler` draws batches, and `RetrievalLoss` embeds them and calls the objective.
A run that was stopped resumes from its last checkpoint.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Embeddings
from service.retrieval.progress import OnProgress, ignore_progress
from trainer.config import RunConfig
from trainer.data.training_rows import TrainingRows
from trainer.objective.batch import BatchObjective
from trainer.objective.build import RunObjective, build_objective
from trainer.objective.columns import text_columns
from trainer.objective.frozen import embed_cached, embed_texts
from trainer.objective.loss import RetrievalLoss
from trainer.training.checkpoint import last_checkpoint, step_of
from trainer.training.dev import DevSet, Scores, dev_scores, read_dev_set, summary
from trainer.training.device import local_device
from trainer.training.epoch import read_epoch
from trainer.training.export import export
from trainer.training.lora import matrices_without_adapter
from trainer.training.memory_probe import probe_micro_batch
from trainer.training.model import TrainableEncoder, load_trainable_encoder
from trainer.training.run_directory import (
    CHECKPOINTS,
    append_log,
    base_facts,
    create_run,
    cut_log,
    find_run,
    is_first_process,
    write_record,
)
from trainer.training.sampler import make_sampler
from trainer.training.trainer import (
    DevEvaluator,
    EncoderTrainer,
    RefuseDivergence,
    best_step,
    stopping_after_a_step,
)


@dataclass
class TrainingRun:
    """The state of a run: its configuration, data, encoder, and the record that it writes."""

    config: RunConfig
    directory: Path
    cache: Path
    rows: TrainingRows
    dev_sets: list[DevSet]
    trainable: TrainableEncoder
    on_progress: OnProgress
    record: dict[str, Any]


def train(
    config: RunConfig,
    directory: Path,
    *,
    cache: Path,
    device: str = "auto",
    on_progress: OnProgress = ignore_progress,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train an encoder, or resume a run that was stopped.

    Args:
        config: of the run.
        directory: the run directory; a finished run in it is returned and not repeated.
        cache: the folder of the bundled encoder and of frozen embeddings.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_progress: is called during the stages before and after training.
        callbacks: of the trainer's steps.

    Returns:
        The run's record.

    Raises:
        TrainerError: data or configuration are invalid; nothing was trained.
        RetrievalError: the encoder cannot be used.
    """
    found = find_run(directory, config)
    if found and found["is_finished"]:
        return found
    own_device = local_device(device)
    if config.optimizer.is_deterministic:  # read by cuBLAS when the encoder first computes
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    last = last_checkpoint(directory / CHECKPOINTS)  # a damaged one is refused at once
    on_progress("read", 0, None)
    rows = read_epoch(config)  # wrong data are refused before anything is written
    dev_sets = [read_dev_set(each, config.dev.max_queries) for each in config.dev.sets]
    record = found or create_run(directory, config)
    on_progress("load", 0, None)
    trainable = load_trainable_encoder(
        config.encoder, cache, own_device, config.optimizer.precision, config.seed
    )
    run = TrainingRun(config, directory, cache, rows, dev_sets, trainable, on_progress, record)
    record["base"] = base_facts(trainable.base, config.encoder.name)
    record["prompts"] = trainable.base.prompts_in_force.lines
    if config.encoder.lora_rank:
        record["without_adapter"] = matrices_without_adapter(trainable.transformer)
    if dev_sets and "base_scores" not in record:
        record["base_scores"] = _score_dev_sets(run, is_base=True)
        write_record(directory, record)  # a run that is stopped early does not repeat it
    made = build_objective(config, rows.rows, trainable.base, cache, on_progress)
    record["temperature"] = made.temperature
    on_progress("prepare", 0, None)  # finds the size of micro-batches
    trainer = _make_trainer(run, made, callbacks)
    write_record(directory, record)
    cut_log(directory, step_of(last) if last else 0)
    with stopping_after_a_step(trainer):
        result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    return _finish(run, trainer, result.metrics)


def _make_trainer(
    run: TrainingRun, made: RunObjective, callbacks: Sequence[TrainerCallback]
) -> EncoderTrainer:
    """Connect rows, loss, sampler and dev evaluation in sentence-transformers' trainer."""
    optimizer, patience = run.config.optimizer, run.config.dev.patience
    names = (*made.objective.query_columns, *made.objective.passage_columns)
    columns = text_columns(run.rows.rows, names, run.trainable.base.prepare)
    micro_batch_rows = optimizer.micro_batch_rows
    if micro_batch_rows == "auto":
        micro_batch_rows = probe_micro_batch(run.trainable, optimizer.batch_rows, columns)
        run.record["micro_batch_rows"] = micro_batch_rows
    loss = RetrievalLoss(
        run.trainable.model,
        made.objective,
        micro_batch_rows=micro_batch_rows or None,
        micro_batch_tokens=optimizer.micro_batch_tokens or None,
        is_gathering=run.config.objective.gathers,
    )
    early_stopping = [EarlyStoppingCallback(patience)] if patience else []
    trainer = EncoderTrainer(
        run.trainable,
        args=_training_arguments(run, made.objective),
        train_dataset=Dataset.from_dict(columns | {"label": made.labels}),
        loss=loss,
        evaluator=DevEvaluator(lambda step: _evaluate(run, step)) if run.dev_sets else None,
        callbacks=[*early_stopping, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(RefuseDivergence(trainer))
    return trainer


def _training_arguments(
    run: TrainingRun, objective: BatchObjective
) -> SentenceTransformerTrainingArguments:
    config, base = run.config, run.trainable.base
    prompts = dict.fromkeys(objective.query_columns, base.prompts["query"])
    prompts |= dict.fromkeys(objective.passage_columns, base.prompts["passage"])
    has_dev = bool(run.dev_sets)
    keeps_best = has_dev and (config.dev.keeps_best or bool(config.dev.patience))
    optimizer = config.optimizer
    return SentenceTransformerTrainingArguments(
        output_dir=str(run.directory / CHECKPOINTS),
        max_steps=optimizer.steps,
        per_device_train_batch_size=optimizer.batch_rows,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type=optimizer.schedule,
        warmup_steps=optimizer.warmup_steps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_gradient_norm,
        bf16=run.trainable.precision == "bf16",
        seed=config.seed,
        full_determinism=optimizer.is_deterministic,
        use_cpu=base.device.type == "cpu",
        prompts={name: prompt for name, prompt in prompts.items() if prompt},
        batch_sampler=partial(make_sampler, rows=run.rows, mixing=config.data.mixing),
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
        ddp_broadcast_buffers=False,  # devices have different numbers of passes, and equal buffers
    )


def _evaluate(run: TrainingRun, step: int) -> dict[str, float]:
    """Evaluate the model at a step on the dev sets and log the scores."""
    scores = _score_dev_sets(run, is_base=False)
    dev = run.config.dev
    base_scores, weight = run.record["base_scores"], dev.worst_language_weight
    found = summary(base_scores, scores, dev.english_margin, weight)
    append_log(run.directory, {"step": step, "dev": scores, **found})
    return found


def _score_dev_sets(run: TrainingRun, *, is_base: bool) -> Scores:
    """Compute nDCG@10 on each dev set; what the base encoder embeds is kept for later runs."""
    base, cache, on_progress = run.trainable.base, run.cache, run.on_progress
    encoder = base if is_base else run.trainable.serving_encoder()
    scores: Scores = {}

    def embed(texts: Sequence[str], role: Role, *, by_base: bool) -> Embeddings:
        if by_base:
            return embed_cached(texts, role, base, cache, on_progress)
        return embed_texts(texts, role, encoder, on_progress)

    for dev_set in run.dev_sets:
        keeps_passages = is_base or run.config.objective.freezes_passages
        passages = embed(dev_set.passages, "passage", by_base=keeps_passages)
        embed_queries = partial(embed, role="query", by_base=is_base)
        scores[dev_set.name] = dev_scores(dev_set, embed_queries, passages)
    return scores


def _finish(run: TrainingRun, trainer: EncoderTrainer, metrics: dict[str, Any]) -> dict[str, Any]:
    """Complete the record and export what was trained."""
    record = run.record
    run.on_progress("write", 0, None)
    record["steps"], record["best_step"] = trainer.state.global_step, best_step(trainer)
    record["train_seconds"] = metrics.get("train_runtime")
    if run.dev_sets:
        record["scores"] = scores = _score_dev_sets(run, is_base=False)
        margin, weight = run.config.dev.english_margin, run.config.dev.worst_language_weight
        record["summary"] = summary(record["base_scores"], scores, margin, weight)
        record["english_gate"] = record["summary"]["english_drop"] <= margin
    facts = {"training": {name: value for name, value in record.items() if name != "is_finished"}}
    facts["training"]["objective"] = run.config.objective.model_dump(mode="json")
    if is_first_process():
        record["output"] = export(run.directory, run.trainable, run.config, facts).name
    record["is_finished"] = True
    write_record(run.directory, record)
    return record
