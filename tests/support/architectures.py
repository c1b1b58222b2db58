"""Tiny random encoders of the architectures that users have, as Sentence Transformers folders."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModel, MT5EncoderModel, PreTrainedModel, T5EncoderModel

from tests.conftest import json_files, tiny_tokenizer

MAX_TOKENS, DIM = 64, 32
_BERT: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_TOKENS + 2,
}
_SPECIAL = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
_DECODER = _BERT | {"num_key_value_heads": 1, "head_dim": 16} | _SPECIAL
_FACTORIZED = _BERT | {"embedding_size": 16}
_T5 = {"d_model": DIM, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "eos_token_id": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "albert": _FACTORIZED,
    "bert": _BERT,
    "camembert": _BERT,
    "deberta-v2": {  # as mDeBERTa
        **(_BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        **{"share_att_key": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm"},
    },
    "distilbert": {
        **{"dim": DIM, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        "max_position_embeddings": MAX_TOKENS,
    },
    "electra": _FACTORIZED,
    "eurobert": _DECODER | {"mask_token_id": 3},
    "gemma3_text": _DECODER | {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "gte": _BERT,
    "jina_embeddings_v3": _BERT,
    "mistral": _DECODER,
    "modernbert": _BERT | _SPECIAL | {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mpnet": _BERT,
    "mt5": _T5,
    "nomic_bert": _BERT,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "roberta": _BERT,
    "t5": _T5,
    "xlm-roberta": _BERT,
}
DECODERS = ("mistral", "qwen2", "qwen3")  # which embed a text by its last token
ENCODER_HALVES: dict[str, Any] = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}


def tiny_transformer(architecture: str, vocab_size: int = 300, seed: int = 0) -> PreTrainedModel:
    """Return a random two-layer transformer of an architecture."""
    config = AutoConfig.for_model(
        architecture, vocab_size=vocab_size, pad_token_id=1, **CONFIGS[architecture]
    )
    config.initializer_range = 0.5  # texts must differ by more than rounding
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        half = ENCODER_HALVES.get(architecture)
        model: PreTrainedModel = half(config) if half else AutoModel.from_config(config)
    return model.eval()


def make_encoder(
    directory: Path,
    architecture: str,
    *,
    prompts: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a Sentence Transformers folder of a tiny random encoder, without a manifest.

    Decoders pool the last token, have padding on the left and end a text with `</s>` alone.
    """
    is_decoder = architecture in DECODERS
    tokenizer = tiny_tokenizer()
    if is_decoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 2)]
        )
    tiny_transformer(architecture, tokenizer.get_vocab_size(), seed).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    files: dict[str, Any] = json_files("lasttoken" if is_decoder else "mean", MAX_TOKENS, DIM)
    if is_decoder:
        files["tokenizer_config.json"]["padding_side"] = "left"
    if prompts is not None:
        files["config_sentence_transformers.json"]["prompts"] = prompts
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    return directory
