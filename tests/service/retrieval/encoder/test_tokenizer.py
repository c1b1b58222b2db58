import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError
from tests.support.layouts import Folder, static


def edit_tokenizer(folder: Path, change: Callable[[Tokenizer], object]) -> None:
    [path] = folder.rglob("tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    change(tokenizer)
    tokenizer.save(str(path))


@pytest.mark.parametrize("write", [Folder(), static(potion=False)])
def test_a_token_without_an_embedding_is_refused(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path / "encoder")
    edit_tokenizer(folder, lambda tokenizer: tokenizer.add_tokens(["zebrafish"]))

    with pytest.raises(CheckpointError, match=r"tokenizer\.json has the token 'zebrafish' of") as e:
        load_encoder(str(folder), cache=tmp_path, device="cpu")

    assert ("config.json" if write == Folder() else "model.safetensors") in str(e.value)


def test_a_special_token_without_an_embedding_is_refused_only_in_a_prompt(tmp_path: Path) -> None:
    folder = Folder()(tmp_path / "encoder")
    edit_tokenizer(folder, lambda tokenizer: tokenizer.add_special_tokens(["<mask9>"]))

    encoder = load_encoder(str(folder), cache=tmp_path, device="cpu")

    assert encoder.encode(["a <mask9>"], "query").embeddings.shape == (1, 32)
    with pytest.raises(CheckpointError, match="has the token '<mask9>' of the id"):
        load_encoder(str(folder), cache=tmp_path, device="cpu", query_prompt="<mask9> ")


@pytest.mark.parametrize("is_given", [True, False])
def test_type_ids_that_the_library_gives_to_the_model_are_refused(
    tmp_path: Path, is_given: bool
) -> None:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if is_given else [])]
    settings = {"tokenizer_config.json": {"model_input_names": names}}
    folder = Folder(changes=settings)(tmp_path / "encoder")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"]["single"][0]["SpecialToken"]["type_id"] = 1
    path.write_text(json.dumps(content))

    if not is_given:
        load_encoder(str(folder), cache=tmp_path, device="cpu")
        return
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the template .* type ids other"):
        load_encoder(str(folder), cache=tmp_path, device="cpu")
