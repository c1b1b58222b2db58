"""The page's modules joined into one script; tests with the mark `browser` run the page itself."""

import re
from pathlib import Path

from service.web.files import WEB
from service.web.script import join_modules


def write(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        path = folder / f"{name.replace('_', '/')}.js"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return folder


def test_modules_stand_after_those_that_they_import_each_once_and_without_comments(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        main='// The page.\nimport { b } from "./b.js";\nimport { LIST } from "./in/c.js";\n'
        "\nb(LIST);\n",
        b='import { LIST } from "./in/c.js";\n\n/** Do it.\n *\n * @param x what\n */\n'
        "export function b(x) {\n  return x * LIST;\n}\n",
        in_c="export const LIST = 2;\nexport async function wait() {}\n",
    )

    assert join_modules(tmp_path / "main.js") == (
        "const module0 = await (async () => {\n"
        "const LIST = 2;\nasync function wait() {}\n"
        "return { LIST, wait };\n})();\n"
        "const module1 = await (async () => {\n"
        "const { LIST } = module0;\n\nfunction b(x) {\n  return x * LIST;\n}\n"
        "return { b };\n})();\n"
        "const module2 = await (async () => {\n"
        "const { b } = module1;\nconst { LIST } = module0;\n\nb(LIST);\n"
        "return {  };\n})();\n"
    )


def test_the_page_s_script_holds_every_module_and_neither_import_nor_export() -> None:
    script = join_modules(WEB / "search.js")
    modules = {path for path in WEB.rglob("*.js") if path.name != "early.js"}

    assert len(re.findall(r"^const module\d+ = ", script, re.MULTILINE)) == len(modules)
    assert not re.search(r"^(?:import|export)\b", script, re.MULTILINE)
    assert not re.search(r"^\s*(?://|\*|/\*)", script, re.MULTILINE)
