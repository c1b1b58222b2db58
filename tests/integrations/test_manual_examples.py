"""The manual's examples of integrations run unchanged against a running service."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.test_mteb import make_task

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "integrations.md", ROOT / "README.md")
LIBRARIES = {"haystack", "langchain_core", "langchain_openai", "llama_index", "mteb", "openai"}


def examples(language: str) -> list[str]:
    pages = "\n".join(page.read_text() for page in PAGES)
    return re.findall(rf"^```{language}\n(.*?)^```$", pages, re.DOTALL | re.MULTILINE)


def localized(example: str, address: str) -> str:
    """Ask the tests' service, whose encoder has another name."""
    return example.replace("http://127.0.0.1:8000", address).replace("bundled", "tiny-mean-0")


def libraries_of(example: str) -> list[str]:
    named = set(re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE))
    for name in re.findall(r"service\.integrations\.(\w+)", example):
        named.add({"langchain": "langchain_core"}.get(name, name))
    return sorted(named & LIBRARIES)


@pytest.mark.parametrize(
    "example",
    [
        # Its import takes seconds.
        pytest.param(text, marks=[pytest.mark.slow] if "mteb" in text else [])
        for text in examples("python")
    ],
    ids=lambda text: "-".join(libraries_of(text)) or "client",
)
def test_an_example_runs_and_prints(
    example: str, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in libraries_of(example):
        pytest.importorskip(library, reason=f"{library} is not installed")
    if "mteb" in example:  # its tasks are downloaded: score one that is not
        import mteb

        monkeypatch.setattr(mteb, "get_tasks", lambda **chosen: [make_task()])

    exec(compile(localized(example, address), "integrations.md", "exec"), {"__name__": "example"})

    assert capsys.readouterr().out.strip()


def test_every_kind_of_example_is_there() -> None:
    libraries = {library for example in examples("python") for library in libraries_of(example)}

    assert libraries == LIBRARIES
    assert len(examples("python")) == 9


def test_the_assistant_s_configuration_starts_a_server(address: str) -> None:
    mcp = pytest.importorskip("mcp", reason="mcp is not installed")
    [example] = [text for text in examples("json") if "mcpServers" in text]
    server = json.loads(localized(example, address))["mcpServers"]["clear-search"]
    command = mcp.StdioServerParameters(
        command=str(Path(sys.executable).with_name(server["command"])), args=server["args"]
    )

    async def talk() -> Any:
        async with mcp.Client(command) as assistant:
            return await assistant.call_tool("search", {"query": "Kenya"})

    assert len(asyncio.run(talk()).structured_content["passages"]) == 5
