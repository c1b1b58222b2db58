"""Tiny random encoders in the layouts that users have, with what the service makes of each.

`LAYOUTS` is the list that the tests run and that the table of the manual is written from: a layout
is served with sentence-transformers' vectors, or refused in words. Nothing is made on import.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DIM, MAX_TOKENS = 32, 64
TORCH_ACTIVATION = "torch.nn.modules.activation."
LIBRARY = "sentence_transformers.models."
Json = Mapping[str, Any]
Module = tuple[str, Json]
Group = Literal[
    "pooling", "modules", "two sides", "static", "architecture", "files", "adapter", "refused"
]


@dataclass(frozen=True)
class Layout:
    """A layout of a folder and what becomes of it.

    Attributes:
        name: in the manual's table.
        group: the table's section.
        make: writes the folder.
        openvino: whether OpenVINO encodes; else `auto` chooses torch.
        pooling: `CLEAR_POOLING` of a folder without `modules.json`.
        refusal: the words of the refusal, with `…` for others; empty where the layout is served.
        is_quick: whether it is tested in the ordinary run, too.
    """

    name: str
    group: Group
    make: Callable[[Path], Path]
    openvino: bool = True
    pooling: str | None = None
    refusal: str = ""
    is_quick: bool = False


@dataclass(frozen=True)
class Folder:
    """Writes a Sentence Transformers folder of one side.

    Attributes:
        architecture: of the transformer.
        pooling: the content of the Pooling module's `config.json`.
        head: kinds and configurations of the modules after it.
        changes: entries added to the JSON file of a name.
        prompts: by sentence-transformers' names.
    """

    architecture: str = "bert"
    pooling: Json = field(default_factory=lambda: {"pooling_mode": "mean"})
    head: Sequence[Module] = (("Normalize", {}),)
    changes: Mapping[str, Json] = field(default_factory=dict)
    prompts: Json = field(default_factory=lambda: {"query": "query: ", "document": "passage: "})

    def __call__(self, directory: Path) -> Path:
        """Write the folder."""
        from tests.support.architectures import make_encoder

        make_encoder(directory, self.architecture, prompts=dict(self.prompts))
        listed = [("", "Transformer"), ("1_Pooling", "Pooling")]
        pooling = {"embedding_dimension": DIM} | dict(self.pooling)
        write_json(directory / "1_Pooling/config.json", pooling)
        (directory / "2_Normalize").mkdir(exist_ok=True)
        (directory / "2_Normalize").rmdir()
        for at, (kind, config) in enumerate(self.head, start=2):
            listed.append((f"{at}_{kind}", kind))
            write_module(directory / f"{at}_{kind}", kind, config, seed=at)
        write_json(directory / "modules.json", module_list(listed))
        for name, changes in self.changes.items():
            path = directory / name
            content = json.loads(path.read_text()) if path.is_file() else {}
            write_json(path, content | dict(changes))
        return directory


def module_list(listed: Sequence[tuple[str, str]]) -> list[Json]:
    """Return the content of `modules.json` for folders and kinds; a kind may be a whole path."""
    return [
        {"idx": at, "name": str(at), "path": path, "type": kind if "." in kind else LIBRARY + kind}
        for at, (path, kind) in enumerate(listed)
    ]


def write_json(path: Path, content: object) -> None:
    """Write a JSON file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_module(folder: Path, kind: str, config: Json, seed: int) -> None:
    """Write a Dense or LayerNorm with random weights, or only the configuration of others."""
    import torch
    from safetensors.torch import save_file

    write_json(folder / "config.json", config)
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    state: dict[str, torch.Tensor] = {}
    if kind == "Dense":
        inputs, outputs = config["in_features"], config["out_features"]
        state["linear.weight"] = random(outputs, inputs) / inputs**0.5
        if config.get("bias", True):
            state["linear.bias"] = random(outputs) / 4
        if config.get("use_residual") and inputs != outputs:
            state["residual.weight"] = random(outputs, inputs) / inputs**0.5
        if config.get("activation_function", "").endswith("PReLU"):
            state["activation_function.weight"] = torch.tensor([0.3])
    if kind == "LayerNorm":
        dim = config["dimension"]
        state = {"norm.weight": 1 + random(dim) / 2, "norm.bias": random(dim) / 4}
    if state:
        save_file(state, folder / "model.safetensors")


def dense(outputs: int, activation: str = "Tanh", inputs: int = DIM, **config: Any) -> Module:
    """Return a Dense module."""
    name = "torch.nn.modules.linear.Identity" if activation == "Identity" else activation
    full = name if "." in name else TORCH_ACTIVATION + name
    described = {"in_features": inputs, "out_features": outputs, "activation_function": full}
    return "Dense", described | config


def plain(architecture: str = "bert", **changes: Any) -> Callable[[Path], Path]:
    """Return a writer of a folder as transformers saves it, without `modules.json`."""

    def make(directory: Path) -> Path:
        Folder(architecture, changes={"config.json": changes} if changes else {})(directory)
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif "sentence" in path.name or path.name == "modules.json":
                path.unlink()
        return directory

    return make


def static(*, potion: bool, compressed: bool = False, dim: int = DIM) -> Callable[[Path], Path]:
    """Return a writer of a StaticEmbedding, as sentence-transformers or as model2vec saves it."""

    def make(directory: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        from tests.conftest import tiny_tokenizer

        folder = directory if potion else directory / "0_StaticEmbedding"
        folder.mkdir(parents=True)
        tokenizer = tiny_tokenizer()
        tokenizer.save(str(folder / "tokenizer.json"))
        generator = torch.Generator().manual_seed(0)
        size = tokenizer.get_vocab_size()
        table = torch.randn(size, dim, generator=generator)
        tensors = {"embeddings" if potion else "embedding.weight": table}
        if compressed:
            tensors = {
                "embeddings": table[:40].clone(),
                "mapping": torch.randint(0, 40, (size,), generator=generator),
                "weights": torch.rand(size, generator=generator),
            }
        save_file(tensors, folder / "model.safetensors")
        if potion:
            write_json(folder / "config.json", {"model_type": "model2vec", "normalize": True})
        listed = [("." if potion else folder.name, "StaticEmbedding"), ("1_Normalize", "Normalize")]
        write_json(directory / "modules.json", module_list(listed))
        return directory

    return make


def router(
    query: Callable[[Path], Path], document: Callable[[Path], Path]
) -> Callable[[Path], Path]:
    """Return a writer of a Router of two folders of one side."""

    def make(directory: Path) -> Path:
        types: dict[str, str] = {}
        structure: dict[str, list[str]] = {}
        for route, write in (("query", query), ("document", document)):
            made = write(directory.parent / f"{directory.name}-{route}")
            structure[route] = []
            for entry in json.loads((made / "modules.json").read_text()):
                kind = entry["type"].rpartition(".")[2]
                name = f"{route}_{entry['idx']}_{kind}"
                structure[route].append(name)
                types[name] = entry["type"]
                copy_module(made / entry["path"], directory / name)
        settings = {"default_route": "document", "allow_empty_key": True}
        content = {"types": types, "structure": structure, "parameters": settings}
        write_json(directory / "router_config.json", content)
        write_json(directory / "modules.json", module_list([("", "Router")]))
        return directory

    return make


def copy_module(source: Path, target: Path) -> None:
    """Copy the files of a module's folder, without those of other modules."""
    target.mkdir(parents=True)
    for path in source.iterdir() if source.is_dir() else ():
        if path.is_file() and path.name != "modules.json":
            (target / path.name).write_bytes(path.read_bytes())


def route_heads(directory: Path) -> Path:
    """Write a Router after the pooling: each side has a Dense of its own."""
    Folder(head=())(directory)
    structure = {"query": ["query_0_Dense"], "document": ["document_0_Dense"]}
    for seed, [name] in enumerate(structure.values()):
        write_module(directory / "2_Router" / name, *dense(24), seed=seed)
    types = {name: LIBRARY + "Dense" for [name] in structure.values()}
    content = {"types": types, "structure": structure, "parameters": {"default_route": "document"}}
    write_json(directory / "2_Router/router_config.json", content)
    listed = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Router", "Router")]
    write_json(directory / "modules.json", module_list(listed))
    return directory


def old_limit(directory: Path) -> Path:
    """Write a RoBERTa's folder whose limit of tokens stands in the file of an older name."""
    Folder("roberta")(directory)
    (directory / "sentence_bert_config.json").unlink()
    write_json(directory / "sentence_roberta_config.json", {"max_seq_length": 32})
    return directory


def sharded(directory: Path) -> Path:
    """Write a folder with weights in several files, as those of large encoders are."""
    from transformers import AutoModel

    Folder()(directory)
    model = AutoModel.from_pretrained(directory)
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size=20_000)
    assert (directory / "model.safetensors.index.json").is_file()
    return directory
