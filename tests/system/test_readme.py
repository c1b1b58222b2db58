"""The README's tables are the code's; `python tests/system/test_readme.py` writes them anew."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app as service_app
from service.errors import TABLE
from service.settings.settings import Settings, variable
from service.telemetry.metrics import Metrics
from trainer.cli.main import app as trainer_app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FOLDERS = ("service", "trainer")
OTHER_FOLDERS = {
    "docker/": "Images and their locks, compose, Prometheus, alerts, Grafana",
    "k8s/": "base, overlays, monitoring, air-gapped; jobs for index and training",
    "tests/": "Mirrors the source",
}


def settings_table() -> str:
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "`~/.cache/clear-search`" if name == "cache" else f"`{field.default}`"
        default = "" if field.default is None else default
        rows.append(f"| `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows)


def metrics_table() -> str:
    rows = ["| metric | labels | what |", "|---|---|---|"]
    for metric in Metrics().own():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {labels} | {metric.description} |")
    return "\n".join(rows)


def errors_table() -> str:
    rows = ["| status | title | when | `clear_refusals_total{reason}` |", "|---|---|---|---|"]
    for kind in TABLE:
        rows.append(f"| {kind.status} | {kind.title} | {kind.meaning} | `{kind.reason}` |")
    return "\n".join(rows)


def file_tree() -> str:
    lines = ["```"]
    for folder in FOLDERS:
        lines.append(f"{folder}/")
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder)
            if relative.name != "__init__.py":
                docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
                summary = docstring.splitlines()[0].rstrip(".")
                lines.append(f"  {relative.with_suffix('').as_posix():<28} {summary}")
        if folder == "service":
            lines.append(f"  {'web/':<28} The search page: plain HTML, CSS and JavaScript")
    lines += [f"{name:<31}{what}" for name, what in OTHER_FOLDERS.items()]
    return "\n".join([*lines, "```"])


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "metrics": metrics_table,
    "tree": file_tree,
}


def with_tables(readme: str) -> str:
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        body = table()
        readme, count = re.subn(
            pattern, lambda match, body=body: match[1] + body + match[2], readme, flags=re.DOTALL
        )
        assert count == 1, f"README.md needs one <!-- {name} --> ... <!-- end -->"
    return readme


def test_tables_are_those_of_the_code() -> None:
    readme = README.read_text()

    assert with_tables(readme) == readme, "run: python tests/system/test_readme.py"


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"`(clear-(?:service|trainer) [a-z ]+)", README.read_text())))
)
def test_named_command_exists(command: str) -> None:
    program, *words = command.split()
    app = service_app if program == "clear-service" else trainer_app

    result = CliRunner().invoke(app, [*words, "--help"])

    assert result.exit_code == 0, result.output


def test_named_make_targets_exist() -> None:
    targets = re.findall(r"`make ([a-z]+)`", README.read_text())
    makefile = (ROOT / "Makefile").read_text()

    assert targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
