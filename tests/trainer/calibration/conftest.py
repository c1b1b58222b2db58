from pathlib import Path
from random import Random
from string import ascii_lowercase

import pytest

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, EvaluationSet, Query
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set

NUM_PASSAGES = 60


def words_of(random: Random) -> str:
    return " ".join("".join(random.sample(ascii_lowercase, 5)) for _ in range(4))


@pytest.fixture
def small_set(tmp_path: Path) -> EvaluationSet:
    """A set of 60 passages in articles of two, and a question for every second one.

    German has unanswered questions of its own.
    """
    random = Random(0)
    passages = [
        Passage(
            f"p{number}", words_of(random), ascii_lowercase[number // 2 % 26] * (5 + number // 52)
        )
        for number in range(NUM_PASSAGES)
    ]
    asked = range(0, NUM_PASSAGES, 2)
    english = [Query(f"q{n}", passages[n].encoder_text, f"a{n // 2}") for n in asked]
    german = [Query(f"q{n}", passages[n].encoder_text.upper(), f"a{n // 2}") for n in asked[:9]]
    german += [Query(f"q{n}", passages[n].encoder_text, f"a{n // 2}") for n in asked[9:]]
    others = [Query(f"u{n}", words_of(random)) for n in range(5)]
    write_evaluation_set(
        tmp_path / "small",
        EvaluationData(
            {"en": passages},
            {"en": english, "de": german},
            {f"q{number}": {f"p{number}": 1} for number in asked},
            unanswered={"de": others},
        ),
    )
    return read_evaluation_set(tmp_path / "small")
