import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.main import get_command
from typer.testing import CliRunner

from service.cli.main import app
from service.listeners import bind
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.settings.settings import Settings
from tests.conftest import PASSAGES, flip_bit, make_checkpoint, run_script, write_passages
from tests.support.progress import KeptProgress

HEAVY = {"torch", "transformers", "faiss", "numpy", "pyarrow", "fastapi"}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CLEAR_"):
            monkeypatch.delenv(name)
    # A graph takes seconds to make and would go to the user's own cache.
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> list[str]:
    """The flags that name the tiny encoder."""
    return ["--encoder", str(tiny_checkpoint)]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line_error(result: Any, *words: str) -> None:
    """Assert that a command failed with one line that contains all words."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 1
    assert [line.startswith("error: ") for line in lines] == [True], result.stderr
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0]


def ids(output: str) -> set[str]:
    return {hit["passage_id"] for hit in json.loads(output)["hits"]}


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    done = run_script("import sys, service.cli.main; sys.stdout.write(' '.join(sys.modules))")

    assert done.returncode == 0
    assert HEAVY.isdisjoint(done.stdout.split())


def test_what_is_built_is_whole_and_is_searched(
    tmp_path: Path, passages_file: Path, tiny: list[str]
) -> None:
    index = tmp_path / "index"

    built = run("index", "build", passages_file, "--index", index, *tiny)
    verified = run("index", "verify", "--index", index)
    found = run("search", "tea", "--index", index, "--top-k", 12, "--json", *tiny)

    assert [built.exit_code, verified.exit_code, found.exit_code] == [0, 0, 0]
    assert "12 passages" in built.stderr
    assert built.stdout == ""
    assert "is whole: 12 passages" in verified.stdout
    assert ids(found.stdout) == {passage["id"] for passage in PASSAGES}


def test_a_build_names_the_prompts_in_force_and_records_those_of_its_flags(
    tmp_path: Path, passages_file: Path, tiny: list[str]
) -> None:
    index = tmp_path / "index"
    own = run("index", "build", passages_file, "--index", tmp_path / "own", *tiny)

    flags = ["--query-prompt", "q: ", "--passage-prompt", '"p:\\n"']
    built = run("index", "build", passages_file, "--index", index, *tiny, *flags)
    found = run("search", "tea", "--index", index, *tiny)

    assert 'query prompt "query: " (config_sentence_transformers.json)' in own.stderr
    assert 'query prompt "q: " (CLEAR_QUERY_PROMPT)' in built.stderr
    assert 'passage prompt "p:\\n" (CLEAR_PASSAGE_PROMPT)' in built.stderr
    [manifest] = index.glob("generations/*/manifest.json")
    assert json.loads(manifest.read_text())["encoder"]["prompts"] == {
        "query": "q: ",
        "passage": "p:\n",
    }
    assert_one_line_error(
        found, "set CLEAR_QUERY_PROMPT='\"q: \"' and CLEAR_PASSAGE_PROMPT='\"p:\\n\"', or build"
    )


def test_search_and_an_update_take_prompts_and_are_told_of_others(
    tmp_path: Path, passages_file: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ["--index", str(tmp_path / "index"), *tiny]
    run("index", "build", passages_file, *index, "--query-prompt", "q: ", "--passage-prompt", "p: ")

    same = run("search", "tea", *index, "--query-prompt", "q: ", "--passage-prompt", "p: ")
    other = run("search", "tea", *index, "--passage-prompt", "p: ")
    monkeypatch.setattr("service.components.load_encoder_of", lambda settings: 1 / 0)
    update = run("index", "update", passages_file, *index)

    assert (same.exit_code, other.exit_code) == (0, 0)
    assert "warning" not in same.stderr
    warnings = [line for line in other.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "set CLEAR_QUERY_PROMPT='\"q: \"' to search" in warnings[0]
    assert_one_line_error(update, "CLEAR_PASSAGE_PROMPT='\"p: \"', or build again")


def test_an_unknown_encoder_without_prompts_gets_one_line_of_warning(
    tmp_path: Path, passages_file: Path
) -> None:
    encoder = make_checkpoint(tmp_path / "unknown", with_manifest=False)
    (encoder / "config_sentence_transformers.json").unlink()

    built = run(
        "index", "build", passages_file, "--index", tmp_path / "index", "--encoder", encoder
    )

    assert built.exit_code == 0
    lines = [line for line in built.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1
    assert "no known family" in lines[0]


def test_an_update_says_how_many_passages_it_embedded_and_reused(
    tmp_path: Path, tiny: list[str]
) -> None:
    index = ["--index", tmp_path / "index", *tiny]

    built = run("index", "build", write_passages(tmp_path / "3.jsonl", PASSAGES[:3]), *index)
    updated = run("index", "update", write_passages(tmp_path / "5.jsonl", PASSAGES[:5]), *index)

    assert built.stderr.endswith(": 3 passages, 3 embedded, 0 reused\n")
    assert updated.stderr.endswith(": 5 passages, 2 embedded, 3 reused\n")


def test_build_and_verify_agree_in_json(
    tmp_path: Path, passages_file: Path, tiny: list[str]
) -> None:
    index = tmp_path / "index"

    built = json.loads(
        run("index", "build", passages_file, "--index", index, "--json", *tiny).stdout
    )
    verified = json.loads(run("index", "verify", "--index", index, "--json").stdout)

    assert built == {
        "generation": verified["generation"],
        "passages": 12,
        "truncated": 0,
        "skipped": 0,
        "reused": 0,
        "encoded": 12,
        "unembedded": 0,
    }
    assert verified["passages"] == 12
    assert verified["factory"] == "Flat"


def test_an_invalid_passage_stops_the_build_with_its_line(tmp_path: Path, tiny: list[str]) -> None:
    passages = write_passages(tmp_path / "p.jsonl", [PASSAGES[0], {"id": "x", "text": " "}])

    result = run("index", "build", passages, "--index", tmp_path / "index", *tiny)

    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {passages}:2 has an empty `text` (no character is visible): "
        "remove the line or fill it, or give --skip-invalid"
    ]
    assert not (tmp_path / "index" / "CURRENT").exists()


def test_skip_invalid_counts_and_names_what_it_skips(tmp_path: Path, tiny: list[str]) -> None:
    records = [PASSAGES[0], {"id": "x"}, PASSAGES[0], PASSAGES[1]]
    passages = write_passages(tmp_path / "[p].jsonl", records)

    result = run(
        "index", "build", passages, "--index", tmp_path / "i", "--skip-invalid", "--json", *tiny
    )

    facts = json.loads(result.stdout)
    assert (facts["passages"], facts["skipped"]) == (2, 2)
    assert f"skipped: {passages}:2" in result.stderr
    assert f"skipped: {passages}:3 repeats the id of {passages}:1" in result.stderr


def test_a_beir_folder_is_built(tmp_path: Path, tiny: list[str]) -> None:
    folder = tmp_path / "beir"
    folder.mkdir()
    records = [{"_id": "1", "title": "Kenya", "text": "Tea.", "metadata": {"url": "u"}}]
    write_passages(folder / "corpus.jsonl", records)

    built = run("index", "build", folder, "--index", tmp_path / "index", *tiny)
    found = run("search", "tea", "--index", tmp_path / "index", "--json", *tiny)

    assert built.exit_code == 0
    assert json.loads(found.stdout)["hits"][0]["metadata"] == {"url": "u"}


def test_texts_over_the_limit_are_counted_and_named_where_they_are_not_split(
    tmp_path: Path, tiny: list[str]
) -> None:
    passages = write_passages(tmp_path / "p.jsonl", [{"id": "1", "text": "long " * 300}])

    result = run("index", "build", passages, "--index", tmp_path / "index", *tiny, "--no-chunk")

    assert "1 passage was truncated at the encoder's token limit: 1\n" in result.stderr


def test_a_long_document_is_split(tmp_path: Path, tiny: list[str]) -> None:
    records = [{"id": "1", "text": "long " * 300}, {"id": "2", "text": "tea"}]
    passages = write_passages(tmp_path / "p.jsonl", records)
    options = ["--index", tmp_path / "index", *tiny, "--json", "--chunk-tokens", 32]

    report = json.loads(run("index", "build", passages, *options).stdout)

    assert report["documents"] == 2
    assert report["passages"] > 10
    assert report["truncated"] == 0


@pytest.mark.parametrize("option", ["--chunk-tokens", "--chunk-overlap"])
@pytest.mark.parametrize("verb", ["build", "update"])
def test_options_of_chunks_beside_none_are_refused(
    tiny_index: Path, passages_file: Path, tiny: list[str], verb: str, option: str
) -> None:
    arguments = [passages_file, "--index", tiny_index, *tiny, "--no-chunk", option, 8]
    assert_one_line_error(run("index", verb, *arguments), "--no-chunk", option, "leave one out")


@pytest.mark.parametrize(
    "name", ["manifest.json", "vectors.faiss", "passages.arrow", "identifiers.u64"]
)
def test_verify_finds_a_flipped_bit_and_names_the_file(index_copy: Path, name: str) -> None:
    flip_bit(next(index_copy.glob(f"generations/*/{name}")))

    assert_one_line_error(run("index", "verify", "--index", index_copy), name, "was altered")


def test_a_search_prints_titles_texts_and_scores(tiny_index: Path, tiny: list[str]) -> None:
    result = run("search", "Where is Nairobi?", "--index", tiny_index, "--top-k", 12, *tiny)

    assert result.exit_code == 0
    for expected in ("Kenya", "Nairobi is the capital of Kenya.", "science.1"):
        assert expected in result.stdout
    assert len(re.findall(r"^ *\d+ +\d\.\d{3} ", result.stdout, re.MULTILINE)) == 12


def test_a_search_reports_what_it_waits_for(
    tiny_index: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = KeptProgress()
    monkeypatch.setattr("service.cli.search.show_progress", progress.show)

    run("search", "tea", "--index", tiny_index, *tiny)

    assert progress.stages == ["load", "open", "search"]


def test_top_k_bounds_the_hits_of_a_search(tiny_index: Path, tiny: list[str]) -> None:
    result = run("search", "tea", "--index", tiny_index, "--top-k", 2, "--json", *tiny)

    assert [hit["rank"] for hit in json.loads(result.stdout)["hits"]] == [1, 2]


def test_a_query_that_is_no_unicode_is_refused(tiny_index: Path, tiny: list[str]) -> None:
    result = run("search", os.fsdecode(b"\xff"), "--index", tiny_index, *tiny)

    assert_one_line_error(result, "query: ", "unicode")


@pytest.mark.parametrize("query", ["", " \u200b", "\x07", "a\x00b", "a" * 40_000])
def test_a_query_that_the_api_refuses_is_refused_in_its_words(
    tiny_index: Path, tiny: list[str], client: TestClient, query: str
) -> None:
    problem = client.post("/search", json={"query": query}).json()

    result = run("search", query, "--index", tiny_index, *tiny)

    assert problem["status"] == 422
    assert result.stderr == f"error: {problem['detail']}\n"
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("command", "content", "words"),
    [
        (["index", "build"], None, ["passages.jsonl does not exist"]),
        (["index", "build"], "", ["there are no passages to index in ", "passages.jsonl: "]),
        (
            ["index", "build"],
            '{"id": "1", "text": "x"}\n{"id": 2\n',
            ["passages.jsonl:2", "at column 9: correct it, or give --skip-invalid"],
        ),
        (
            ["index", "update"],
            '{"id": "1"}\n',
            ["passages.jsonl:1", "or give --skip-invalid"],
        ),
        (["search", "tea", "--filter", "{"], None, ["--filter is not valid JSON"]),
        (["search", "tea", "--filter", "[]"], None, ["filter: must be an object"]),
        (["search", ""], None, ["query: "]),
    ],
)
def test_a_bad_file_or_argument_is_reported_before_the_encoder_is_loaded(
    tmp_path: Path,
    index_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    content: str | None,
    words: list[str],
) -> None:
    def fail(settings: Settings) -> None:
        raise AssertionError("the encoder is loaded")

    monkeypatch.setattr("service.components.load_encoder_of", fail)
    passages = tmp_path / "passages.jsonl"
    if content is not None:
        passages.write_text(content)

    result = run(*command, *([passages] if command[0] == "index" else []), "--index", index_copy)

    assert_one_line_error(result, *words)


@pytest.mark.parametrize("command", [["search", "tea"], ["index", "update", "p.jsonl"]])
def test_a_missing_index_is_reported_before_the_encoder_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def fail(settings: Settings) -> None:
        raise AssertionError("the encoder is loaded")

    monkeypatch.setattr("service.components.load_encoder_of", fail)

    assert_one_line_error(run(*command, "--index", tmp_path / "i"), f"no index in {tmp_path / 'i'}")


@pytest.mark.parametrize("named", [True, False])
def test_serve_reports_a_missing_index_before_it_loads_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("the encoder is loaded")

    monkeypatch.setattr("service.lifespan.load_encoder_of", fail)

    result = run("serve", "--port", "0", *(["--index", tmp_path / "i"] if named else []))

    assert_one_line_error(result, f"no index in {tmp_path / 'i'}" if named else "no index is named")


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"clear-service {version('clear-search')}\n")


def takers_of_json(group: Any, path: str = "") -> set[str]:
    """Return the commands with `--json`; of a group whose commands all have it, the group."""
    found = set()
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            below = takers_of_json(command, f"{name} ")
            found |= {name} if len(below) == len(command.commands) else below
        elif any("--json" in each.opts for each in command.params):
            found.add(path + name)
    return found


def test_the_help_names_the_commands_that_take_json() -> None:
    epilog = get_command(app).epilog or ""

    assert takers_of_json(get_command(app)) | {"--json"} == set(re.findall(r"`([^`]+)`", epilog))


def test_the_list_of_generations_shows_whole_names_in_a_narrow_terminal(
    index_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    (name,) = [each.name for each in (index_copy / "generations").iterdir()]

    assert name in run("index", "list", "--index", index_copy).stdout


def test_a_rollback_takes_the_first_digits_of_a_name(index_copy: Path) -> None:
    (name,) = [each.name for each in (index_copy / "generations").iterdir()]

    result = run("index", "rollback", "--to", name[:4], "--index", index_copy)

    assert result.stdout == f"generation {name} is live\n"


@pytest.mark.parametrize(
    "command", [["serve", "--port", "0"], ["search", "tea"], ["index", "verify"]]
)
def test_a_missing_index_is_one_line_that_names_it(tmp_path: Path, command: list[str]) -> None:
    """Rich read brackets as markup: `a[b]` was printed as `a`, `[/b]` ended in a traceback."""
    index = tmp_path / "no[/such]index[b]"
    encoder = ["--encoder", make_checkpoint(tmp_path / "tiny")] if command[0] != "index" else []

    assert_one_line_error(run(*command, "--index", index, *encoder), f"no index in {index}")


@pytest.mark.parametrize(
    "command", [["serve", "--port", "0"], ["search", "tea"], ["index", "verify"]]
)
def test_no_index_named_is_one_line_that_names_the_variable(command: list[str]) -> None:
    assert_one_line_error(run(*command), "CLEAR_INDEX", "--index")


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["search", "tea"]])
def test_an_index_of_another_encoder_is_one_line_with_both_fingerprints(
    tmp_path: Path, tiny_index: Path, tiny_encoder: Encoder, command: list[str]
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    encoders = [tiny_encoder, load_encoder(str(other), device="cpu")]

    result = run(*command, "--index", tiny_index, "--encoder", other)

    assert_one_line_error(result, *(encoder.fingerprint[:16] for encoder in encoders))


def test_a_taken_port_is_one_line_that_names_it(tiny_index: Path, tiny: list[str]) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        result = run("serve", "--index", tiny_index, "--port", port, *tiny)

    assert_one_line_error(result, f"127.0.0.1:{port}", "--port")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CLEAR_PROT": "1"}, ["CLEAR_PROT", "CLEAR_PORT"]),
        ({"CLEAR_PORT": "eighty"}, ["CLEAR_PORT"]),
        ({"CLEAR_TIMEOUT_MS": "70000"}, ["CLEAR_TIMEOUT_MS", "CLEAR_MAX_TIMEOUT_MS"]),
        ({"CLEAR_ENCODER": "/no/such/folder"}, ["/no/such/folder"]),
        ({"CLEAR_DEVICE": "tpu"}, ["tpu", "cuda"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    tiny_index: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert_one_line_error(run("serve", "--index", tiny_index), *words)


def test_an_error_of_a_real_process_is_one_line_without_a_traceback(tiny_index: Path) -> None:
    done = run_script(
        "from service.__main__ import main; main()",
        "serve",
        "--index",
        tiny_index,
        "--port",
        "99999",
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: CLEAR_PORT: Input should be less than or equal to 65535"
    ]


def start(arguments: Sequence[object]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_signal_during_a_build_writes_no_index_and_leaves_no_folder(
    tmp_path: Path, tiny: list[str]
) -> None:
    passages = write_passages(
        tmp_path / "p.jsonl", [{"id": str(number), "text": "tea"} for number in range(30_000)]
    )
    index = tmp_path / "index"

    build = start(["index", "build", passages, "--index", index, *tiny])
    while not any(
        path.stat().st_size for path in index.glob("generations/.building-*/vectors.faiss")
    ):
        assert build.poll() is None
        time.sleep(0.01)
    build.send_signal(signal.SIGINT)
    _, stderr = build.communicate(timeout=60)

    assert build.returncode == 130
    assert "error: interrupted: no index was written, the encoded shards are kept" in stderr
    assert "Traceback" not in stderr
    assert list((index / "generations").iterdir()) == []
    assert not (index / "CURRENT").exists()


def test_a_passages_file_whose_name_is_not_utf_8_is_built(tmp_path: Path, tiny: list[str]) -> None:
    file = write_passages(tmp_path / os.fsdecode(b"\xff.jsonl"), [PASSAGES[0], PASSAGES[0]])
    index = ["--index", tmp_path / "index", *tiny]

    refused = run("index", "build", file, *index)
    built = run("index", "build", file, *index, "--skip-invalid")

    assert refused.exit_code == 1
    assert "\\xff.jsonl:1: give one of" in refused.stderr.replace("\\udcff", "\\xff")
    assert (built.exit_code, "1 passage," in built.stderr) == (0, True)


SEARCH_TWICE = """
import sys
from service.__main__ import main
arguments = sys.argv
for encoding in ("ascii", "latin-1"):
    sys.stdout.reconfigure(encoding=encoding, errors="strict")
    for flags in ([], ["--json"]):
        sys.argv = [*arguments, *flags]
        try:
            main()
        except SystemExit as exited:
            assert not exited.code
        sys.stdout.write("\\n---\\n")
"""


@pytest.mark.slow
def test_a_locale_that_lacks_letters_prints_escapes(tmp_path: Path, tiny: list[str]) -> None:
    file = write_passages(tmp_path / "p.jsonl", [{"id": "é", "title": "水", "text": "water é"}])
    assert run("index", "build", file, "--index", tmp_path / "i", *tiny).exit_code == 0
    done = subprocess.run(
        [sys.executable, "-c", SEARCH_TWICE, "search", "tea", "--index", tmp_path / "i", *tiny],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
    )

    assert done.returncode == 0
    tables_and_hits = done.stdout.split(b"\n---\n")
    for table, hits in zip(tables_and_hits[:4:2], tables_and_hits[1:4:2], strict=True):
        assert b"\\u6c34" in table
        assert json.loads(hits)["hits"][0]["passage_id"] == "é"


def test_variables_of_kubernetes_are_one_debug_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEAR_LOG_LEVEL", "debug")
    monkeypatch.setenv("CLEAR_LOG_FORMAT", "json")
    monkeypatch.setenv("CLEAR_SEARCH_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("CLEAR_OPERATIONS_PORT", "tcp://10.0.0.1:80")

    foreign = ["--host", "192.0.2.1"]  # it ends there, before the imports of a server
    done = run_script("from service.__main__ import main; main()", "serve", *foreign)

    assert "error: cannot listen on 192.0.2.1:8000" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "Kubernetes" in line]
    assert [json.loads(line)["level"] for line in lines] == ["debug"]
    assert "CLEAR_OPERATIONS_PORT, CLEAR_SEARCH_SERVICE_HOST" in lines[0]
