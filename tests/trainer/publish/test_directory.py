import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.manifest import verify_manifest
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.reference.comparison import compare
from service.retrieval.encoder.reference.stored import read_reference
from service.retrieval.generation.generation import open_current
from service.retrieval.language_quality import LanguageQuality
from service.retrieval.searcher import Searcher
from tests.conftest import make_adapter, make_checkpoint
from tests.service.retrieval.encoder.test_encoder import TEXTS
from trainer.errors import DataError, OutputError
from trainer.publish.directory import Publication, open_sides, write_publication

PUBLICATION = Publication("tiny-tuned", "mit")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, tuned_checkpoint: Path) -> Path:
    """The tuned encoder, published; tests must not change it."""
    folder = tmp_path_factory.mktemp("published") / "tiny-tuned"
    sides = open_sides(str(tuned_checkpoint), "bundled-base", folder.parent)
    write_publication(*sides, folder, PUBLICATION)
    return folder


def assert_reads_alike(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    ours, theirs = (
        load_encoder(str(folder), device="cpu"),
        SentenceTransformer(str(folder), device="cpu"),
    )
    for role, expected in (
        ("query", theirs.encode_query(TEXTS)),
        ("passage", theirs.encode_document(TEXTS)),
    ):
        found = ours.encode(TEXTS, role).embeddings  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sentence_transformers_reads_both_sides(published: Path) -> None:
    assert_reads_alike(published)


def test_both_sides_embed_as_before(published: Path, tuned_encoder: Encoder) -> None:
    encoder = load_encoder(str(published), device="cpu")

    for role in ("query", "passage"):
        found, expected = (each.encode(TEXTS, role).embeddings for each in (encoder, tuned_encoder))  # type: ignore[arg-type]
        assert found.tobytes() == expected.tobytes()
    assert encoder.name == "tiny-tuned"


def test_reference_embeddings_are_stored_and_the_published_encoder_matches_them(
    published: Path,
) -> None:
    stored = read_reference(published)
    manifest = verify_manifest(published)

    assert stored is not None
    assert manifest is not None
    assert "reference/vectors.safetensors" in manifest.files
    assert stored.embeddings.keys() == {"query", "passage"}
    assert compare(load_encoder(str(published), device="cpu"), stored).is_right


def test_an_index_of_the_base_is_served_unchanged(
    published: Path, tiny_encoder: Encoder, tiny_index: Path
) -> None:
    encoder = load_encoder(str(published), device="cpu")

    assert encoder.passage_fingerprint == tiny_encoder.fingerprint
    Searcher(encoder, open_current(tiny_index)).check_canaries()


def test_the_manifest_holds_every_file(published: Path, tiny_encoder: Encoder) -> None:
    manifest = verify_manifest(published)

    assert manifest is not None
    assert manifest.passage_fingerprint == tiny_encoder.fingerprint
    assert manifest.license == "mit"
    assert manifest.facts["adapter"]["scale"] == 0.0625
    files = {
        path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()
    }
    assert manifest.files.keys() == files - {"manifest.json"}
    assert {"README.md", "modules.json", "router_config.json"} <= files


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_an_encoder_of_one_side_stays_one(tmp_path: Path, pooling: str) -> None:
    folder = make_checkpoint(tmp_path / "one", pooling=pooling)
    original = load_encoder(str(folder), device="cpu")

    write_publication(*open_sides(str(folder), "none", tmp_path), tmp_path / "out", PUBLICATION)

    found = load_encoder(str(tmp_path / "out"), device="cpu")
    assert not found.has_two_sides
    assert found.fingerprint == original.fingerprint
    assert_reads_alike(tmp_path / "out")


def test_prompts_of_a_family_are_stated_and_the_index_of_the_base_stays_valid(
    tmp_path: Path,
) -> None:
    base_folder = make_checkpoint(tmp_path / "e5-base", with_manifest=False)
    (base_folder / "config_sentence_transformers.json").unlink()
    base = load_encoder(str(base_folder), device="cpu")
    adapter = make_adapter(
        tmp_path / "mine",
        base,
        base=str(base_folder),
        passage_fingerprint=base.passage_fingerprint,
    )

    for name, out in ((adapter, tmp_path / "two"), (base_folder, tmp_path / "one")):
        write_publication(*open_sides(str(name), "none", tmp_path), out, PUBLICATION)

        found = load_encoder(str(out), device="cpu")
        assert found.prompts == base.prompts == {"query": "query: ", "passage": "passage: "}
        assert found.passage_fingerprint == base.passage_fingerprint
        assert found.encodes_passages
        assert_reads_alike(out)


def test_a_query_encoder_alone_is_published_with_the_passages_it_was_trained_for(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    query = make_checkpoint(
        tmp_path / "query", seed=1, passage_fingerprint=tiny_encoder.fingerprint
    )
    sides = open_sides(str(query), str(tiny_checkpoint), tmp_path)

    write_publication(*sides, tmp_path / "out", PUBLICATION)

    encoder = load_encoder(str(tmp_path / "out"), device="cpu")
    expected = load_encoder(str(query), device="cpu").encode(TEXTS, "query").embeddings
    assert encoder.encode(TEXTS, "query").embeddings.tobytes() == expected.tobytes()
    assert encoder.passage_fingerprint == tiny_encoder.fingerprint
    assert_reads_alike(tmp_path / "out")


def test_a_query_encoder_with_other_passages_is_refused(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    query = make_checkpoint(tmp_path / "query", seed=1, passage_fingerprint="f" * 64)

    with pytest.raises(
        DataError, match="ffffffffffffffff; .* name the right encoder with --passage-"
    ):
        open_sides(str(query), str(tiny_checkpoint), tmp_path)


def test_a_published_encoder_is_published_again(tmp_path: Path, published: Path) -> None:
    sides = open_sides(str(published), "none", tmp_path)

    write_publication(*sides, tmp_path / "again", Publication("tiny-tuned"))

    manifest = verify_manifest(tmp_path / "again")
    assert manifest is not None
    assert manifest.license == "mit"
    assert load_encoder(str(tmp_path / "again"), device="cpu").fingerprint == (
        load_encoder(str(published), device="cpu").fingerprint
    )


def test_a_folder_with_other_content_is_not_replaced(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("x")

    with pytest.raises(OutputError, match="has other content"):
        write_publication(
            *open_sides(str(tiny_checkpoint), "none", tmp_path), tmp_path / "out", PUBLICATION
        )

    assert (tmp_path / "out/precious").read_text() == "x"


def test_an_equal_publication_stays_and_another_is_not_replaced(
    tmp_path: Path, tuned_checkpoint: Path, published: Path
) -> None:
    out = Path(shutil.copytree(published, tmp_path / "tiny-tuned"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    sides = open_sides(str(tuned_checkpoint), "bundled-base", tmp_path)

    write_publication(*sides, out, PUBLICATION)
    with pytest.raises(OutputError, match="tiny-tuned has other content: name another folder"):
        write_publication(*sides, out, replace(PUBLICATION, languages=RECORD))

    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_run_is_not_published_in_place_of_its_encoder(tmp_path: Path) -> None:
    (tmp_path / "base/adapter").mkdir(parents=True)

    with pytest.raises(DataError, match="base is the folder of a run or a blend: name "):
        open_sides(str(tmp_path / "base"), "none", tmp_path)


def test_an_encoder_without_a_license_asks_for_one(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(DataError, match="names no license: name one with --license"):
        write_publication(
            *open_sides(str(tiny_checkpoint), "none", tmp_path), tmp_path / "out", Publication("x")
        )

    assert not (tmp_path / "out").exists()


def test_all_weights_are_safetensors(published: Path) -> None:
    query = load_file(published / "query_0_Transformer/model.safetensors")
    passage = load_file(published / "document_0_Transformer/model.safetensors")

    table = "embeddings.word_embeddings.weight"
    assert query[table].equal(passage[table])
    assert not [path for path in published.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_card_has_description_use_results_data_and_license(
    tmp_path: Path, tuned_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    card = {"name": "AfriQA", "licence": "CC BY-SA 4.0", "url": "https://x/y", "rows": {"sw": 3}}
    publication = Publication("owner/tuned", "MIT", "| en |\n|---|\n| .97 |", [card])
    sides = open_sides(str(tuned_checkpoint), "bundled-base", tmp_path)

    write_publication(*sides, tmp_path / "out", publication)

    text = (tmp_path / "out/README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["language"]) == ("mit", ["en", "sw"])
    for expected in (
        "# owner/tuned",
        "| .97 |",
        "| AfriQA | CC BY-SA 4.0 | https://x/y | sw |",
        "encode_query",
        "without building it again",
        tiny_encoder.fingerprint,
    ):
        assert expected in text


def test_the_card_shows_the_records_figures_and_data(tmp_path: Path, tiny_encoder: Encoder) -> None:
    folder = make_checkpoint(
        tmp_path / "trained",
        training={
            "seed": 7,
            "data": {"rows.jsonl": "a" * 64},
            "base_scores": {"dev": {"sw": 0.4}},
            "scores": {"dev": {"sw": 0.61234}},
        },
    )

    write_publication(*open_sides(str(folder), "none", tmp_path), tmp_path / "out", PUBLICATION)

    text = (tmp_path / "out/README.md").read_text()
    assert "| dev | sw | 0.4000 | 0.6123 |" in text
    assert f"| rows.jsonl | `{'a' * 64}` |" in text
    assert '"seed": 7' in text
    assert json.loads((tmp_path / "out/manifest.json").read_text())["training"]["seed"] == 7


@pytest.mark.parametrize(
    ("training", "base_model"),
    [
        ({"base": {"name": "owner/base", "revision": "0" * 40}}, "owner/base"),
        ({"base": {"name": "a folder", "revision": None}}, None),
        ("not a record", None),
    ],
)
def test_a_base_of_the_hub_is_named_as_the_base_model(
    tmp_path: Path, training: object, base_model: str | None
) -> None:
    folder = make_checkpoint(tmp_path / "trained", training=training)

    manifest = write_publication(
        *open_sides(str(folder), "none", tmp_path), tmp_path / "out", PUBLICATION
    )

    assert manifest.base_model == base_model


RECORD = {"sw": LanguageQuality(questions=0.7, n=10), "ay": LanguageQuality(statements=0.5, n=3)}


def test_languages_come_into_the_manifest_and_change_no_fingerprint(
    tmp_path: Path, tuned_checkpoint: Path, published: Path
) -> None:
    sides = open_sides(str(tuned_checkpoint), "none", tmp_path)
    publication = replace(PUBLICATION, languages=RECORD)

    manifest = write_publication(*sides, tmp_path / "out", publication)

    found = open_checkpoint(str(tmp_path / "out"), tmp_path)
    assert manifest.languages == found.languages == RECORD
    assert found.query_fingerprint == open_checkpoint(str(published), tmp_path).query_fingerprint


def test_an_adapters_own_languages_are_published_unless_others_are_given(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path
) -> None:
    own = {"sw": {"questions": 0.25, "n": 2}}
    adapter = make_adapter(tmp_path / "a", tiny_encoder, base=str(tiny_checkpoint), languages=own)
    sides = open_sides(str(adapter), "none", tmp_path)

    kept = write_publication(*sides, tmp_path / "kept", PUBLICATION)
    replaced = write_publication(
        *sides, tmp_path / "replaced", replace(PUBLICATION, languages=RECORD)
    )

    assert kept.languages == {"sw": LanguageQuality(questions=0.25, n=2)}
    assert replaced.languages == RECORD
