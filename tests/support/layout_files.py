"""Layouts whose files are read otherwise than by their plain names, and files that are refused."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.layouts import DIM, Folder, Layout

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea", "lima", "Lima", "nai", "##robi", "a"]
PIECES = [*WORDS, *map(chr, range(97, 123)), *(f"##{chr(code)}" for code in range(97, 123))]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
LIBRARY_CONFIG = "config_sentence_transformers.json"


def file_layouts() -> Iterable[Layout]:
    """Yield those that are served."""
    eos = {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True}
    yield Layout(
        "EOS by `tokenizer_config.json` (`add_eos_token`), as e5-mistral",
        "files",
        Folder("mistral", changes={"tokenizer_config.json": eos}),
    )
    yield Layout("tokenizer of `vocab.txt` alone", "files", _vocabulary)
    yield Layout("adapter of `peft` beside modules, weights of its base", "adapter", _adapter)


def refused_files() -> Iterable[Layout]:
    """Yield those that are refused."""
    unnormalized: Callable[[str], Folder] = lambda name: Folder(  # noqa: E731
        head=(), changes={LIBRARY_CONFIG: {"similarity_fn_name": name}}
    )
    makers: dict[str, tuple[str, Callable[[Path], Path]]] = {
        "`similarity_fn_name` dot without Normalize": (
            "`similarity_fn_name` is 'dot', but an index holds unit vectors",
            unnormalized("dot"),
        ),
        "`similarity_fn_name` euclidean or manhattan": (
            "`similarity_fn_name` is 'euclidean', but an index holds unit vectors",
            unnormalized("euclidean"),
        ),
        "pickled weights (`pytorch_model.bin`), as BGE-M3": (
            "pickled weights are never read, as they can run code: convert them by `python -c",
            _renamed("model.safetensors", "pytorch_model.bin"),
        ),
        "ONNX weights only": (
            "'onnx/model.onnx', which is ONNX: name the repository of the safetensors weights",
            _renamed("model.safetensors", "onnx/model.onnx"),
        ),
        "a git-lfs pointer": (
            "model.safetensors is a git-lfs pointer, not the file: run `git lfs pull`",
            _pointer,
        ),
        "a tokenizer with remote code": (
            "tokenizer_config.json: `auto_map` asks for remote code, which is never run",
            Folder(changes={"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["t.T"]}}}),
        ),
        "adapters of `peft` that are not LoRA, or DoRA": (
            "`use_dora` must be False: merge it into its base by `python -c",
            _dora,
        ),
    }
    for name, (refusal, make) in makers.items():
        yield Layout(name, "refused", make, refusal=refusal)


def _vocabulary(directory: Path) -> Path:
    Folder()(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    (directory / "vocab.txt").write_text("\n".join(PIECES))
    return directory


def _adapter(directory: Path, *, use_dora: bool = False) -> Path:
    """Write an encoder as sentence-transformers saves it with an adapter."""
    from safetensors.torch import save_file
    from torch import Generator, randn

    base = Folder()(directory.with_name("base"))
    Folder()(directory)
    for name in ("model.safetensors", "config.json"):
        (directory / name).unlink()
    generator = Generator().manual_seed(1)
    save_file(
        {
            f"base_model.model.encoder.layer.{layer}.attention.self.query.lora_{letter}.weight": (
                randn(shape, generator=generator) / 4
            )
            for layer in range(2)
            for letter, shape in (("A", (4, DIM)), ("B", (DIM, 4)))
        },
        directory / "adapter_model.safetensors",
    )
    config = {
        **{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["query"]},
        **{"base_model_name_or_path": str(base), "use_dora": use_dora},
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def _dora(directory: Path) -> Path:
    return _adapter(directory, use_dora=True)


def _pointer(directory: Path) -> Path:
    Folder()(directory)
    (directory / "model.safetensors").write_text(POINTER)
    return directory


def _renamed(name: str, other: str) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        Folder()(directory)
        (directory / other).parent.mkdir(exist_ok=True)
        shutil.move(directory / name, directory / other)
        return directory

    return make
