"""A service whose CUDA context dies under it; prints what it answers, as one line of JSON.

Run: python -m tests.gpu.killed_context --index INDEX --device cuda

An index out of bounds in a kernel makes every later call of the process fail. On a CPU, where there
is no context, the encoder raises CUDA's error instead.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.encoder.encoder import Encoder
from service.settings.settings import load_settings


def kill_context(device: str) -> Any:
    """Kill the context; return what is in force meanwhile."""
    words = "CUDA error: device-side assert triggered"
    if device == "cpu":
        return patch.object(Encoder, "embed", side_effect=RuntimeError(words))
    try:
        torch.zeros(1, device=device)[torch.tensor([2**20], device=device)]
        torch.cuda.synchronize()
    except RuntimeError as error:
        sys.stderr.write(f"the context is dead: {error}\n")
        return patch.dict({})
    raise SystemExit("an index out of bounds did not kill the context")


def main() -> None:
    """Ask before and after; end at once, because the dead context has no orderly end."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--index", type=Path, required=True)
    made.add_argument("--device", required=True)
    options = made.parse_args()
    settings = load_settings(
        index=options.index, device=options.device, query_cache_entries=0, encoder="bundled"
    )
    client = TestClient(create_app(settings), raise_server_exceptions=False).__enter__()

    def search() -> int:
        return client.post("/search", json={"query": "Where does tea grow?"}).status_code

    found = {"search_before": search(), "live_before": client.get("/livez").status_code}
    with kill_context(options.device):
        found |= {"search": search()}
        found |= {
            name: client.get(path).status_code
            for name, path in (("live", "/livez"), ("ready", "/readyz"))
        }
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
