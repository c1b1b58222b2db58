"""README, manual and contributing guide are small, linked, and true to the code."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docs.generate import DOCS, PARTS, ROOT, with_parts
from service.cli.main import app as service_app
from service.problem import problem_type
from service.problems import TABLE
from trainer.cli.main import app as trainer_app
from trainer.config import RunConfig
from trainer.datasets.registry import KINDS
from trainer.toml import Section

README = ROOT / "README.md"
README_BYTES = 8192
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A path of this repository in a code span, such as `service/web/text.js`.
PATH = re.compile(r"`((?:service|trainer|tests|docs|docker|k8s|\.ci)/[\w./-]+)`")


def code_blocks(page: Path) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE))


def named_commands() -> set[str]:
    """Collect `clear-service ...` and `clear-trainer ...` from code spans and from shell blocks."""
    found = set()
    for page in PAGES:
        found |= set(re.findall(r"`(clear-(?:service|trainer) [a-z][a-z ]*)", page.read_text()))
        found |= set(re.findall(r"\b(clear-(?:service|trainer) [a-z ]+)(?= |$)", code_blocks(page)))
    return {" ".join(words.split()) for words in found}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Markdown's `toc` makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PARTS)
def test_generated_parts_are_those_of_the_code(page: str) -> None:
    assert with_parts(page) == (DOCS / page).read_text(), "run: python -m docs.generate"


def test_the_readme_is_small_and_begins_with_the_two_commands() -> None:
    blocks = code_blocks(README).splitlines()

    assert len(README.read_bytes()) <= README_BYTES
    assert [line.split("#")[0].strip() for line in blocks[:2]] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page

            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_named_path_exists(page: Path) -> None:
    missing = [name for name in PATH.findall(page.read_text()) if not (ROOT / name).exists()]

    assert missing == []


@pytest.mark.parametrize("command", sorted(named_commands()))
def test_a_named_command_exists(command: str) -> None:
    """What follows a command may be an argument: its first word then is none of a sub-command."""
    program, *words = command.split()
    app = service_app if program == "clear-service" else trainer_app
    commands = 2 if words[0] in ("index", "key") else 1

    result = CliRunner().invoke(app, [*words[:commands], "--help"])

    assert result.exit_code == 0, result.output


def test_named_make_targets_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    targets = set(re.findall(r"`make ([a-z]+)(?: [A-Z]+=\S+)*`", text))
    for page in PAGES:
        targets |= set(re.findall(r"^make ([a-z]+)", code_blocks(page), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()

    assert {"demo", "test"} <= targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_named_modules_of_tests_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    modules = set(re.findall(r"python -m ((?:tests|docs)[\w.]+\w)", text))

    assert "tests.bench.peers" in modules
    assert [each for each in modules if not (ROOT / f"{each.replace('.', '/')}.py").is_file()] == []


def names_of(module: Path) -> set[str]:
    """Return a module's classes and functions, and `Class.method`."""
    found = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{below.name}" for below in node.body if hasattr(below, "name")}
    return found


def test_the_architecture_page_names_what_exists() -> None:
    """A module in a code span, then names that it defines: `service/app.py` `create_app`."""
    page = (DOCS / "architecture.md").read_text()
    pairs = [
        (module, name)
        for module, names in re.findall(r"`([\w/]+/[\w/]+\.py)`((?:,? `[\w.]+`)+)", page)
        for name in re.findall(r"`([\w.]+)`", names)
        if not name.endswith(".py")
    ]

    assert len(pairs) > 80
    assert [pair for pair in pairs if pair[1] not in names_of(ROOT / pair[0])] == []


def test_the_example_of_an_error_is_one_of_the_code() -> None:
    [example] = re.findall(r"^```json\n(.*?)^```$", (DOCS / "errors.md").read_text(), re.S | re.M)
    problem = json.loads(example)
    kinds = {problem_type(kind): (kind.title, kind.status) for kind in TABLE}

    assert kinds.get(problem["type"]) == (problem["title"], problem["status"])


def config_fields() -> Iterator[tuple[str, str]]:
    """Yield each field of a training configuration with its default."""
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for below, inner in section.model_fields.items():
                default = "required" if inner.is_required() else f"`{inner.default}`"
                yield f"{name}.{below}", default
        else:
            yield name, f"`{field.default}`"


def test_the_training_page_lists_every_field_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", (DOCS / "training.md").read_text(), re.M)

    assert dict(config_fields()) == {name: default for name, default in rows if name in FIELDS}


FIELDS = dict(config_fields())


@cache
def source_texts() -> list[str]:
    """Collect every text of the programs, with `…` for what is filled in."""
    texts = (ROOT / "Makefile").read_text().splitlines()
    for program in ("service", "trainer"):
        for path in sorted((ROOT / program).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                texts += [text] if (text := text_of(node)) else []
    return [text.replace("`", "") for text in texts]


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or "…" for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def quoted_messages() -> list[str]:
    """Collect the code spans of the first cell of each row of the troubleshooting page."""
    rows = (DOCS / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (`.*?`) \| ", rows, re.MULTILINE)
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("message", quoted_messages())
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    kernel = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)

    assert any(kernel.search(text) for text in source_texts())


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"parallel"}))
def test_the_manual_names_the_public_source_and_license_of_each_data_set(kind: str) -> None:
    source = (ROOT / f"trainer/datasets/formats/{kind}.py").read_text()
    [url] = re.findall(r'url="(https://[^"]+)"', source)
    [licence] = re.findall(r'licence="([^"]+)"', source)
    [row] = [
        line
        for line in (DOCS / "training.md").read_text().splitlines()
        if line.startswith(f"| `{kind}` |")
    ]

    assert f"<{url}>" in row
    assert licence.removesuffix("-1.0") in row
