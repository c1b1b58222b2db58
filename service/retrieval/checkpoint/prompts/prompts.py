"""The prompts in force of an encoder, and where each is from."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.retrieval.checkpoint.prompts.families import Family

Side = Literal["query", "passage"]
CONFIG = "config_sentence_transformers.json"
# The names of a task's prompts that jina-embeddings-v3 states.
TASK_NAMES: dict[Side, str] = {"query": "retrieval.query", "passage": "retrieval.passage"}
NO_PROMPT = "none is stated"
UNKNOWN = (
    "the encoder states no prompts and is of no known family: if its authors ask for some, set "
    "CLEAR_QUERY_PROMPT and CLEAR_PASSAGE_PROMPT"
)


@dataclass(frozen=True)
class Prompt:
    """The text before each query or each passage, and where it is from."""

    text: str
    source: str

    def __str__(self) -> str:
        """Return the prompt as people read it."""
        return f"{quoted_prompt(self.text)} ({self.source})"


@dataclass(frozen=True)
class Prompts:
    """The prompts of both sides; `is_known` is false if nobody states whether there are any."""

    query: Prompt
    passage: Prompt
    is_known: bool = True

    @property
    def texts(self) -> dict[str, str]:
        """Return the texts by side."""
        return {"query": self.query.text, "passage": self.passage.text}

    @property
    def sources(self) -> dict[str, str]:
        """Return by side where the prompt is from."""
        return {"query": self.query.source, "passage": self.passage.source}

    @property
    def lines(self) -> list[str]:
        """Return a line for each side."""
        return [f"query prompt {self.query}", f"passage prompt {self.passage}"]

    @property
    def warning(self) -> str:
        """Return a line for an unknown encoder without prompts, else an empty string."""
        return "" if self.is_known else UNKNOWN

    def overridden(self, query: str | None, passage: str | None) -> "Prompts":
        """Return these prompts with those that settings name; None leaves a side its own."""
        prompts = self
        if query is not None:
            prompts = replace(prompts, query=Prompt(query, "CLEAR_QUERY_PROMPT"), is_known=True)
        if passage is not None:
            prompt = Prompt(passage, "CLEAR_PASSAGE_PROMPT")
            prompts = replace(prompts, passage=prompt, is_known=True)
        return prompts


def own_prompts(
    stated: Mapping[str, str], named: Mapping[str, str], family: Family | None
) -> Prompts:
    """Return an encoder's own prompts: those of its folder, or else of its family.

    Args:
        stated: the folder's prompts for `query` and `passage`; empty texts are no prompts, because
            sentence-transformers writes them where nobody named any.
        named: all prompts of the folder, by name.
        family: the encoder's, if it is known.
    """
    if any(stated.values()):
        return Prompts(Prompt(stated["query"], CONFIG), Prompt(stated["passage"], CONFIG))
    query, passage = (
        Prompt(named.get(name, ""), f"{name} of {CONFIG}") for name in TASK_NAMES.values()
    )
    if query.text or passage.text:
        return Prompts(query, passage)
    source = f"family {family.name}: {family.source}" if family else NO_PROMPT
    texts = (family.query, family.passage) if family else ("", "")
    query, passage = (Prompt(text, source) for text in texts)
    return Prompts(query, passage, is_known=family is not None)


def library_config(query: str, passage: str, truncate_dim: int | None = None) -> dict[str, Any]:
    """Return the content of sentence-transformers' config with these prompts."""
    truncated = {"truncate_dim": truncate_dim} if truncate_dim else {}
    return truncated | {
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        # sentence-transformers asks for `document`, other tools for `passage`.
        "prompts": {"query": query, "document": passage, "passage": passage},
        "similarity_fn_name": "cosine",
    }


def quoted_prompt(text: str) -> str:
    """Return a prompt as a JSON string, which the settings read, too."""
    return json.dumps(text, ensure_ascii=False)


def parse_prompt(value: str) -> str:
    r"""Return the prompt that a setting names: the text itself, or a JSON string in its quotes.

    The quotes keep what shells and files lose: spaces at the end, line breaks, an empty prompt.

    >>> parse_prompt("query: "), parse_prompt('"Query:\\n"'), parse_prompt('""')
    ('query: ', 'Query:\n', '')

    Raises:
        ValueError: half a surrogate pair is no text.
    """
    prompt = value
    if len(value) >= 2 and value[0] == value[-1] == '"':
        with suppress(ValueError):
            prompt = str(json.loads(value))
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise ValueError("has half a surrogate pair, which is no character: write the character")
    return prompt
