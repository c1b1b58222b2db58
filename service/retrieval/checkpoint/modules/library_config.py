"""Reads `config_sentence_transformers.json`: prompts by name, the similarity, a cut of vectors."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, JsonText, parse_document

LIBRARY_CONFIG = "config_sentence_transformers.json"
PASSAGE_PROMPT_NAMES = ("document", "passage", "corpus")
OTHER_SIMILARITIES = ("euclidean", "manhattan")


class LibraryConfig(Document):
    """The fields that are read."""

    prompts: dict[JsonText, JsonText | None] | None = None
    similarity_fn_name: JsonText | None = None
    truncate_dim: Annotated[int, Field(ge=1)] | None = None

    @property
    def named_prompts(self) -> dict[str, str]:
        """Return all prompts by their names; a name without a text has an empty one."""
        return {name: text or "" for name, text in (self.prompts or {}).items()}

    @property
    def prompts_by_role(self) -> dict[str, str]:
        """Return the prompts of queries and passages, empty where there is none."""
        prompts = self.named_prompts
        passage = next((prompts[name] for name in PASSAGE_PROMPT_NAMES if prompts.get(name)), "")
        return {"query": prompts.get("query", ""), "passage": passage}


def read_library_config(directory: Path) -> LibraryConfig:
    """Read the file of a checkpoint; without one, return the defaults.

    Raises:
        CheckpointError: a field has a wrong type.
    """
    path = directory / LIBRARY_CONFIG
    content = read_json_object(path, CheckpointError) if path.is_file() else {}
    fix = "set it to the encoder's own value or remove it"
    return parse_document(LibraryConfig, content, path, CheckpointError, fix)


def check_similarity(config: LibraryConfig, path: Path, *, is_unit: bool) -> None:
    """Refuse an encoder whose scores are not those of unit vectors, which an index holds.

    Args:
        config: the content of the file.
        path: the file, for the message.
        is_unit: whether the encoder's own vectors have unit length.

    Raises:
        CheckpointError: naming the similarity and the reason.
    """
    name = config.similarity_fn_name
    if name in OTHER_SIMILARITIES or (name == "dot" and not is_unit):
        raise CheckpointError(
            f"{path}: `similarity_fn_name` is {quoted(name)}, but an index holds unit vectors and "
            "ranks by their cosine, another order: use an encoder trained for the cosine, or, if "
            "this one is, set `similarity_fn_name` to cosine"
        )
