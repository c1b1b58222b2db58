import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.objective.divergences import (
    EXCLUDED,
    Detach,
    Direction,
    jensen_shannon,
    matched_temperature,
)
from trainer.objective.terms import (
    BatchEmbeddings,
    Weights,
    clear_weights,
    frozen_bridge,
    weighted_terms,
)

NUM_ROWS, NUM_NEGATIVES, DIM = 5, 2, 7


def make_columns(seed: int = 0, num_negatives: int = NUM_NEGATIVES) -> BatchEmbeddings:
    generator = torch.Generator().manual_seed(seed)

    def column() -> Tensor:
        column = torch.randn(NUM_ROWS, DIM, generator=generator, dtype=torch.float64)
        return column.requires_grad_()

    return BatchEmbeddings(
        query=column(),
        translated_query=column(),
        positive=column(),
        hard_negatives=[column() for _ in range(num_negatives)],
        hard_negative_queries=[column() for _ in range(num_negatives)],
    )


def leaves_of(columns: BatchEmbeddings) -> list[Tensor]:
    named = [columns.query, columns.translated_query, columns.positive]
    return [*named, *columns.hard_negatives, *columns.hard_negative_queries]


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, found, strict=True)
    ]


def cosine(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum() / (left.pow(2).sum().sqrt() * right.pow(2).sum().sqrt())


def literal_clear(columns: BatchEmbeddings, alpha: float, beta: float, scale: float) -> Tensor:
    """Compute CLEAR row by row and candidate by candidate, as the paper's code defines it."""
    passages = [*columns.positive, *(row for column in columns.hard_negatives for row in column)]
    questions = [
        *columns.translated_query,
        *(row for column in columns.hard_negative_queries for row in column),
    ]
    forward = backward = divergence = torch.zeros((), dtype=torch.float64)
    for i in range(NUM_ROWS):
        a = [(scale * cosine(columns.query[i], passage)).exp() for passage in passages]
        c = [(scale * cosine(columns.positive[i], question)).exp() for question in questions]
        forward = forward - (a[i] / sum(a)).log()
        backward = backward - (c[i] / sum(c)).log()
        for a_j, c_j in zip(a, c, strict=True):
            divergence = divergence + c_j / sum(c) * ((c_j / sum(c)) / (a_j / sum(a))).log()
    total = (1 - alpha - beta) * forward + alpha * backward + beta * divergence
    return total / NUM_ROWS


@pytest.mark.parametrize("num_negatives", [0, NUM_NEGATIVES])
@pytest.mark.parametrize(("alpha", "beta"), [(0.4, 0.2), (0.4, 0.0), (0.0, 0.2), (0.0, 0.0)])
def test_clear_and_its_gradient_equal_the_formula_in_loops(
    num_negatives: int, alpha: float, beta: float
) -> None:
    columns = make_columns(num_negatives=num_negatives)

    terms = weighted_terms(columns, weights=clear_weights(alpha, beta), temperature=0.05)
    loss, expected = sum(terms.values()), literal_clear(columns, alpha, beta, scale=20)

    assert isinstance(loss, Tensor)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    leaves = leaves_of(columns)
    torch.testing.assert_close(
        gradients(loss, leaves), gradients(expected, leaves), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("published", math.log(4 / 3) / 2),  # KL(translated || english)
        ("opposite", 0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2)),
    ],
)
def test_published_kl_takes_the_translated_side_as_reference(
    direction: Direction, expected: float
) -> None:
    """Row 0: cosines 1 and 0 at temperature 1 / ln 3 are 3/4 and 1/4; equal ones are 1/2 each."""
    first, second = torch.eye(2)
    columns = BatchEmbeddings(
        query=torch.stack([first, second]),
        translated_query=torch.stack([first, first]),
        positive=torch.stack([first, second]),
    )

    terms = weighted_terms(
        columns,
        slice(0, 1),
        weights=Weights(kl=1.0),
        temperature=1 / math.log(3),
        kl_direction=direction,
    )

    assert float(terms["kl"]) == pytest.approx(expected, abs=1e-6)


def test_gradient_flows_into_both_sides_of_the_kl_unless_one_is_detached() -> None:
    columns = make_columns(num_negatives=0)
    leaves = [columns.query, columns.translated_query]

    def norms(detach: Detach) -> list[bool]:
        terms = weighted_terms(columns, weights=Weights(kl=1.0), kl_detach=detach)
        return [bool(grad.abs().sum() > 0) for grad in gradients(terms["kl"], leaves)]

    assert norms("none") == [True, True]
    assert norms("english") == [False, True]
    assert norms("translated") == [True, False]


def test_jensen_shannon_is_symmetric_zero_for_equals_and_at_most_ln_2() -> None:
    left, right = torch.randn(3, 4), torch.randn(3, 4)
    apart = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]])

    torch.testing.assert_close(jensen_shannon(left, right), jensen_shannon(right, left))
    assert float(jensen_shannon(left, left)) == pytest.approx(0, abs=1e-6)
    assert float(jensen_shannon(*apart)) == pytest.approx(math.log(2), abs=1e-6)


def test_rows_taken_in_uneven_chunks_add_up_to_the_batch() -> None:
    columns = replace(
        make_columns(), passage_codes=torch.tensor([[0, 5, 6], [1, 0, 7], *[[2, 8, 9]] * 3])
    )
    weights = Weights(english=0.3, cross=0.2, reverse=0.3, kl=0.2)

    whole = weighted_terms(columns, weights=weights)
    chunks = [slice(0, 2), slice(2, 4), slice(4, 5)]
    parts = [weighted_terms(columns, rows, weights=weights) for rows in chunks]

    for name, term in whole.items():
        shares = [
            part[name] * (rows.stop - rows.start) / NUM_ROWS
            for part, rows in zip(parts, chunks, strict=True)
        ]
        torch.testing.assert_close(sum(shares), term)


@pytest.mark.parametrize("direction", ["published", "opposite", "jsd"])
def test_a_masked_candidate_has_no_influence(direction: str) -> None:
    """A masked copy of the positive changes neither loss nor gradient, whatever its embedding."""
    columns = replace(
        make_columns(num_negatives=1), passage_codes=torch.tensor([[i, 0] for i in range(5)])
    )
    weights = Weights(english=0.3, cross=0.2, reverse=0.3, kl=0.2)
    options = {"weights": weights, "kl_direction": direction}

    loss = sum(weighted_terms(columns, slice(0, 1), **options).values())  # type: ignore[arg-type]
    found = gradients(torch.as_tensor(loss), leaves_of(columns))
    without = weighted_terms(
        replace(columns, hard_negatives=(), hard_negative_queries=(), passage_codes=None),
        slice(0, 1),
        **options,  # type: ignore[arg-type]
    )

    torch.testing.assert_close(loss, sum(without.values()))
    assert all(bool(grad.isfinite().all()) for grad in found)
    assert not found[3].any()
    assert not found[4].any()


def test_similarities_are_computed_in_fp32_under_autocast() -> None:
    columns = make_columns()
    columns = BatchEmbeddings(*(column.float() for column in leaves_of(columns)[:3]))
    weights = Weights(english=1.0)

    plain = weighted_terms(columns, weights=weights)["english"]
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = weighted_terms(columns, weights=weights)["english"]

    assert torch.equal(plain, under_autocast)


def test_frozen_bridge_equals_the_formula_in_loops() -> None:
    torch.manual_seed(0)
    translated, base = torch.randn(2, 3, DIM, dtype=torch.float64)
    passages, targets = torch.randn(6, DIM, dtype=torch.float64), [4, 0, 5]

    expected = {"cross": 0.0, "kl": 0.0, "anchor": 0.0}
    for t, e, target in zip(translated, base, targets, strict=True):
        student = [(cosine(t, passage) / 0.02).exp() for passage in passages]
        teacher = [(cosine(e, passage) / 0.02).exp() for passage in passages]
        expected["cross"] -= 0.5 * float((student[target] / sum(student)).log()) / 3
        for s_j, e_j in zip(student, teacher, strict=True):
            share = e_j / sum(teacher)
            expected["kl"] += 0.5 * float(share * (share / (s_j / sum(student))).log()) / 3
        expected["anchor"] += 5 * float(1 - cosine(t, e)) / 3

    terms = frozen_bridge(translated, base, passages, torch.tensor(targets))

    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)


def test_frozen_bridge_excludes_other_answers() -> None:
    translated, base, passages = torch.randn(1, DIM), torch.randn(1, DIM), torch.randn(4, DIM)
    excluded = torch.tensor([[False, False, False, True]])

    masked = frozen_bridge(translated, base, passages, torch.tensor([1]), excluded=excluded)
    without = frozen_bridge(translated, base, passages[:3], torch.tensor([1]))

    torch.testing.assert_close(masked, without)


def test_excluded_is_far_below_any_logit_but_finite() -> None:
    lowest = -1 / 0.005

    assert lowest > EXCLUDED + 1000
    assert float(functional.softmax(torch.tensor([lowest, EXCLUDED]), dim=0)[1]) == 0


def test_matched_temperature_is_that_of_a_model_whose_scores_are_calibrated() -> None:
    """Targets drawn from softmax(cos / .05) are best predicted at about .05."""
    torch.manual_seed(0)
    queries, passages = torch.randn(4000, 8), torch.randn(40, 8)
    cosines = functional.normalize(queries) @ functional.normalize(passages).T
    targets = torch.multinomial(functional.softmax(cosines / 0.05, dim=-1), 1)[:, 0]

    assert matched_temperature(queries, passages, targets) == pytest.approx(0.05, rel=0.1)


def test_learning_clear_ranks_each_passage_first_for_its_translated_query() -> None:
    """Eight pairs of free embeddings: recall@1 is 1 in the direction of a search, too."""
    torch.manual_seed(0)
    columns = BatchEmbeddings(*torch.randn(3, 8, 16).unbind())
    leaves = [column.requires_grad_() for column in leaves_of(columns)]
    optimizer = torch.optim.Adam(leaves, lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.stack(list(weighted_terms(columns, weights=clear_weights()).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())

    found = (
        functional.normalize(columns.translated_query) @ functional.normalize(columns.positive).T
    )

    assert losses[-1] < losses[0] / 10
    assert found.argmax(dim=1).tolist() == list(range(8))
