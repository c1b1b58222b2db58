from service.retrieval.encoder.encoder import Encoder
from trainer.data.rows import Row
from trainer.objective.columns import text_columns

ROW = Row(
    query="Which colours?",
    translated_query="Ki\u0301 ni i\u0300tu\u0301mo\u0323\u0300 a\u0300wo\u0323\u0300?",
    language="yo",
    passage_id="p",
    positive="Red and white.",
    query_id="q",
    hard_negatives=("A lake.", "A hill."),
    hard_negative_queries=("Which lake?", "Which hill?"),
)


def test_columns_hold_the_texts_of_their_names() -> None:
    names = ["query", "passage", "hard_negative_2", "hard_negative_query_1"]

    assert text_columns([ROW], names, str) == {
        "query": ["Which colours?"],
        "passage": ["Red and white."],
        "hard_negative_2": ["A hill."],
        "hard_negative_query_1": ["Which lake?"],
    }


def test_texts_are_normalized_as_in_service(tiny_encoder: Encoder) -> None:
    columns = text_columns([ROW], ["translated_query"], tiny_encoder.prepare)
    [text] = columns["translated_query"]

    assert text == "Kí ni ìtúm\u1ecd\u0300 àw\u1ecd\u0300?"
