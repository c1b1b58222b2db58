"""The modules of the page joined into one script, so that a slow link is waited for once."""

import re
from pathlib import Path

IMPORT = re.compile(r'^import \{ ([^}]+) \} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(
    r"^export (?=(?:async )?(?:function|class|const|let) (?P<name>\w+))", re.MULTILINE
)
COMMENT = re.compile(r"^ *(?://|/\*\*|\*).*\n", re.MULTILINE)


def join_modules(entry: Path) -> str:
    """Return a module and all that it imports as one module without comments.

    Each module becomes a function that returns its exports; it stands after those that it imports.

    Args:
        entry: the module that the page starts; imports are relative, and none lead back.
    """
    names: dict[Path, str] = {}
    parts: list[str] = []

    def add(path: Path) -> str:
        if path not in names:
            source = COMMENT.sub("", path.read_text(encoding="utf-8"))
            body = IMPORT.sub(
                lambda found: (
                    f"const {{ {found[1]} }} = {add((path.parent / found[2]).resolve())};\n"
                ),
                source,
            )
            exports = ", ".join(found["name"] for found in EXPORT.finditer(body))
            names[path] = f"module{len(names)}"
            parts.append(
                f"const {names[path]} = await (async () => {{\n"
                f"{EXPORT.sub('', body).strip()}\nreturn {{ {exports} }};\n}})();\n"
            )
        return names[path]

    add(entry.resolve())
    return "".join(parts)
