import numpy as np
import pytest

from trainer.evaluation.significance import Sample, bootstrap, holm, permutation_p


def sample(values: list[float], articles: list[str] | None = None) -> Sample:
    names = articles or [f"a{number}" for number in range(len(values))]
    return Sample(
        {f"q{number}": value for number, value in enumerate(values)},
        {f"q{number}": name for number, name in enumerate(names)},
    )


def test_few_articles_are_permuted_exactly() -> None:
    # Of the 8 choices of signs, + + + and - - - are as far from 0.
    assert permutation_p(sample([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)


def test_an_articles_queries_flip_together() -> None:
    alone = permutation_p(sample([1.0] * 6))
    together = permutation_p(sample([1.0] * 6, ["a", "a", "a", "b", "b", "b"]))

    assert alone == pytest.approx(2 / 64)
    assert together == pytest.approx(2 / 4)


def test_no_difference_is_no_evidence() -> None:
    assert permutation_p(sample([0.0] * 20)) == 1.0


def test_p_values_of_noise_are_uniform_and_of_a_shift_small() -> None:
    generator = np.random.default_rng(0)
    noise = [permutation_p(sample(generator.normal(size=30).tolist())) for _ in range(60)]

    assert 0.35 < float(np.mean(noise)) < 0.65
    assert permutation_p(sample((generator.normal(size=200) + 0.5).tolist())) < 0.001


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_is_as_computed_by_hand(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected)


def test_the_bootstrap_of_independent_queries_has_the_width_of_their_standard_error() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, size=400)

    (interval,), macro = bootstrap([sample(values.tolist())])

    error = values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert interval.low_one_sided == pytest.approx(values.mean() - 1.645 * error, abs=0.15 * error)
    assert macro == interval


def test_queries_of_one_article_are_not_independent() -> None:
    values = np.random.default_rng(0).normal(size=40)
    (alone,), _ = bootstrap([sample(values.tolist())])
    articles = [f"a{number // 10}" for number in range(400)]
    (grouped,), _ = bootstrap([sample(np.repeat(values[:40], 10).tolist(), articles)])

    assert grouped.high - grouped.low > 0.8 * (alone.high - alone.low)


def test_languages_are_resampled_jointly() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    opposite = [-value for value in values]

    _, macro = bootstrap([sample(values), sample(opposite)])

    assert (macro.low, macro.high) == pytest.approx((0, 0), abs=1e-12)


def test_the_same_seed_gives_the_same_bounds() -> None:
    values = [sample(np.random.default_rng(0).normal(size=30).tolist())]

    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
