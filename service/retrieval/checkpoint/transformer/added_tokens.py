"""Tokens that files beside `tokenizer.json` add to it, which transformers reads as well."""

from pathlib import Path

from tokenizers import Tokenizer

from service.retrieval.checkpoint.transformer.tokenizer_config import AddedToken, TokenizerConfig
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object

FORMER = "added_tokens.json"  # ids by content


def read_added_tokens(folder: Path, config: TokenizerConfig) -> tuple[AddedToken, ...]:
    """Return the tokens that may occur in a text; a special token's name there is letters.

    Args:
        folder: of the tokenizer's files.
        config: its `tokenizer_config.json`.

    Raises:
        CheckpointError: `added_tokens.json` is no JSON object.
    """
    stated = list((config.added_tokens_decoder or {}).values())
    path = folder / FORMER
    known = {token.content for token in stated}
    former = read_json_object(path, CheckpointError) if path.is_file() else {}
    others = [AddedToken(content=content) for content in former if content not in known]
    return tuple(token for token in (*stated, *others) if token.content and not token.special)


def holds_tokens(tokenizer: Tokenizer, tokens: tuple[AddedToken, ...]) -> bool:
    """Return whether a tokenizer has all of some added tokens, and finds them as they state."""
    own = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    return all(
        token.content in own
        and all(
            getattr(own[token.content], name) == getattr(token, name)
            for name in token.model_fields_set
            if name in AddedToken.model_fields
        )
        for token in tokens
    )


def texts_with(tokens: tuple[AddedToken, ...]) -> list[str]:
    """Return texts in which each token stands alone, between words and within a word."""
    return [
        text
        for content in (token.content for token in tokens)
        for text in (content, f"a {content} b", f"a{content}b", content.upper())
    ]
