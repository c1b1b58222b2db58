"""Uploads a published directory to a model Hub."""

import os
from pathlib import Path

from trainer.errors import DataError, OutputError

TOKEN = "HF_TOKEN"


def read_token() -> str:
    """Return the Hub's token from HF_TOKEN; called first, so that a missing token fails early.

    Raises:
        DataError: the variable is not set.
    """
    token = os.environ.get(TOKEN)
    if not token:
        raise DataError(
            f"the variable {TOKEN} is not set: set it to a token of the Hub that may write"
        )
    return token


def push(directory: Path, repository: str, *, is_private: bool, message: str) -> str:
    """Upload a published directory to a Hub with the token from HF_TOKEN.

    Args:
        directory: what `write_publication` wrote.
        repository: owner/name; created if missing.
        is_private: create it as a private repository.
        message: of the commit.

    Returns:
        The URL of the commit.

    Raises:
        DataError: the token is missing.
        OutputError: the Hub refuses the upload, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    token = read_token()
    errors: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError)
    errors += HfHubHTTPError.__bases__  # that of the HTTP library, and OSError
    hub = HfApi(token=token)
    try:
        hub.create_repo(repository, private=is_private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=directory,
            commit_message=message,
            delete_patterns=["*.safetensors", "*.json"],  # files of an earlier layout
        )
    except errors as error:
        reason = str(error).strip().splitlines()[0]
        raise OutputError(
            f"{directory} is written, but the push to {repository} failed ({reason}): check the "
            "name, the token's permission to write and the network, then push again"
        ) from None
    return str(commit)
