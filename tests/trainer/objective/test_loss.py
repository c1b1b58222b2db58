from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from trainer.config import ObjectiveConfig
from trainer.data.rows import Row
from trainer.objective import loss as loss_module
from trainer.objective.batch import InBatchObjective
from trainer.objective.columns import passage_codes, text_columns
from trainer.objective.loss import RetrievalLoss, join_columns
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


def features_of(
    model: SentenceTransformer, objective: InBatchObjective, rows: list[Row]
) -> list[dict[str, Any]]:
    names = (*objective.query_columns, *objective.passage_columns)
    return [tokenized(model, texts) for texts in text_columns(rows, names, str).values()]


def tokenized(model: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    return {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in model.preprocess(texts).items()
    }


def step(
    model: SentenceTransformer, objective: InBatchObjective, micro_batch: dict[str, int]
) -> tuple[Terms, dict[str, Tensor]]:
    """Compute terms and every parameter's gradient."""
    rows = make_rows()
    loss = RetrievalLoss(model, objective, **micro_batch)
    labels = torch.tensor(passage_codes(rows, 2), device=model.device)
    model.zero_grad()
    terms = loss(features_of(model, objective, rows), labels)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    named = model.named_parameters()
    return terms, {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize(
    "micro_batch",
    [
        {"micro_batch_rows": 1},
        {"micro_batch_rows": 3},
        {"micro_batch_rows": 100},
        {"micro_batch_tokens": 1},
        {"micro_batch_tokens": 45},
    ],
)
@pytest.mark.parametrize(
    "config",
    [
        ObjectiveConfig(),
        ObjectiveConfig(name="info_nce", temperature=0.02),
        ObjectiveConfig(is_search_time=True, kl_direction="jsd", masks_false_negatives=False),
    ],
)
def test_cached_and_plain_gradients_are_equal_with_an_uneven_last_chunk(
    model: SentenceTransformer,
    config: ObjectiveConfig,
    micro_batch: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "LOSS_ROWS", 2)
    assert isinstance(config.temperature, float)
    objective = InBatchObjective(config, 2, config.temperature)

    plain, plain_gradients = step(model, objective, {})
    cached, cached_gradients = step(model, objective, micro_batch)

    assert plain.keys() == cached.keys()
    for name, term in plain.items():
        torch.testing.assert_close(cached[name], term, atol=1e-6, rtol=1e-5)
    assert cached_gradients.keys() == plain_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in plain_gradients.values())
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(
            cached_gradients[name] / largest, gradient / largest, atol=1e-6, rtol=0
        )


class Unchanged(torch.nn.Module):
    """A model whose embeddings are its input."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["input_ids"]}


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
    loss = RetrievalLoss(Unchanged(), objective, micro_batch_rows=micro_batch_rows)  # type: ignore[arg-type]
    labels = torch.tensor(passage_codes(rows, 2))
    torch.manual_seed(0)
    embeddings = {name: torch.randn(6, 8, requires_grad=True) for name in loss.columns}
    leaves = list(embeddings.values())
    expected = objective(embeddings, labels, slice(0, 6))
    expected_gradients = torch.autograd.grad(sum(expected.values()), leaves)

    totals = dict.fromkeys(expected, 0.0)
    for rank, (start, stop) in enumerate([(0, 3), (3, 6)]):
        two_ranks |= {"rank": rank, "columns": iter(leaves), "labels": labels}
        terms = loss([{"input_ids": leaf[start:stop]} for leaf in leaves], labels[start:stop])
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        totals = {name: totals[name] + float(term.detach()) / 2 for name, term in terms.items()}

    assert totals == pytest.approx({name: term.item() for name, term in expected.items()}, abs=1e-6)
    for leaf, gradient in zip(leaves, expected_gradients, strict=True):
        assert leaf.grad is not None
        # DDP takes the mean over the ranks.
        torch.testing.assert_close(leaf.grad / 2, gradient, atol=1e-6, rtol=1e-5)


def test_padding_of_joined_columns_has_no_influence(model: SentenceTransformer) -> None:
    short, long = (tokenized(model, [text]) for text in ("Tea.", "Tea and flowers are grown."))

    joined = model(join_columns([short, long]))["sentence_embedding"]
    alone = [model(dict(each))["sentence_embedding"] for each in (short, long)]

    torch.testing.assert_close(joined, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_a_missing_column_is_an_error(model: SentenceTransformer) -> None:
    loss = RetrievalLoss(model, InBatchObjective(ObjectiveConfig(), 0, 0.05))

    with pytest.raises(
        ValueError, match=r"2 columns were given for query, translated_query, passage"
    ):
        loss([{}, {}], torch.zeros(1, 1))
