from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from trainer.config import ObjectiveConfig
from trainer.data.rows import Row
from trainer.objective import loss as loss_module
from trainer.objective.batch import (
    BatchObjective,
    FrozenBridgeObjective,
    FrozenPool,
    InBatchObjective,
)
from trainer.objective.columns import passage_codes, text_columns
from trainer.objective.loss import RetrievalLoss
from trainer.objective.terms import Terms

NUM_ROWS = 7


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def model(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> SentenceTransformer:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = SentenceTransformer(str(tiny_checkpoint), device=request.param, local_files_only=True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.double().train()  # rounding must not hide a difference


def make_rows(count: int = NUM_ROWS) -> list[Row]:
    return [
        Row(
            query=f"What grows in field {k}?",
            translated_query=f"Was wächst auf Feld {k}, und seit wann?"[: 20 + 3 * k],
            language="de",
            passage_id=f"p{min(k, 4)}",  # rows 4 to 6 share one
            positive=f"Field {min(k, 4)} has grown wheat, and {'barley ' * min(k, 4)}.",
            query_id=f"q{k}",
            hard_negatives=(f"Stable {k} holds horses.", f"Lake {k * 7} has fish. " * 2),
            hard_negative_queries=(f"Wer steht in Stall {k}?", f"Was schwimmt in {k * 7}?"),
        )
        for k in range(count)
    ]


def tokenized(model: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    return {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in model.preprocess(texts).items()
    }


def features_of(
    model: SentenceTransformer, objective: BatchObjective, rows: list[Row]
) -> list[dict[str, Any]]:
    names = (*objective.query_columns, *objective.passage_columns)
    return [tokenized(model, texts) for texts in text_columns(rows, names, str).values()]


def make_objective(config: ObjectiveConfig, device: torch.device) -> tuple[BatchObjective, Tensor]:
    """Build an objective over `make_rows`, and its labels."""
    rows = make_rows()
    assert isinstance(config.temperature, float)
    if config.name != "frozen_bridge":
        codes = torch.tensor(passage_codes(rows, 2), device=device)
        return InBatchObjective(config, 2, config.temperature), codes
    generator = torch.Generator().manual_seed(0)
    pool = FrozenPool(
        passages=torch.randn(9, 32, generator=generator, dtype=torch.float64).to(device),
        passage_codes=torch.tensor([0, 1, 2, 3, 4, 4, 5, 6, 7], device=device),
        queries=torch.randn(NUM_ROWS, 32, generator=generator, dtype=torch.float64).to(device),
        query_places=torch.arange(NUM_ROWS, device=device),
        targets=torch.tensor([0, 1, 2, 3, 4, 5, 4], device=device),
    )
    labels = torch.arange(NUM_ROWS, device=device)[:, None]
    return FrozenBridgeObjective(config, pool, config.temperature), labels


def gradients_of(
    model: SentenceTransformer, compute: Callable[[], Terms]
) -> tuple[Terms, dict[str, Tensor]]:
    """Compute terms and every parameter's gradient."""
    model.zero_grad()
    terms = compute()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    named = model.named_parameters()
    return terms, {name: p.grad.clone() for name, p in named if p.grad is not None}


def one_batch(model: SentenceTransformer, objective: BatchObjective, labels: Tensor) -> Terms:
    """Embed each column in one pass, as a reference."""
    names = (*objective.query_columns, *objective.passage_columns)
    features = features_of(model, objective, make_rows())
    embedded = [model(each)["sentence_embedding"] for each in features]
    return objective(dict(zip(names, embedded, strict=True)), labels, slice(0, NUM_ROWS))


def assert_equal_steps(
    step: tuple[Terms, dict[str, Tensor]], expected: tuple[Terms, dict[str, Tensor]], atol: float
) -> None:
    (terms, gradients), (expected_terms, expected_gradients) = step, expected
    assert terms.keys() == expected_terms.keys()
    for name, term in expected_terms.items():
        torch.testing.assert_close(terms[name], term, atol=atol, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name] / largest, gradient / largest, atol=atol, rtol=0)


OBJECTIVES = [
    ObjectiveConfig(),
    ObjectiveConfig(name="info_nce", temperature=0.02),
    ObjectiveConfig(is_search_time=True, kl_direction="jsd", masks_false_negatives=False),
    ObjectiveConfig(name="frozen_bridge", temperature=0.02),
]
MICRO_BATCHES: list[dict[str, int]] = [
    {},
    {"micro_batch_rows": 3},
    {"micro_batch_rows": 100},
    {"micro_batch_tokens": 45},
]


@pytest.mark.parametrize("micro_batch", MICRO_BATCHES)
@pytest.mark.parametrize("config", OBJECTIVES)
def test_loss_and_gradients_equal_those_of_one_batch(
    model: SentenceTransformer,
    config: ObjectiveConfig,
    micro_batch: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "LOSS_ROWS", 2)
    monkeypatch.setattr(loss_module, "CPU_TOKENS", 60)
    objective, labels = make_objective(config, model.device)
    features = features_of(model, objective, make_rows())

    loss = RetrievalLoss(model, objective, **micro_batch)
    step = gradients_of(model, lambda: loss(features, labels))

    assert len(loss.cut(features)) > 1 or micro_batch == {"micro_batch_rows": 100}
    expected = gradients_of(model, lambda: one_batch(model, objective, labels))
    assert_equal_steps(step, expected, 1e-6)


@pytest.mark.parametrize("micro_batch", [{}, {"micro_batch_rows": 3}])
@pytest.mark.parametrize("config", OBJECTIVES)
def test_a_step_does_not_depend_on_the_order_of_the_rows_and_repeats_exactly(
    model: SentenceTransformer, config: ObjectiveConfig, micro_batch: dict[str, int]
) -> None:
    objective, labels = make_objective(config, model.device)
    features = features_of(model, objective, make_rows())
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4], device=model.device)
    shuffled = [
        {name: each[order] if isinstance(each, Tensor) else each for name, each in column.items()}
        for column in features
    ]
    loss = RetrievalLoss(model, objective, **micro_batch)

    step = gradients_of(model, lambda: loss(features, labels))
    again = gradients_of(model, lambda: loss(features, labels))
    other = gradients_of(model, lambda: loss(shuffled, labels[order]))

    assert_equal_steps(other, step, 1e-6)
    assert all(torch.equal(again[1][name], gradient) for name, gradient in step[1].items())


@pytest.mark.parametrize("config", [OBJECTIVES[0], OBJECTIVES[3]])
def test_a_scaled_backward_pass_scales_every_gradient(
    model: SentenceTransformer, config: ObjectiveConfig
) -> None:
    """As gradient accumulation and a gradient scaler do."""
    objective, labels = make_objective(config, model.device)
    features = features_of(model, objective, make_rows())
    loss = RetrievalLoss(model, objective, micro_batch_rows=3)

    step = gradients_of(model, lambda: loss(features, labels))
    scaled = gradients_of(
        model, lambda: {name: term / 4 for name, term in loss(features, labels).items()}
    )

    for name, gradient in step[1].items():
        torch.testing.assert_close(scaled[1][name], gradient / 4)


def test_the_cached_form_keeps_its_gradients_under_autocast(tiny_checkpoint: Path) -> None:
    """Autocast would reuse weights that it converted in the pass without a graph."""
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu", local_files_only=True)
    objective, labels = make_objective(ObjectiveConfig(), model.device)
    features = features_of(model.eval(), objective, make_rows())

    def step(**micro_batch: int) -> tuple[Terms, dict[str, Tensor]]:
        loss = RetrievalLoss(model, objective, **micro_batch)
        with torch.autocast("cpu", torch.bfloat16):
            return gradients_of(model, lambda: loss(features, labels))

    assert_equal_steps(step(micro_batch_rows=3), step(), 0.02)


def test_without_gradients_the_terms_are_the_same(model: SentenceTransformer) -> None:
    objective, labels = make_objective(ObjectiveConfig(), model.device)
    features = features_of(model, objective, make_rows())
    loss = RetrievalLoss(model, objective, micro_batch_rows=3)
    expected = loss(features, labels)

    with torch.no_grad():
        terms = loss(features, labels)

    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term.detach())


class Table(torch.nn.Module):
    """A model whose embeddings are parameters, selected by the only token of a text."""

    def __init__(self, num_texts: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(num_texts, 8))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.table[features["input_ids"][:, 0]]}


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Make `RetrievalLoss` see two devices; the test sets the rank and all rows of each column."""
    state: dict[str, Any] = {"rank": 0, "columns": iter(()), "labels": None}

    def gather(local: Tensor) -> Tensor:
        before, own, after = next(state["columns"]).split_with_sizes(
            [state["rank"] * len(local), len(local), (1 - state["rank"]) * len(local)]
        )
        assert torch.equal(own, local)
        return torch.cat([before, local, after])

    monkeypatch.setattr(loss_module, "get_world_size", lambda: 2)
    monkeypatch.setattr(loss_module, "get_rank", lambda: state["rank"])
    monkeypatch.setattr(loss_module, "all_gather_with_grad", gather)
    monkeypatch.setattr(loss_module, "all_gather", lambda _: state["labels"])
    return state


@pytest.mark.parametrize("micro_batch_rows", [None, 2])
def test_two_simulated_ranks_equal_one_big_batch(
    two_ranks: dict[str, Any], micro_batch_rows: int | None
) -> None:
    rows = make_rows(6)
    objective = InBatchObjective(ObjectiveConfig(), 2, 0.05)
    names = (*objective.query_columns, *objective.passage_columns)
    model = Table(6 * len(names))
    loss = RetrievalLoss(model, objective, micro_batch_rows=micro_batch_rows)  # type: ignore[arg-type]
    labels = torch.tensor(passage_codes(rows, 2))
    columns = model.table.split(6)
    expected = objective(dict(zip(names, columns, strict=True)), labels, slice(0, 6))
    (expected_gradient,) = torch.autograd.grad(sum(expected.values()), [model.table])

    totals = dict.fromkeys(expected, 0.0)
    for rank, (start, stop) in enumerate([(0, 3), (3, 6)]):
        two_ranks |= {"rank": rank, "columns": iter(columns), "labels": labels}
        numbers = [torch.arange(start, stop)[:, None] + 6 * k for k in range(len(names))]
        features = [{"input_ids": n, "attention_mask": torch.ones_like(n)} for n in numbers]
        terms = loss(features, labels[start:stop])
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        totals = {name: totals[name] + float(term.detach()) / 2 for name, term in terms.items()}

    assert totals == pytest.approx({name: term.item() for name, term in expected.items()}, abs=1e-6)
    assert model.table.grad is not None
    # DDP takes the mean over the ranks.
    torch.testing.assert_close(model.table.grad / 2, expected_gradient, atol=1e-6, rtol=1e-5)


def test_a_missing_column_is_an_error(model: SentenceTransformer) -> None:
    loss = RetrievalLoss(model, InBatchObjective(ObjectiveConfig(), 0, 0.05))

    with pytest.raises(
        ValueError, match=r"2 columns were given for query, translated_query, passage"
    ):
        loss([{}, {}], torch.zeros(1, 1))
