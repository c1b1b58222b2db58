from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from trainer.errors import DataError, OutputError
from trainer.publish.hub import push


class FakeHub:
    """A fake of the Hub's client that records its calls."""

    calls: list[tuple[str, dict[str, Any]]] = []
    error: Exception | None = None

    def __init__(self, token: str) -> None:
        self.token = token

    def create_repo(self, repository: str, **options: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append((self.token, {"repo_id": repository, **options}))

    def upload_folder(self, **options: Any) -> str:
        self.calls.append((self.token, options))
        return "https://hub/owner/name/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setenv("HF_TOKEN", "secret")
    return FakeHub


def test_a_push_makes_the_repository_and_uploads_the_folder(
    tmp_path: Path, hub: type[FakeHub]
) -> None:
    commit = push(tmp_path, "owner/name", is_private=True, message="Publish")

    assert commit == "https://hub/owner/name/commit/1"
    (token, made), (_, uploaded) = hub.calls
    assert (token, made) == (
        "secret",
        {"repo_id": "owner/name", "private": True, "exist_ok": True},
    )
    assert uploaded["folder_path"] == tmp_path
    assert uploaded["commit_message"] == "Publish"


def test_a_push_without_a_token_says_which_variable(
    tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")

    with pytest.raises(DataError, match="the variable HF_TOKEN is not set"):
        push(tmp_path, "owner/name", is_private=False, message="Publish")

    assert hub.calls == []


@pytest.mark.parametrize("kind", HfHubHTTPError.__bases__)
def test_a_hub_that_refuses_is_one_line_without_the_token(
    tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    monkeypatch.setattr(hub, "error", kind("no right\nmore"))

    with pytest.raises(OutputError, match=r"the push to owner/name failed \(no right") as caught:
        push(tmp_path, "owner/name", is_private=False, message="Publish")

    assert "secret" not in str(caught.value)
