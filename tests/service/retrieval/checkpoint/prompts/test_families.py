from pathlib import Path

import pytest

from service.retrieval.checkpoint.prompts.families import FAMILIES, TASK, find_family

QWEN3 = {"model_type": "qwen3", "hidden_size": 1024, "vocab_size": 151_669}
GEMMA = {"model_type": "gemma3_text", "hidden_size": 768, "vocab_size": 262_144}
JINA = {"model_type": "jina_embeddings_v3", "hidden_size": 1024, "vocab_size": 250_002}
SEARCH = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("multilingual-e5-small", "query: ", "passage: "),
        ("e5-large-v2", "query: ", "passage: "),
        ("multilingual-e5-large-instruct", f"Instruct: {TASK}\nQuery: ", ""),
        ("e5-mistral-7b-instruct", f"Instruct: {TASK}\nQuery: ", ""),
        ("bge-base-en-v1.5", SEARCH, ""),
        ("bge-small-zh", "为这个句子生成表示以用于检索相关文章：", ""),
        ("bge-m3", "", ""),
        ("gte-multilingual-base", "", ""),
        ("gte-Qwen2-1.5B-instruct", f"Instruct: {TASK}\nQuery: ", ""),
        ("snowflake-arctic-embed-m-v1.5", SEARCH, ""),
        ("snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("Qwen3-Embedding-0.6B", f"Instruct: {TASK}\nQuery:", ""),
        ("embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        (
            "jina-embeddings-v3",
            "Represent the query for retrieving evidence documents: ",
            "Represent the document for retrieval: ",
        ),
        ("LaBSE", "", ""),
        ("all-MiniLM-L6-v2", "", ""),
    ],
)
def test_a_folder_with_a_published_name_has_its_authors_prompts(
    name: str, query: str, passage: str
) -> None:
    family = find_family(Path("/models", name), {})

    assert family is not None
    assert (family.query, family.passage) == (query, passage)
    assert family.source


@pytest.mark.parametrize(
    "name",
    ["my-e5-small", "multilingual-e5-small-finetuned", "e5-base-v3", "bge-m3-law", "tiny", "bge"],
)
def test_another_name_is_of_no_family(name: str) -> None:
    assert find_family(Path("/models", name), {"model_type": "bert"}) is None


def test_in_the_hub_s_cache_the_owner_and_the_name_count() -> None:
    ours = Path("/cache/models--intfloat--e5-base-v2/snapshots/0123")
    other = Path("/cache/models--someone--e5-base-v2/snapshots/0123")

    assert getattr(find_family(ours, {}), "name", None) == "E5"
    assert find_family(other, {}) is None


def test_a_relative_folder_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e5-base").mkdir()
    monkeypatch.chdir(tmp_path / "e5-base")

    assert getattr(find_family(Path(), {}), "name", None) == "E5"


@pytest.mark.parametrize(
    ("config", "name"),
    [(QWEN3, "Qwen3-Embedding"), (GEMMA, "EmbeddingGemma"), (JINA, "jina-embeddings-v3")],
)
def test_a_layout_that_only_one_family_has_is_known_without_a_name(
    config: dict[str, object], name: str
) -> None:
    assert getattr(find_family(Path("/models/encoder"), config), "name", None) == name
    assert find_family(Path("/models/encoder"), config | {"vocab_size": 1000}) is None


def test_no_name_is_of_two_families() -> None:
    names = ["e5-base", "multilingual-e5-large-instruct", "bge-m3", "gte-base", "labse"]

    for name in names:
        assert sum(family.has_name(None, name) for family in FAMILIES) == 1
