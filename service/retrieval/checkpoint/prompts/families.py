"""Published families of encoders, and the prompts that their authors state.

The prompts are used if a checkpoint of the family states none itself. A family is recognized by a
name that its authors published, or by a layout that no other encoder has.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TASK = "Given a web search query, retrieve relevant passages that answer the query"
SEARCH_SENTENCE = "Represent this sentence for searching relevant passages: "
HUB_FOLDER = re.compile(r"models--(?P<owner>.+)--(?P<name>.+)")  # in the Hub's own cache
LAYOUT_FIELDS = ("model_type", "hidden_size", "vocab_size")


@dataclass(frozen=True)
class Family:
    """Encoders that share their prompts.

    Attributes:
        name: shown to people.
        owners: who published them on the Hub.
        pattern: matches their whole names, in lower case.
        query: the prompt of queries.
        passage: the prompt of passages.
        source: where the authors state the prompts.
        layouts: values of `LAYOUT_FIELDS` that only this family has.
    """

    name: str
    owners: tuple[str, ...]
    pattern: str
    query: str
    passage: str
    source: str
    layouts: tuple[tuple[str, int, int], ...] = ()

    def has_name(self, owner: str | None, name: str) -> bool:
        """Return whether this is the published name of a member; a folder has no owner."""
        if owner is not None and owner.lower() not in map(str.lower, self.owners):
            return False
        return re.fullmatch(self.pattern, name.lower()) is not None

    def has_layout(self, config: Mapping[str, Any]) -> bool:
        """Return whether a `config.json` is that of a member."""
        return tuple(config.get(field) for field in LAYOUT_FIELDS) in self.layouts


FAMILIES = (
    Family(
        "E5",
        ("intfloat",),
        r"(multilingual-)?e5-(small|base|large)(-v2)?",
        "query: ",
        "passage: ",
        "model cards of intfloat/e5-base-v2 and intfloat/multilingual-e5-base, FAQ 1",
    ),
    Family(
        "E5-instruct",
        ("intfloat",),
        r"(multilingual-e5-large|e5-mistral-7b)-instruct",
        f"Instruct: {TASK}\nQuery: ",
        "",
        "model cards of intfloat/multilingual-e5-large-instruct and e5-mistral-7b-instruct, usage",
    ),
    Family(
        "BGE (English)",
        ("BAAI",),
        r"bge-(small|base|large)-en(-v1\.5)?",
        SEARCH_SENTENCE,
        "",
        "model card of BAAI/bge-base-en-v1.5, model list",
    ),
    Family(
        "BGE (Chinese)",
        ("BAAI",),
        r"bge-(small|base|large)-zh(-v1\.5)?",
        "为这个句子生成表示以用于检索相关文章：",
        "",
        "model card of BAAI/bge-base-zh-v1.5, model list",
    ),
    Family("BGE-M3", ("BAAI",), r"bge-m3", "", "", "model card of BAAI/bge-m3, FAQ 2"),
    Family(
        "GTE",
        ("thenlper", "Alibaba-NLP"),
        r"gte-(small|base|large)(-zh|-en-v1\.5)?|gte-(multilingual|modernbert)-base",
        "",
        "",
        "model cards of thenlper/gte-base and Alibaba-NLP/gte-multilingual-base, usage",
    ),
    Family(
        "GTE-Qwen2-instruct",
        ("Alibaba-NLP",),
        r"gte-qwen2-(1\.5|7)b-instruct",
        f"Instruct: {TASK}\nQuery: ",
        "",
        "model card of Alibaba-NLP/gte-Qwen2-1.5B-instruct, usage",
    ),
    Family(
        "Arctic Embed",
        ("Snowflake",),
        r"snowflake-arctic-embed-(xs|s|m|l|m-long|m-v1\.5)",
        SEARCH_SENTENCE,
        "",
        "model card of Snowflake/snowflake-arctic-embed-m-v1.5, usage",
    ),
    Family(
        "Arctic Embed 2",
        ("Snowflake",),
        r"snowflake-arctic-embed-(m|l)-v2\.0",
        "query: ",
        "",
        "model card of Snowflake/snowflake-arctic-embed-l-v2.0, usage",
    ),
    Family(
        "Qwen3-Embedding",
        ("Qwen",),
        r"qwen3-embedding-(0\.6|4|8)b",
        f"Instruct: {TASK}\nQuery:",
        "",
        "model card of Qwen/Qwen3-Embedding-0.6B, usage, and its prompts",
        (("qwen3", 1024, 151_669), ("qwen3", 2560, 151_665), ("qwen3", 4096, 151_665)),
    ),
    Family(
        "EmbeddingGemma",
        ("google",),
        r"embeddinggemma-300m",
        "task: search result | query: ",
        "title: none | text: ",
        "model card of google/embeddinggemma-300m, prompt instructions",
        (("gemma3_text", 768, 262_144),),
    ),
    Family(
        "nomic-embed-text",
        ("nomic-ai",),
        r"nomic-embed-text-(v1|v1\.5|v2-moe)|modernbert-embed-base",
        "search_query: ",
        "search_document: ",
        "model card of nomic-ai/nomic-embed-text-v1.5, task instruction prefixes",
    ),
    Family(
        "jina-embeddings-v3",
        ("jinaai",),
        r"jina-embeddings-v3(-hf)?",
        "Represent the query for retrieving evidence documents: ",
        "Represent the document for retrieval: ",
        "prompts `retrieval.query` and `retrieval.passage` of jinaai/jina-embeddings-v3",
        (("jina_embeddings_v3", 1024, 250_002),),
    ),
    Family(
        "sentence-transformers",
        ("sentence-transformers",),
        r"(all|multi-qa|paraphrase)-(multilingual-)?(minilm|mpnet|distilroberta|distilbert|albert)-.+"
        r"|(distiluse-base-multilingual|gtr-t5|sentence-t5)-.+|labse",
        "",
        "",
        "model cards of sentence-transformers/all-MiniLM-L6-v2 and others, usage",
    ),
)


def find_family(directory: Path, config: Mapping[str, Any]) -> Family | None:
    """Return the family of an encoder by its published name or its layout; None if unknown.

    Args:
        directory: the encoder's folder, named as published or in the Hub's cache.
        config: the content of its `config.json`.
    """
    parts = directory.absolute().parts
    found = next(filter(None, map(HUB_FOLDER.fullmatch, reversed(parts))), None)
    owner, name = (found["owner"], found["name"]) if found else (None, parts[-1])
    for family in FAMILIES:
        if family.has_name(owner, name):
            return family
    return next((family for family in FAMILIES if family.has_layout(config)), None)
