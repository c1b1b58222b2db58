"""Late chunking: a part of a text has a vector of its own, pooled from a pass over the whole text.

A token's state is then made of the whole text; the part's vector is the mean over its own tokens.
`bulk` embeds the parts of one text in one batch, of which a runtime on a CPU computes one row.

Source: Günther et al. 2024, "Late Chunking: Contextual Chunk Embeddings", section 3.
"""

from collections.abc import Sequence
from dataclasses import replace

from service.retrieval.encoder.batches import TokenizedText, num_prompt_tokens
from service.retrieval.encoder.encoder import Encoder

# A text, or a part of one between what stands before it and after it.
EncodedText = str | tuple[str, str, str]


def tokenize_passages(encoder: Encoder, texts: Sequence[EncodedText]) -> list[TokenizedText]:
    """Tokenize passages; of a part only its own tokens are pooled.

    Args:
        encoder: its passage side tokenizes.
        texts: passages as the encoder reads them.
    """
    wholes = [text if isinstance(text, str) else "".join(text) for text in texts]
    return [
        tokenized if isinstance(text, str) else _pooled_in(encoder, tokenized, text)
        for text, tokenized in zip(texts, encoder.tokenize(wholes, "passage"), strict=True)
    ]


def _pooled_in(encoder: Encoder, whole: TokenizedText, part: tuple[str, str, str]) -> TokenizedText:
    """Return the tokens of a whole text of which those of a part are pooled."""
    side, (before, text, _) = encoder.side("passage"), part
    prompt = side.prompts["passage"]
    start, end = (
        num_prompt_tokens(side.tokenizer, prompt + side.prepare(read))
        for read in (before, before + text)
    )
    return replace(whole, num_unpooled=start, num_unpooled_after=max(0, len(whole.token_ids) - end))
