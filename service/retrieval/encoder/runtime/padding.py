"""Check that padding does not change the hidden states of a text."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from service.retrieval.checkpoint.transformer.library import LOADING_ERRORS

# Architectures that the tests hold to sentence-transformers, in batches, too.
PROVEN = frozenset(
    {
        *("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "eurobert"),
        *("gemma3_text", "gte", "jina_embeddings_v3", "mistral", "modernbert", "mpnet", "mt5"),
        *("nomic_bert", "qwen2", "qwen3", "roberta", "t5", "xlm-roberta"),
    }
)
NUM_TOKENS, NUM_PADDED = 5, 40
# Relative to the largest hidden state. Rounding gives about 1e-6, padding that leaks over 1e-3.
MAX_DIFFERENCE = 1e-3


@torch.inference_mode()
def padding_violation(model: PreTrainedModel, max_tokens: int) -> str | None:
    """Return why a text's hidden states are not the same alone and in a batch, or None.

    Args:
        model: in fp32, with its weights loaded.
        max_tokens: the encoder's limit.
    """
    if str(model.config.model_type) in PROVEN:
        return None
    token_ids = _token_ids(model, min(NUM_PADDED, max_tokens))
    mask = torch.ones_like(token_ids)
    token_ids[0, NUM_TOKENS:] = int(getattr(model.config, "pad_token_id", None) or 0)
    mask[0, NUM_TOKENS:] = 0
    try:
        alone, padded = (
            model(input_ids=token_ids[:rows, :length], attention_mask=mask[:rows, :length])
            .last_hidden_state[0, :NUM_TOKENS]
            .float()
            for rows, length in ((1, NUM_TOKENS), (2, None))
        )
    except LOADING_ERRORS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f"cannot compute a short text ({reason})"
    difference = float((alone - padded).abs().max() / alone.abs().max())
    if difference > MAX_DIFFERENCE:
        return "lets padding change a text's embedding, which then depends on its batch"
    return None


def _token_ids(model: PreTrainedModel, length: int) -> Tensor:
    """Return two equal rows of ids from the whole vocabulary, none of them padding, [2, L]."""
    size = int(getattr(model.config, "vocab_size", None) or 256)
    padding = getattr(model.config, "pad_token_id", None)
    token_ids = torch.linspace(0, size - 1, length + 2)[1:-1].long()
    token_ids[token_ids == padding] += 1
    return (token_ids % size).repeat(2, 1)
