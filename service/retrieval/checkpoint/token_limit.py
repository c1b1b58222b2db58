"""The number of tokens that an encoder can embed, from the JSON files of its transformer."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, DocumentType, JsonText, parse_document

# Fewer tokens than a prompt and a few words are a mistake. Tokenizers without a limit name 10**30.
MIN_TOKENS, NO_LIMIT = 8, 10**9
TokenLimit = Annotated[int, Field(ge=MIN_TOKENS)]


class TransformerConfig(Document):
    """The fields of `config.json` that limit the tokens of a text."""

    model_type: JsonText | None = None
    max_position_embeddings: TokenLimit | None = None


class RobertaConfig(TransformerConfig):
    """The same fields of a RoBERTa, whose positions start after the padding id."""

    pad_token_id: Annotated[int, Field(ge=0)] = 1


class SentenceConfig(Document):
    """The fields of `sentence_bert_config.json` that are read."""

    max_seq_length: TokenLimit | None = None
    do_lower_case: bool | None = None


class TokenizerConfig(Document):
    """The field of `tokenizer_config.json` that is read."""

    model_max_length: TokenLimit | None = None


def read_token_limit(transformer: Path, config: dict[str, Any]) -> int:
    """Return the smallest limit of tokens that one of the files names.

    Args:
        transformer: the folder of the files.
        config: the content of its `config.json`.

    Raises:
        CheckpointError: a field is not such a limit, or no file names one.
    """
    fix = "set it to the encoder's own value or remove it"

    def read(model: type[DocumentType], name: str) -> DocumentType:
        path = transformer / name
        content = read_json_object(path, CheckpointError) if path.is_file() else {}
        return parse_document(model, content, path, CheckpointError, fix)

    path = transformer / "config.json"
    own = parse_document(TransformerConfig, config, path, CheckpointError, fix)
    positions = own.max_position_embeddings
    if positions and "roberta" in (own.model_type or ""):
        roberta = parse_document(RobertaConfig, config, path, CheckpointError, fix)
        positions -= roberta.pad_token_id + 1
    sentence = read(SentenceConfig, "sentence_bert_config.json")
    if sentence.do_lower_case:
        raise CheckpointError(
            f"{transformer / 'sentence_bert_config.json'}: do_lower_case is not supported: use an "
            "encoder whose tokenizer.json lower-cases"
        )
    tokenizer = read(TokenizerConfig, "tokenizer_config.json")
    limits = (positions, sentence.max_seq_length, tokenizer.model_max_length)
    known = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    if not known:
        raise CheckpointError(
            f"{transformer} names no limit of tokens: add max_position_embeddings to config.json"
        )
    if min(known) < MIN_TOKENS:
        raise CheckpointError(
            f"{path}: `pad_token_id` leaves fewer than {MIN_TOKENS} positions of "
            f"`max_position_embeddings`: {fix}"
        )
    return min(known)
