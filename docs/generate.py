"""Write the generated parts of the manual: `python -m docs.generate` from the repository's root.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the text around it is written
by hand. `tests/system/test_manual.py` holds every part to the code.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from service.api.search_fields import NAMES
from service.cli.main import app as service_app
from service.errors import CONNECTIONS_REFUSED, REFUSALS
from service.problem import problem_type
from service.problems import TABLE
from service.retrieval.checkpoint.adapter import DESCRIPTION, AdapterDescription
from service.retrieval.checkpoint.locator import BUNDLED_ADAPTER
from service.retrieval.checkpoint.prompts.families import FAMILIES
from service.retrieval.checkpoint.prompts.prompts import quoted_prompt
from service.retrieval.language_quality import THRESHOLDS
from service.retrieval.relevance.calibration import PACKAGED, read_calibration
from service.settings.settings import Settings, variable
from service.telemetry.metrics import Metrics
from tests.support.layout_catalog import LAYOUTS
from trainer.calibration.report import calibration_table
from trainer.cli.main import app as trainer_app

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
OPENAPI = ROOT / "service" / "api" / "openapi.json"
PROGRAMS = ("service", "trainer")
OTHER_FOLDERS = {
    "docs": "The manual, and the program that generates parts of it.",
    "docker": "Images and their locks, compose, Prometheus, alerts, Grafana.",
    "k8s": "Base, overlays, monitoring, air-gapped component, jobs for index and training.",
    "tests": "Unit tests that mirror the source; system, attacks, integrations, bench, support.",
}


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; a `|` in a cell is escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )


def settings() -> str:
    """Return one table of the settings for each topic."""
    sections = []
    for topic in reversed(Settings.__mro__):
        names = [name for name in vars(topic).get("__annotations__", {}) if name in FIELDS]
        if names:
            rows = [_setting(name) for name in names]
            header = ("variable", "default", "values", "meaning")
            about = (topic.__doc__ or "").partition("\n")[0]
            sections.append(f"### {_topic(topic)}\n\n{about}\n\n{table(header, rows)}")
    return "\n\n".join(sections)


FIELDS = Settings.model_fields


def _topic(topic: type) -> str:
    """Return a settings class's heading: its name in words."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", topic.__name__.removesuffix("Settings"))
    return words.capitalize() if words else "All"


def _setting(name: str) -> tuple[str, ...]:
    field = FIELDS[name]
    default = "~/.cache/clear-search" if name == "cache" else field.default
    default = str(default).lower() if isinstance(default, bool) else default
    shown = "" if default is None or default == "" else f"`{default}`"
    return f"`{variable(name)}`", shown, _values(field), field.description or ""


def _values(field: Any) -> str:
    """Return a field's choices, or its kind and its bounds."""
    kinds = [kind for kind in _union(field.annotation) if kind is not type(None)]
    if choices := [value for kind in kinds for value in _choices(kind)]:
        return ", ".join(f"`{choice}`" for choice in choices)
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "`true`, `false`"}
    names |= {"Path": "path", "SecretStr": "secret"}
    bounds = []
    for constraint in field.metadata:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if (bound := getattr(constraint, attribute, None)) is not None:
                bounds.append(f"{sign} {bound:g}")
        if (length := getattr(constraint, "min_length", None)) is not None:
            bounds.append(f"{length} characters or more")
    return ", ".join([names[kinds[0].__name__], *bounds])


def _union(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if type(None) in get_args(annotation) else (annotation,)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def metrics() -> str:
    """Return the table of the service's own metrics."""
    rows = [
        (f"`{each.name}`", ", ".join(f"`{label}`" for label in each.labels), each.description)
        for each in Metrics().own()
    ]
    return table(("metric", "labels", "meaning"), rows)


def families() -> str:
    """Return the table of the families of encoders whose prompts are known."""
    rows = [
        (family.name, _prompt(family.query), _prompt(family.passage), family.source)
        for family in FAMILIES
    ]
    return table(("family", "query prompt", "passage prompt", "source"), rows)


def _prompt(text: str) -> str:
    return f"`{quoted_prompt(text)}`" if text else "none"


def errors() -> str:
    """Return the table of the errors that the service answers."""
    counters = (REFUSALS, CONNECTIONS_REFUSED)
    rows = [
        (
            *(str(e.status), e.title, f"`{problem_type(e)}`", e.meaning),
            *(f"`{e.reason}`" if counter in e.metrics else "" for counter in counters),
        )
        for e in TABLE
    ]
    heads = [f"`{counter}{{reason}}`" for counter in counters]
    return table(("status", "title", "type", "when", *heads), rows)


def commands(name: str, app: typer.Typer) -> str:
    """Return the help of a program's commands."""
    return "\n\n".join(_command(path, command) for path, command in _walk(app, name))


def _walk(app: typer.Typer, name: str) -> Iterator[tuple[str, Any]]:
    waiting = [(name, typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop(0)
        below = getattr(command, "commands", {})
        waiting[:0] = [(f"{path} {word}", each) for word, each in below.items()]
        if not below:
            yield path, command


def _command(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = [path]
    for each in arguments:
        word = (each.name or "").upper() + ("..." if each.nargs == -1 else "")
        usage.append(word if each.required else f"[{word}]")
    usage += [f"{_flag(each)} {_word(each)}" for each in options if each.required]
    usage += ["[OPTIONS]"] if any(not each.required for each in options) else []
    rows = [_parameter(each) for each in [*arguments, *options]]
    paragraphs = (command.help or "").split("\n\n")
    help_text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    parts = [f"### {path}", help_text, f"```text\n{' '.join(usage)}\n```"]
    if rows:
        parts.append(table(("parameter", "default", "variable", "meaning"), rows))
    return "\n\n".join(parts)


def _parameter(parameter: Any) -> tuple[str, ...]:
    if parameter.param_type_name == "argument":
        name = f"`{(parameter.name or '').upper()}`"
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        word = "" if parameter.is_flag else f" {_word(parameter)}"
        name = " ".join(f"`{each}{word}`" for each in names)
    default = parameter.default
    is_shown = not (default is None or callable(default) or isinstance(default, bool))
    shown = f"`{default}`" if is_shown and default not in ("", [], ()) else ""
    shown = "required" if parameter.required else shown
    variable_name = parameter.envvar
    if not isinstance(variable_name, str):
        variable_name = (variable_name or [""])[0]
    help_text = getattr(parameter, "help", None) or ""
    if match := re.search(r" \((CLEAR_[A-Z_]+)\)$", help_text):  # a setting stands behind it
        help_text, variable_name = help_text[: match.start()], match[1]
    is_repeated = getattr(parameter, "multiple", False) and "repeat" not in help_text
    help_text += " (may be repeated)" if is_repeated else ""
    return name, shown, f"`{variable_name}`" if variable_name else "", help_text


def _flag(option: Any) -> str:
    return str(max(option.opts, key=len))


def _word(option: Any) -> str:
    """Return the word that stands for an option's value."""
    return str(option.metavar or _flag(option).removeprefix("--").replace("-", "_").upper())


def api() -> str:
    """Return the reference of the HTTP API, from the OpenAPI document."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    sections = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            sections.append(_operation(method.upper(), path, operation))
    sections.append("### Bodies")
    for name, schema in schemas.items():
        sections.append(_schema(name, schema))
    return "\n\n".join(sections)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    responses = operation["responses"]
    errors = sorted(status for status in responses if not status.startswith("2"))
    lines = [f"### {method} {path}", operation.get("description", "")]
    facts = []
    if body:
        facts.append(f"- Request body: {_media(body)}")
    for status in sorted(responses.keys() - set(errors)):
        if answer := responses[status].get("content", {}):
            facts.append(f"- Answer {status}: {_media(answer)}")
    facts.append(f"- Errors: {', '.join(errors)}")
    facts.append(f"- Key: {'needed where keys are set' if 'security' in operation else 'none'}")
    return "\n\n".join([*lines, "\n".join(facts)])


def _media(content: dict[str, Any]) -> str:
    return ", ".join(
        f"`{media}` {_kind(each['schema'])}".rstrip() if each.get("schema") else f"`{media}`"
        for media, each in content.items()
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = []
    for field, each in schema["properties"].items():
        default = each.get("default", None)
        shown = "required" if field in required else ""
        shown = f"`{json.dumps(default)}`" if default is not None else shown
        kind = _kind(each)
        if field in required and {"type": "null"} in each.get("anyOf", ()):
            kind += " or null"
        rows.append((f"`{field}`", kind, shown, each.get("description", "")))
    header = ("field", "type", "default", "meaning")
    return f"#### {name}\n\n{schema.get('description', '')}\n\n{table(header, rows)}"


def _kind(schema: dict[str, Any]) -> str:
    """Return a schema's type and bounds in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = _bounds(schema)
    bounds = f" ({bounds})" if bounds else ""
    if kind == "array":
        return f"list{bounds} of {_kind(schema['items'])}"
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict) and "anyOf" not in extra:
        kind = f"object of {_kind(extra)}"
    return kind + bounds


def _bounds(schema: dict[str, Any]) -> str:
    """Return a schema's bounds in words."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f"{low:g} to {high:g}" if high is not None else f"from {low:g}"
    if "maxLength" in schema:
        return f"up to {schema['maxLength']} characters"
    return f"up to {schema['maxItems']}" if "maxItems" in schema else ""


def tree() -> str:
    """Return the rooms (folders of the packages), each with the first line of its docstring."""
    lines = ["```text"]
    for program in PROGRAMS:
        for folder in _folders(ROOT / program):
            depth = len(folder.relative_to(ROOT).parts) - 1
            name = f"{'  ' * depth}{folder.name}/"
            summary = _summary(folder / "__init__.py").replace("`", "")
            lines.append(f"{name:<19} {summary}")
    lines += [f"{name + '/':<19} {summary}" for name, summary in OTHER_FOLDERS.items()]
    return "\n".join([*lines, "```"])


def modules() -> str:
    """Return a table of each room's modules."""
    sections = []
    for program in PROGRAMS:
        for folder in _folders(ROOT / program):
            rows = [
                (f"`{path.name}`", _summary(path))
                for path in sorted(folder.glob("*.py"))
                if path.name != "__init__.py"
            ]
            if rows:
                name = folder.relative_to(ROOT).as_posix()
                sections.append(f"### {name}\n\n{table(('module', 'content'), rows)}")
    return "\n\n".join(sections)


def _folders(package: Path) -> list[Path]:
    return sorted(path.parent for path in package.rglob("__init__.py"))


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def grades() -> str:
    """Return the table of the grades of languages, with their thresholds."""
    rows = [
        ("good", *(f"{good:g} or more" for good, _ in THRESHOLDS.values())),
        ("fair", *(f"{fair:g} or more" for _, fair in THRESHOLDS.values())),
        ("poor", *("less" for _ in THRESHOLDS)),
        ("unknown", *("not measured" for _ in THRESHOLDS)),
    ]
    return table(("grade", *(f"nDCG@10 of {kind}" for kind in THRESHOLDS)), rows)


def languages() -> str:
    """Return the table of the languages that are recorded beside the bundled adapter."""
    content = json.loads((BUNDLED_ADAPTER / DESCRIPTION).read_text(encoding="utf-8"))
    record = AdapterDescription.model_validate(content).languages
    if not record:
        return "The bundled encoder has no record: each language is `unknown`."
    names = json.loads(NAMES.read_text(encoding="utf-8"))
    rows = [
        (
            names.get(code, code),
            f"`{code}`",
            *(
                "" if value is None else f"{value:.3f}"
                for value in (each.questions, each.statements)
            ),
            str(each.n),
            each.grade,
        )
        for code, each in sorted(record.items(), key=lambda item: names.get(item[0], item[0]))
    ]
    return table(("language", "code", "questions", "statements", "queries", "grade"), rows)


def layouts() -> str:
    """Return a table of the layouts of encoders: on which engines, or refused in which words."""
    rows = [
        (each.name, "yes", "yes" if each.openvino else "no, torch", "")
        if not each.refusal
        else (each.name, "refused", "refused", f"`{each.refusal}`")
        for each in LAYOUTS
    ]
    return table(("layout", "torch", "OpenVINO", "refusal"), rows)


def calibration() -> str:
    """Return the measures of the default encoder's calibration, by corpus and language."""
    found = read_calibration(PACKAGED / "bundled.json").model_dump()
    return calibration_table(found["measured"])


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings},
    "encoders.md": {"families": families, "layouts": layouts},
    "languages.md": {"grades": grades, "languages": languages},
    "relevance.md": {"calibration": calibration},
    "metrics.md": {"metrics": metrics},
    "errors.md": {"errors": errors},
    "commands.md": {
        "clear-service": lambda: commands("clear-service", service_app),
        "clear-trainer": lambda: commands("clear-trainer", trainer_app),
    },
    "api.md": {"api": api},
    "architecture.md": {"tree": tree, "modules": modules},
}


def with_parts(page: str) -> str:
    """Return a page of the manual with its generated parts as the code has them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, part in PARTS[page].items():
        start, end = f"<!-- generated: {name} -->\n", "\n<!-- end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"docs/{page} needs {start.strip()} and <!-- end -->")
        text = f"{before}{start}\n{part()}\n{end}{after}"
    return text


def main() -> None:
    """Write all pages that have generated parts."""
    for page in PARTS:
        (DOCS / page).write_text(with_parts(page), encoding="utf-8")


if __name__ == "__main__":
    main()
