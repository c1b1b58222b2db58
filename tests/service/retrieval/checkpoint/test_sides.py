import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.checkpoint.modules.pooling import Pooling
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.errors import CheckpointError, quoted

LIBRARY = "sentence_transformers.models."


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )


def test_a_layout_has_the_settings_of_the_json_files(tiny_checkpoint: Path) -> None:
    layout = read_layout(tiny_checkpoint)

    assert layout.transformer == tiny_checkpoint
    assert layout.weights == (tiny_checkpoint / "model.safetensors",)
    assert layout.tokenizer == tiny_checkpoint / "tokenizer.json"
    assert layout.pooling == Pooling(("mean",))
    assert layout.prompts == {"query": "query: ", "passage": "passage: "}
    assert layout.max_tokens == 64


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": ["mean", "cls"]}, "mean+cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls+mean"),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, "cls"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}, "mean"),
        ({}, "mean"),
    ],
)
def test_pooling_is_read_in_the_new_and_the_old_form(
    checkpoint_copy: Path, content: dict[str, object], expected: str
) -> None:
    (checkpoint_copy / "1_Pooling/config.json").write_text(json.dumps(content))

    assert str(read_layout(checkpoint_copy).pooling) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"pooling_mode": "median"}, r"`pooling_mode\[0\]` must be 'cls', 'max', 'mean'"),
        ({"pooling_mode": []}, "`pooling_mode` is empty"),
        ({"pooling_mode": None}, "`pooling_mode` is not a list"),
        ({"pooling_mode": 3}, "`pooling_mode` is not a list"),
        ({"pooling_mode": "mean", "include_prompt": 1}, "`include_prompt` is not true or false"),
    ],
)
def test_another_pooling_is_refused_by_name(
    checkpoint_copy: Path, content: dict[str, object], reason: str
) -> None:
    (checkpoint_copy / "1_Pooling/config.json").write_text(json.dumps(content))

    with pytest.raises(CheckpointError, match=f"1_Pooling/config.json: {reason}"):
        read_layout(checkpoint_copy)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"query": "q: ", "document": "d: "}, {"query": "q: ", "passage": "d: "}),
        ({"query": "q: ", "passage": "p: "}, {"query": "q: ", "passage": "p: "}),
        ({"document": "", "passage": "p: "}, {"query": "", "passage": "p: "}),
        ({}, {"query": "", "passage": ""}),
        (None, {"query": "", "passage": ""}),
    ],
)
def test_prompts_are_found_by_the_usual_names(
    checkpoint_copy: Path, prompts: dict[str, str] | None, expected: dict[str, str]
) -> None:
    edit(checkpoint_copy / "config_sentence_transformers.json", prompts=prompts)

    assert read_layout(checkpoint_copy).prompts == expected


def test_a_checkpoint_without_a_prompts_file_has_no_prompts(checkpoint_copy: Path) -> None:
    (checkpoint_copy / "config_sentence_transformers.json").unlink()

    assert read_layout(checkpoint_copy).prompts == {"query": "", "passage": ""}


@pytest.mark.parametrize("folder", ["/", "../other", "a/../../b", "a\nb", "a\0b", "x" * 300])
@pytest.mark.parametrize("kind", ["Router", "Pooling", "Normalize"])
def test_a_module_outside_of_the_checkpoint_is_refused_by_name(
    checkpoint_copy: Path, folder: str, kind: str
) -> None:
    entries = [
        {"path": "", "type": f"{LIBRARY}Transformer"},
        {"path": "", "type": f"{LIBRARY}Pooling"},
    ]
    entries.append({"path": folder, "type": f"{LIBRARY}{kind}"})
    (checkpoint_copy / "modules.json").write_text(json.dumps(entries))

    with pytest.raises(CheckpointError) as caught:
        read_layout(checkpoint_copy)

    assert str(caught.value) == (
        f"{checkpoint_copy / 'modules.json'} names a folder outside of the checkpoint: "
        f"{quoted(folder)}; move it into the folder"
    )


def no_limit(folder: Path) -> None:
    edit(folder / "config.json", max_position_embeddings=None, model_type="t5")
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def modules(folder: Path, *names: str) -> None:
    entries: list[dict[str, Any]] = [{"path": "", "type": f"{LIBRARY}{name}"} for name in names]
    (folder / "modules.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "modules.json").unlink(), "modules.json is missing"),
        (lambda folder: (folder / "modules.json").write_text("[{}]"), "module without `type`"),
        (lambda folder: (folder / "modules.json").write_text("3"), "module without `type`"),
        (
            lambda folder: modules(folder, "Transformer", "Pooling", "Dense"),
            "config.json: `in_features` is missing",
        ),
        (
            lambda folder: modules(folder, "Transformer"),
            "'Transformer', not with Transformer and Pooling",
        ),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (
            lambda folder: edit(
                folder / "config.json", auto_map={"AutoModel": "m.M"}, model_type="new"
            ),
            "asks for remote code",
        ),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "pickled weights are never read",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: (folder / "1_Pooling/config.json").unlink(), "config.json is missing"),
        (
            lambda folder: edit(folder / "config_sentence_transformers.json", prompts=["query: "]),
            "`prompts` is not an object",
        ),
        (
            lambda folder: edit(
                folder / "config_sentence_transformers.json", prompts={"query": "\ud800"}
            ),
            "`prompts.query` holds half a surrogate pair",
        ),
        (no_limit, "names no limit of tokens"),
    ],
)
def test_unsupported_checkpoints_are_refused(
    checkpoint_copy: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(checkpoint_copy)

    with pytest.raises(CheckpointError, match=reason) as caught:
        read_layout(checkpoint_copy)

    assert str(checkpoint_copy) in str(caught.value)


def test_a_file_in_place_of_the_folder_is_refused(checkpoint_copy: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        read_layout(checkpoint_copy / "config.json")
