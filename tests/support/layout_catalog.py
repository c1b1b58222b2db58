"""The layouts of encoders that the tests try, and what the service makes of each.

The manual's table is written from `LAYOUTS`. Importing it makes no folder and no model.
"""

from collections.abc import Iterable

from tests.support.layout_files import file_layouts, refused_files
from tests.support.layout_refusals import DYNAMIC_ROPE, refused_layouts
from tests.support.layouts import (
    DIM,
    Folder,
    Layout,
    dense,
    old_limit,
    plain,
    route_heads,
    router,
    sharded,
    static,
)

NORMALIZE = ("Normalize", {})
LAYER_NORM = ("LayerNorm", {"dimension": DIM})
NO_PROMPTS: dict[str, str] = {}
LEGACY = "pooling_mode_{}"
NO_MODES = {
    LEGACY.format(f"{mode}{end}"): False
    for mode, end in (("mean", "_tokens"), ("cls", "_token"), ("max", "_tokens"))
}


def _poolings() -> Iterable[Layout]:
    for mode in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"):
        folder = Folder(pooling={"pooling_mode": mode})
        yield Layout(f"Pooling `{mode}`", "pooling", folder, is_quick=mode == "weightedmean")
    concatenated = {
        LEGACY.format("max_tokens"): True,
        LEGACY.format("cls_token"): True,
        LEGACY.format("mean_tokens"): True,
    }
    yield Layout(
        "Pooling of several modes, old form: concatenated in its fixed order",
        "pooling",
        Folder(pooling=concatenated),
        is_quick=True,
    )
    yield Layout(
        "Pooling of several modes, new form: concatenated in the order of the list",
        "pooling",
        Folder(pooling={"pooling_mode": ["lasttoken", "mean"]}),
    )
    yield Layout("Pooling with all modes false: the mean", "pooling", Folder(pooling=NO_MODES))
    for mode in ("mean", "weightedmean", "cls"):
        yield Layout(
            f"Pooling `{mode}`, `include_prompt` false: the prompt is attended to, not pooled",
            "pooling",
            Folder(
                pooling={"pooling_mode": mode, "include_prompt": False},
                prompts={"query": "Represent the question: ", "document": "passage: "},
            ),
            is_quick=mode == "mean",
        )


def _modules() -> Iterable[Layout]:
    cls = {"pooling_mode": "cls"}
    no_bias = {"bias": False}
    heads = {
        "no Normalize": Folder(head=()),
        "Dense (Tanh), Normalize, as LaBSE": Folder(pooling=cls, head=(dense(DIM), NORMALIZE)),
        "Dense to fewer dimensions, as distiluse": Folder("distilbert", head=(dense(16),)),
        "two Dense (Identity, no bias), Normalize, as EmbeddingGemma": Folder(
            head=(
                dense(48, "Identity", **no_bias),
                dense(DIM, "Identity", 48, **no_bias),
                NORMALIZE,
            )
        ),
        "Dense (GELU) of concatenated poolings": Folder(
            pooling={"pooling_mode": ["mean", "max"]}, head=(dense(24, "GELU", 2 * DIM), NORMALIZE)
        ),
        "Dense (ReLU) with a residual": Folder(head=(dense(DIM, "ReLU", use_residual=True),)),
        "Dense (SiLU) with a projected residual": Folder(
            head=(dense(24, "SiLU", use_residual=True), NORMALIZE)
        ),
        "Dense (PReLU, which has a weight)": Folder(head=(dense(DIM, "PReLU"), NORMALIZE)),
        "LayerNorm": Folder(head=(LAYER_NORM, NORMALIZE)),
        "Normalize, Dense, LayerNorm, in this order": Folder(
            head=(NORMALIZE, dense(24, "Sigmoid"), ("LayerNorm", {"dimension": 24}))
        ),
    }
    quick = ("two Dense (Identity, no bias), Normalize, as EmbeddingGemma", "LayerNorm")
    for name, folder in heads.items():
        yield Layout(name, "modules", folder, is_quick=name in quick)


def _two_sides() -> Iterable[Layout]:
    other = Folder("distilbert", pooling={"pooling_mode": "cls"}, head=(dense(DIM, "GELU"),))
    yield Layout("Router, two transformers", "two sides", router(Folder(), other))
    yield Layout(
        "Router, StaticEmbedding for queries, transformer for passages",
        "two sides",
        router(static(potion=False), Folder()),
    )
    yield Layout("Router after the pooling, a Dense for each side", "two sides", route_heads)


def _static() -> Iterable[Layout]:
    yield Layout(
        "StaticEmbedding of sentence-transformers",
        "static",
        static(potion=False),
        openvino=False,
        is_quick=True,
    )
    yield Layout("model2vec (potion)", "static", static(potion=True), openvino=False)
    yield Layout(
        "model2vec with a mapping and weights of tokens",
        "static",
        static(potion=True, compressed=True),
        openvino=False,
    )


# Architecture: (name in the manual, pooling, whether OpenVINO encodes).
ARCHITECTURES = {
    "albert": ("ALBERT", "mean", True),
    "bert": ("BERT", "cls", True),
    "camembert": ("CamemBERT", "mean", True),
    "deberta-v2": ("DeBERTa v2 and v3, mDeBERTa", "mean", True),
    "distilbert": ("DistilBERT", "mean", True),
    "electra": ("ELECTRA", "mean", True),
    "eurobert": ("EuroBERT", "mean", True),
    "gemma3_text": ("Gemma 3 (EmbeddingGemma without its Dense)", "mean", True),
    "gte": ("GTE (transformers' own)", "cls", True),
    "jina_embeddings_v3": ("Jina embeddings v3 (transformers' own)", "mean", True),
    "mistral": ("Mistral", "lasttoken", True),
    "modernbert": ("ModernBERT, mmBERT", "mean", True),
    "mpnet": ("MPNet", "mean", True),
    "mt5": ("mT5, encoder", "mean", True),
    "nomic_bert": ("Nomic BERT (transformers' own)", "mean", True),
    "qwen2": ("Qwen2", "lasttoken", True),
    "qwen3": ("Qwen3", "lasttoken", True),
    "roberta": ("RoBERTa", "mean", True),
    "t5": ("T5, encoder", "mean", True),
    "xlm-roberta": ("XLM-RoBERTa", "mean", True),
}

CONFIG_CHANGES = {"gemma3_text": {"use_bidirectional_attention": True}}


def _architectures() -> Iterable[Layout]:
    for architecture, (name, pooling, openvino) in ARCHITECTURES.items():
        changes = {"config.json": CONFIG_CHANGES.get(architecture, {})}
        folder = Folder(architecture, pooling={"pooling_mode": pooling}, changes=changes)
        yield Layout(name, "architecture", folder, openvino)


def _files() -> Iterable[Layout]:
    for pooling in ("mean", "cls", "lasttoken"):
        yield Layout(
            f"no `modules.json`, `CLEAR_POOLING={pooling}`",
            "files",
            plain(),
            pooling=pooling,
            is_quick=pooling == "cls",
        )
    settings = {
        "`truncate_dim`": ("config_sentence_transformers.json", {"truncate_dim": 16}),
        "`do_lower_case`": ("sentence_bert_config.json", {"do_lower_case": True}),
        "`truncation_side` left": ("tokenizer_config.json", {"truncation_side": "left"}),
        "no prompts": ("config_sentence_transformers.json", {"prompts": {}}),
    }
    for name, (file, entries) in settings.items():
        yield Layout(name, "files", Folder(changes={file: entries}))
    yield Layout("limit in `sentence_roberta_config.json`", "files", old_limit)
    yield Layout(
        "rotary positions `dynamic`, limit within the positions of the training",
        "files",
        Folder(
            "qwen2",
            pooling={"pooling_mode": "lasttoken"},
            changes={
                "config.json": DYNAMIC_ROPE,
                "sentence_bert_config.json": {"max_seq_length": 16},
            },
        ),
        openvino=False,
    )
    yield Layout(
        "T5, limit over `n_positions`, which bounds nothing",
        "files",
        Folder("t5", changes={"config.json": {"n_positions": 16}}),
    )
    yield Layout("weights in several files with an index", "files", sharded)
    yield Layout(
        "`auto_map` beside an architecture of transformers: that one is loaded",
        "files",
        Folder(changes={"config.json": {"auto_map": {"AutoModel": "modeling.Model"}}}),
    )


LAYOUTS = [
    *_poolings(),
    *_modules(),
    *_two_sides(),
    *_static(),
    *_architectures(),
    *_files(),
    *file_layouts(),
    *refused_layouts(),
    *refused_files(),
]
