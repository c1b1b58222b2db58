"""Uploads a published directory to a model hub."""

import os
from pathlib import Path

from trainer.errors import DataError, OutputError

TOKEN = "HF_TOKEN"


def read_token() -> str:
    """Read the Hub's token from HF_TOKEN; called early, it stops a run before the work.

    Raises:
        DataError: there is none.
    """
    token = os.environ.get(TOKEN)
    if not token:
        raise DataError(f"the variable {TOKEN} is not set: it holds the token of the Hub")
    return token


def push(directory: Path, repository: str, *, is_private: bool, message: str) -> str:
    """Upload a published directory to a Hub; the token is read from HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        DataError: there is no token.
        OutputError: the Hub refuses, or is not reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    token = read_token()
    errors: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError)
    errors += HfHubHTTPError.__bases__  # the HTTP library's own, and OSError
    hub = HfApi(token=token)
    try:
        hub.create_repo(repository, private=is_private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=directory,
            commit_message=message,
            delete_patterns=["*.safetensors", "*.json"],  # of another layout
        )
    except errors as error:
        reason = str(error).strip().splitlines()[0]
        raise OutputError(
            f"{directory} is written, but {repository} was not pushed to ({reason}): check the "
            "name, the token's right to write and the network, then push again"
        ) from None
    return str(commit)
