"""Training rows for tests: thirty questions about places, one passage each."""

import dataclasses

from trainer.data.rows import Row
from trainer.mining.miner import MiningOptions

WORDS = ["tea", "salt", "rice", "rain", "gold", "iron", "corn", "milk", "wool", "silk", "fish"]


def row(number: int, language: str = "sw", **changes: object) -> Row:
    word = WORDS[number % len(WORDS)]
    made = Row(
        query=f"Where is {word} {number}?",
        translated_query=f"{word} {number} wapi?",
        language=language,
        passage_id=f"p{number}",
        positive=f"{word} number {number} is in the {WORDS[number // 3 % len(WORDS)]} house.",
        query_id=f"q{number}",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


ROWS = [row(number) for number in range(30)]
WINDOW = MiningOptions(num_negatives=3, first_rank=2, last_rank=8)
