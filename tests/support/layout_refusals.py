"""The layouts that are refused, with the words of their refusals."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.layouts import (
    DIM,
    Folder,
    Layout,
    dense,
    module_list,
    plain,
    router,
    write_json,
    write_module,
)

DYNAMIC_ROPE = {
    "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    "max_position_embeddings": 16,
}


def _listed(*listed: tuple[str, str]) -> Callable[[Path], Path]:
    """Return a writer of a folder with another `modules.json`."""

    def make(directory: Path) -> Path:
        Folder()(directory)
        for path, kind in listed:
            if kind in ("Dense", "LayerNorm"):
                write_module(directory / path, *dense(DIM), seed=0)
        write_json(directory / "modules.json", module_list(listed))
        return directory

    return make


def _without(name: str, head: tuple[str, dict[str, object]]) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        Folder(head=(head,))(directory)
        (directory / name).rename((directory / name).with_name("pytorch_model.bin"))
        return directory

    return make


def refused_layouts() -> Iterable[Layout]:
    """Yield them in the order of the manual's table."""
    first = ("", "Transformer")
    pooling = ("1_Pooling", "Pooling")
    makers: dict[str, tuple[str, Callable[[Path], Path]]] = {
        "no `modules.json`, no `CLEAR_POOLING`": (
            "modules.json is missing: …set CLEAR_POOLING=mean, cls or lasttoken",
            plain(),
        ),
        "Dense between Transformer and Pooling": (
            "starts with the modules 'Transformer', 'Dense', not with Transformer and Pooling",
            _listed(first, ("1_Dense", "Dense"), ("2_Pooling", "Pooling")),
        ),
        "Transformer without Pooling": (
            "starts with the modules 'Transformer', not with Transformer and Pooling",
            _listed(first),
        ),
        "WeightedLayerPooling, CNN, LSTM, BoW": (
            "a module that is not supported after the pooling: 'WeightedLayerPooling'",
            _listed(first, pooling, ("2_WeightedLayerPooling", "WeightedLayerPooling")),
        ),
        "a module whose code is in the folder": (
            "asks for the module 'custom_st.Transformer', whose code … is never run",
            _listed(("", "custom_st.Transformer"), pooling),
        ),
        "Dense of token embeddings": (
            "`module_input_name` must be 'sentence_embedding'",
            Folder(head=(dense(DIM, module_input_name="token_embeddings"),)),
        ),
        "Dense with an activation that is not torch's": (
            "`activation_function` is 'my.Swish', not one of torch's activations",
            Folder(head=(dense(DIM, "my.Swish"),)),
        ),
        "Dense with pickled weights": (
            "2_Dense/model.safetensors is missing; pickled weights are never read",
            _without("2_Dense/model.safetensors", dense(DIM)),  # type: ignore[arg-type]
        ),
        "Router with `route_mappings`": (
            "`route_mappings` is not supported",
            _route_mappings,
        ),
        "remote code (`auto_map`) of an architecture that transformers lacks": (
            "asks for remote code (auto_map), which is never run",
            Folder(
                changes={"config.json": {"auto_map": {"AutoModel": "m.M"}, "model_type": "new"}}
            ),
        ),
        "encoder-decoder architectures but T5 (BART, Pegasus)": (
            "`model_type` 'bart' has an encoder and a decoder",
            Folder(changes={"config.json": {"model_type": "bart"}}),
        ),
        "architectures in which padding changes a text (FNet, ConvBERT, YOSO)": (
            "`model_type` 'fnet' lets padding change a text's embedding",
            _fnet,
        ),
        "rotary positions `dynamic` or `longrope`, limit over the positions of the training": (
            "config.json: `rope_parameters` 'dynamic' makes an embedding depend on the longest "
            "text of its batch where that has more than 16 tokens",
            Folder("qwen2", changes={"config.json": DYNAMIC_ROPE}),
        ),
    }
    for name, (refusal, make) in makers.items():
        yield Layout(name, "refused", make, refusal=refusal)


def _fnet(directory: Path) -> Path:
    from transformers import FNetConfig, FNetModel

    Folder()(directory)
    config = FNetConfig(hidden_size=DIM, num_hidden_layers=1, intermediate_size=48)
    FNetModel(config).save_pretrained(directory)
    return directory


def _route_mappings(directory: Path) -> Path:
    router(Folder(), Folder())(directory)
    path = directory / "router_config.json"
    text = path.read_text().replace(
        '"default_route"', '"route_mappings": {"(\'query\', None)": "query"}, "default_route"'
    )
    path.write_text(text)
    return directory
