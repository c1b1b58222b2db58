import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app


@pytest.fixture
def run(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLEAR_ENCODER", str(tiny_checkpoint))
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")
    return lambda *arguments, **named: CliRunner().invoke(
        app, [str(argument) for argument in arguments], **named
    )


def test_a_check_reports_counts_lengths_languages_and_refusals(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.csv").write_text("docid,body,year\n1,Tea grows in Kenya.,1999\n2,,2001\n")
    (tmp_path / "b.jsonl").write_text(
        '{"id": "3", "text": "Coffee grows in Ethiopia.", "year": "late"}\n'
        '{"id": "1", "text": "Twice."}\n'
        f'{{"id": "4", "text": "{"word " * 100}", "year": 1}}\n'
    )

    result = run("index", "check", tmp_path, "--field", "year:number", "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["num_passages"], found["num_refused"], found["num_over_limit"]) == (2, 3, 1)
    assert found["tokens"]["longest"] > found["max_tokens"] == 64
    assert found["metadata"] == {"year": {"number": 2}}
    assert [error.removeprefix(f"{tmp_path}/").split(" ")[0] for error in found["refusals"]] == [
        "a.csv:3",
        "b.jsonl:1",
        "b.jsonl:2",
    ]
    assert "a.csv: reads id from `docid`, text from `body`" in result.stderr
    assert "refused: " in result.stderr


def test_a_check_of_a_whole_corpus_succeeds_with_a_table(passages_file: Path, run: Any) -> None:
    result = run("index", "check", passages_file)

    assert result.exit_code == 0
    assert "passages" in result.stdout
    assert "languages, of 12 texts" in result.stdout


def test_a_corpus_of_several_paths_and_the_standard_input_is_built(
    tmp_path: Path, run: Any
) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\tyear\n1\tTea grows in Kenya.\t1999\n")
    lines = '{"key": "2", "text": "Coffee."}\n'
    build = ["index", "build", tmp_path / "a.tsv", "-", "--index", tmp_path / "i"]

    refused = run(*build, input=lines)
    built = run(*build, "--field", "year:number", "--id-field", "key", "--json", input=lines)
    skipped = run(*build, "--field", "year:number", "--skip-invalid", "--json", input=lines)
    updated = run("index", "update", tmp_path / "*.tsv", "--index", tmp_path / "i", "--json")

    assert "stdin:1 needs a field `id` (or `_id`) with text or a whole" in refused.stderr
    assert "and has `key`, `text`: correct" in refused.stderr
    assert "a.tsv:2 needs a field `key`" in built.stderr  # it holds for all files
    found = json.loads(skipped.stdout)
    assert (found["passages"], found["skipped"]) == (1, 1)
    assert json.loads(updated.stdout)["reused"] == 1  # its year is a number still


def test_csv_on_the_standard_input_is_refused_with_what_is_read_there(
    tmp_path: Path, run: Any
) -> None:
    result = run("index", "build", "-", "--index", tmp_path / "i", input="id,text\n1,t\n")

    assert "(the standard input is read as JSON lines)" in result.stderr


def test_a_check_counts_the_tokens_of_the_prompt_and_of_a_folder_that_needs_a_pooling(
    tmp_path: Path, tiny_checkpoint: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(tiny_checkpoint, plain)
    for name in ("modules.json", "manifest.json", "config_sentence_transformers.json"):
        (plain / name).unlink(missing_ok=True)
    monkeypatch.setenv("CLEAR_ENCODER", str(plain))
    monkeypatch.setenv("CLEAR_POOLING", "mean")
    (tmp_path / "a.csv").write_text("id,text\n1,Tea grows in Kenya.\n")

    bare, prompted = (
        json.loads(run("index", "check", tmp_path / "a.csv", "--json", *prompt).stdout)
        for prompt in (["--passage-prompt", '""'], ["--passage-prompt", "Kenya Kenya "])
    )

    assert prompted["tokens"]["longest"] > bare["tokens"]["longest"]


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Three passages, two of which are equal but for case and spaces."""
    path = tmp_path / "doubled.jsonl"
    path.write_text(
        '{"id": "b", "text": "Tea grows.", "year": 1}\n{"id": "c", "text": "Coffee."}\n'
        '{"id": "a", "text": "tea  GROWS."}\n'
    )
    return path


def test_duplicates_are_named_by_a_check_and_by_a_build(
    tmp_path: Path, doubled: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # for the path in a cell
    build = ["index", "build", doubled, "--index", tmp_path / "i"]

    checked, told = run("index", "check", doubled, "--json"), run("index", "check", doubled)
    built, folded = run(*build), run(*build, "--deduplicate")
    updated = run("index", "update", doubled, "--index", tmp_path / "i", "--json")

    [found] = json.loads(checked.stdout)["equal_texts"]
    assert found == {"id": "a", "origin": f"{doubled}:3"}
    assert f"a ({doubled}:3)" in told.stdout
    line = "1 document repeats the text of another one"
    assert f"{line} (--deduplicate folds them in answers):" in built.stderr
    assert f"  b ({doubled}:1) repeats a ({doubled}:3)" in built.stderr
    assert f"{line} (answers fold them):" in folded.stderr
    assert json.loads(updated.stdout)["duplicates"]["count"] == 1


def test_a_declared_field_that_no_passage_has_is_named(
    tmp_path: Path, doubled: Path, run: Any
) -> None:
    fields = ["--field", "yaer:number", "--field", "year:number"]

    checked = run("index", "check", doubled, *fields, "--json")
    built = run("index", "build", doubled, "--index", tmp_path / "i", *fields)

    assert json.loads(checked.stdout)["empty_fields"] == ["yaer"]
    assert "no passage has the declared field yaer: correct its name in --field" in built.stderr


def test_a_build_embeds_chunks_late_if_it_is_asked_to(tmp_path: Path, run: Any) -> None:
    text = "Tea grows in Kenya. " * 40
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "text": text}))
    build = ["index", "build", tmp_path / "a.jsonl", "--index", tmp_path / "i", "--json"]

    refused = run(*build, "--late-chunking", "--no-chunk")
    late = json.loads(run(*build, "--late-chunking", "--chunk-tokens", "24").stdout)
    verify = ["index", "verify", "--index", tmp_path / "i"]
    verified, told = json.loads(run(*verify, "--json").stdout), run(*verify).stdout
    alone = json.loads(run(*build, "--chunk-tokens", "24").stdout)

    assert "--late-chunking (CLEAR_LATE_CHUNKING) contradict each other" in refused.stderr
    assert late["passages"] == alone["passages"] == verified["passages"] > 1
    assert (late["documents"], verified["documents"]) == (1, 1)
    assert told.endswith(f"is whole: {late['passages']} passages of 1 document\n")
    manifest = tmp_path / "i" / "generations" / late["generation"] / "manifest.json"
    assert json.loads(manifest.read_text())["chunking"]["window"] == 64
