"""Checkpoints of two sides in sentence-transformers' Router layout, held against that library."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from transformers import PreTrainedModel

from service.retrieval.checkpoint.manifest import write_manifest
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import CheckpointError, EncoderMismatchError
from tests.conftest import make_adapter, make_checkpoint
from tests.service.retrieval.encoder.test_encoder import TEXTS


def save_router(directory: Path, query: Path, passage: Path, *, norm_inside: bool = False) -> Path:
    """Join two checkpoints by the library itself."""
    sides = [SentenceTransformer(str(folder), device="cpu") for folder in (query, passage)]
    routes = [list(side.children())[: 3 if norm_inside else 2] for side in sides]
    modules = [Router.for_query_document(*routes), *([] if norm_inside else [sides[0][2]])]
    joined = SentenceTransformer(modules=modules, prompts=sides[1].prompts, device="cpu")
    joined.save(str(directory), create_model_card=False)
    return directory


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """Other layers than `tiny_checkpoint`, and the same embedding table."""
    folder = make_checkpoint(
        tmp_path_factory.mktemp("other") / "query", seed=1, pooling="cls", with_manifest=False
    )
    table = "embeddings.word_embeddings.weight"
    weights = load_file(folder / "model.safetensors")
    weights[table] = load_file(tiny_checkpoint / "model.safetensors")[table]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def router_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, other_checkpoint: Path
) -> Path:
    """Two sides, saved by sentence-transformers, that no test may alter."""
    return save_router(tmp_path_factory.mktemp("router") / "two", other_checkpoint, tiny_checkpoint)


@pytest.fixture
def router_copy(tmp_path: Path, router_checkpoint: Path) -> Path:
    """One that the test may alter."""
    return Path(shutil.copytree(router_checkpoint, tmp_path / "router"))


@pytest.mark.parametrize("norm_inside", [False, True])
def test_both_sides_equal_sentence_transformers(
    tmp_path: Path, tiny_checkpoint: Path, other_checkpoint: Path, norm_inside: bool
) -> None:
    folder = save_router(
        tmp_path / "two", other_checkpoint, tiny_checkpoint, norm_inside=norm_inside
    )
    ours = load_encoder(str(folder), device="cpu")
    theirs = SentenceTransformer(str(folder), device="cpu")

    assert ours.has_two_sides
    np.testing.assert_allclose(
        ours.encode(TEXTS, "query").embeddings, theirs.encode_query(TEXTS), atol=1e-5
    )
    np.testing.assert_allclose(
        ours.encode(TEXTS, "passage").embeddings, theirs.encode_document(TEXTS), atol=1e-5
    )


def test_each_side_has_its_own_pooling_and_fingerprint(router_checkpoint: Path) -> None:
    encoder = load_encoder(str(router_checkpoint), device="cpu")

    poolings = (str(encoder.pooling), str(encoder.side("passage").pooling))
    assert poolings == ("cls", "mean")
    assert encoder.passage_fingerprint == encoder.side("passage").fingerprint
    assert encoder.passage_fingerprint != encoder.fingerprint


def test_the_sides_share_an_equal_embedding_table(
    router_checkpoint: Path, loaded_models: list[PreTrainedModel]
) -> None:
    load_encoder(str(router_checkpoint), device="cpu").encode(["tea"], "passage")
    query, passage = (dict(model.named_parameters()) for model in loaded_models)

    shared = {name for name in query if query[name].data_ptr() == passage[name].data_ptr()}

    assert "embeddings.word_embeddings.weight" in shared
    assert "encoder.layer.0.attention.self.query.weight" not in shared


def test_one_module_on_both_routes_is_one_side(tmp_path: Path, tiny_checkpoint: Path) -> None:
    side = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    router = Router.for_query_document([side[0], side[1]], [side[0], side[1]])
    SentenceTransformer(modules=[router, side[2]], prompts=side.prompts, device="cpu").save(
        str(tmp_path / "one"), create_model_card=False
    )

    encoder = load_encoder(str(tmp_path / "one"), device="cpu")

    assert not encoder.has_two_sides
    assert encoder.encodes_passages


def test_texts_of_two_sides_are_no_batch(router_checkpoint: Path, tiny_encoder: Encoder) -> None:
    encoder = load_encoder(str(router_checkpoint), device="cpu")
    texts = [encoder.tokenize(["Lima"], role)[0] for role in ("query", "passage")]  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="unpack"):
        encoder.pad(texts)

    one_side = [tiny_encoder.tokenize(["Lima"], role)[0] for role in ("query", "passage")]  # type: ignore[arg-type]
    assert tiny_encoder.pad(one_side).side == "query"


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


ROUTES = {"query": ["query_0_Transformer"], "document": ["document_0_Transformer"]}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "router_config.json").unlink(), "router_config.json is missing"),
        (edit("router_config.json", structure={"query": []}), "does not describe the routes"),
        (edit("router_config.json", structure=3), "does not describe the routes"),
        (edit("router_config.json", types={}), "does not describe the routes"),
        (edit("router_config.json", parameters=[]), "does not describe the routes"),
        (
            edit("router_config.json", structure=ROUTES),
            "not with Transformer and Pooling",
        ),
        (
            edit("router_config.json", parameters={"route_mappings": {"('query', None)": "query"}}),
            "`route_mappings` is not supported",
        ),
        (
            edit(
                "router_config.json",
                structure={route: ["/x"] for route in ROUTES},
                types={"/x": "sentence_transformers.models.Pooling"},
            ),
            "names a folder outside of the checkpoint: '/x'",
        ),
        (
            edit("query_0_Transformer/config.json", auto_map={"AutoModel": "m.M"}, model_type="a"),
            "remote code",
        ),
        (
            lambda folder: (folder / "document_0_Transformer/tokenizer.json").unlink(),
            "document_0_Transformer/tokenizer.json is missing",
        ),
    ],
)
def test_a_broken_router_is_refused(
    router_copy: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(router_copy)

    with pytest.raises(CheckpointError, match=reason):
        load_encoder(str(router_copy), device="cpu")


def test_a_folder_outside_of_the_checkpoint_is_refused(router_copy: Path) -> None:
    path = router_copy / "router_config.json"
    path.write_text(path.read_text().replace("query_0_Transformer", "../query_0_Transformer"))

    with pytest.raises(CheckpointError, match="names a folder outside of the checkpoint"):
        load_encoder(str(router_copy), device="cpu")


def test_sides_of_different_size_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    small = make_checkpoint(tmp_path / "small", hidden_size=16)
    folder = save_router(tmp_path / "two", small, tiny_checkpoint)

    with pytest.raises(CheckpointError, match="the query side has 16 dimensions, the passage side"):
        load_encoder(str(folder), device="cpu")


def test_a_manifest_of_another_passage_side_is_refused(router_copy: Path) -> None:
    write_manifest(router_copy, name="two", passage_fingerprint="f" * 64)

    with pytest.raises(CheckpointError, match="`passage_fingerprint` is 'ffffffffffffffff', the"):
        load_encoder(str(router_copy), device="cpu")


def test_an_adapter_beside_two_sides_is_refused(router_copy: Path, tiny_encoder: Encoder) -> None:
    make_adapter(router_copy, tiny_encoder, base=None)

    with pytest.raises(CheckpointError, match=r"adapter\.json: the encoder .* has a query side of"):
        load_encoder(str(router_copy), device="cpu")


def test_a_query_side_alone_refuses_passages(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "bridge", passage_fingerprint="f" * 64)
    encoder = load_encoder(str(folder), device="cpu")

    with pytest.raises(EncoderMismatchError, match="encodes queries alone: .* ffffffffffffffff"):
        encoder.tokenize(["Lima"], "passage")

    assert encoder.encode(["Lima"], "query").embeddings.shape == (1, 32)
