"""Hub repositories by name and pinned commit: `owner/name@<40 hexadecimal digits>`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Neither part begins with a dot: ./name and ../name are paths.
PINNED_NAME = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)@(?P<revision>[0-9a-f]{40})")
ANY_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@.*)?")


@dataclass(frozen=True)
class HubKind:
    """A kind of Hub repository, and how errors about one are worded and raised."""

    noun: str  # such as "the encoder"
    repository_type: str  # `model` or `dataset`
    file_patterns: Sequence[str]
    other_names: str  # what a user may name instead
    error: type[Exception]
    how_to_pin: str = ""  # where a name is not followed by @ and the commit


def resolve_path_or_hub_name(name: str, kind: HubKind) -> Path:
    """Return a path that exists, or the folder of a Hub repository, downloaded if need be.

    Args:
        name: a path, or `owner/name@commit`.
        kind: the kind of repository.

    Raises:
        Exception: of the class `kind.error`, if neither exists or the revision is not pinned.
    """
    if Path(name).exists():
        return Path(name)
    if match := PINNED_NAME.fullmatch(name):
        return _download(match["name"], match["revision"], kind)
    if ANY_NAME.fullmatch(name):
        pinned = f"{name.partition('@')[0]}@<40 hexadecimal digits of the commit>"
        raise kind.error(
            f"{kind.noun} {name} is not a folder, and a Hub name needs its revision pinned: "
            f"{kind.how_to_pin or pinned}"
        )
    raise kind.error(f"{kind.noun} {name} does not exist: name {kind.other_names}")


def split_hub_name(name: str) -> tuple[str, str | None]:
    """Split `owner/name@commit` into name and revision; another name has no revision.

    >>> split_hub_name("intfloat/e5@" + "0" * 40)[0], split_hub_name("some/folder")
    ('intfloat/e5', ('some/folder', None))
    """
    match = PINNED_NAME.fullmatch(name)
    return (match["name"], match["revision"]) if match else (name, None)


def _download(name: str, revision: str, kind: HubKind) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(
            name,
            repo_type=kind.repository_type,
            revision=revision,
            allow_patterns=list(kind.file_patterns),
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise kind.error(
            f"{kind.noun} {name}@{revision} could not be fetched from the Hub ({reason}): "
            "check the name, the revision and the network, or name a folder"
        ) from None
    return Path(folder)
