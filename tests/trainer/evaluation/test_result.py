from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task


def test_the_macro_mean_counts_each_language_the_same() -> None:
    results = tuple(
        Result(
            Task("tea", "L-en", language, language, ("en",)),
            {str(number): "a" for number in range(count)},
            {"ndcg@10": {str(number): value for number in range(count)}},
        )
        for language, count, value in [("fr", 1000, 1.0), ("de", 10, 0.5)]
    )

    evaluation = Evaluation("tiny", "f", "f", 64, "cpu", "torch-fp32", None, {}, results)

    assert evaluation.macro("tea", "L-en") == {"ndcg@10": 0.75}
