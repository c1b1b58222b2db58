"""Reads sentence-transformers' settings of a transformer, `sentence_bert_config.json`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from service.retrieval.checkpoint.transformer.config import FIX, TokenLimit
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, JsonText, parse_document

# The file's name depended on the architecture; the first that holds anything is read.
NAMES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Options of loading that change no embedding, or only its precision.
HARMLESS = frozenset(
    {
        *("attn_implementation", "cache_dir", "device_map", "dtype", "local_files_only"),
        *("low_cpu_mem_usage", "model_max_length", "revision", "token", "torch_dtype"),
        *("trust_remote_code", "use_cache", "use_fast", "use_safetensors"),
    }
)
OPTIONS = (
    *("model_args", "tokenizer_args", "config_args"),
    *("model_kwargs", "processor_kwargs", "config_kwargs"),
)
Empty = Annotated[dict[str, Any], Field(max_length=0)]


class ProcessorOptions(Document):
    """The option of the tokenizer that is read."""

    model_max_length: TokenLimit | None = None


class SentenceConfig(Document):
    """The fields that are read, and those that would change embeddings and must be empty."""

    max_seq_length: TokenLimit | None = None
    do_lower_case: bool | None = None
    tokenizer_args: ProcessorOptions | None = None
    processor_kwargs: ProcessorOptions | None = None
    processing_kwargs: Empty | None = None
    query_length: None = None
    document_length: None = None
    query_expansion: None = None
    tokenizer_name_or_path: None = None
    transformer_task: JsonText | None = None
    modality_config: dict[JsonText, Any] | None = None

    @property
    def stated_limit(self) -> int | None:
        """Return the limit of tokens that this file states, or None."""
        options = self.processor_kwargs or self.tokenizer_args
        stated = options.model_max_length if options else None
        return stated if stated is not None else self.max_seq_length


def read_sentence_config(transformer: Path) -> SentenceConfig:
    """Read the first of the files that holds anything; without one, return the defaults.

    Raises:
        CheckpointError: a field has a wrong type, or asks for what is not supported.
    """
    for path in (transformer / name for name in NAMES):
        content = read_json_object(path, CheckpointError) if path.is_file() else {}
        if content:
            config = parse_document(SentenceConfig, content, path, CheckpointError, FIX)
            _refuse_options(content, path)
            return config
    return SentenceConfig()


def _refuse_options(content: dict[str, Any], path: Path) -> None:
    task = content.get("transformer_task", "feature-extraction")
    text = (content.get("modality_config") or {}).get("text")
    output = text.get("method_output_name", "last_hidden_state") if isinstance(text, dict) else None
    if task != "feature-extraction" or output not in (None, "last_hidden_state"):
        raise CheckpointError(
            f"{path}: `transformer_task` and `modality_config` ask for another output than the "
            "last hidden state of a text: use an encoder of texts"
        )
    for name in OPTIONS:
        options = content.get(name) or {}
        if not isinstance(options, dict) or set(options) - HARMLESS:
            raise CheckpointError(
                f"{path}: `{name}` changes how the encoder is loaded, which is not supported: save "
                "the encoder again with these options in config.json or tokenizer_config.json"
            )
