"""A plain search server, to be measured beside the service: transformers, and a product in torch.

Run: python -m tests.gpu.plain_server --index INDEX --port 8798 --device cuda

A request is tokenized, encoded in half precision and searched alone; nothing is batched, cached,
checked or limited.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.corpus.table import PassageTable
from service.retrieval.generation.generation import current_name, generations_directory
from service.retrieval.generation.manifest import PASSAGES, read_manifest
from service.retrieval.generation.vectors import open_vectors_of
from service.settings.settings import load_settings


def create_app(index: Path, device: str) -> FastAPI:
    """Load encoder, vectors and passages, and return the server."""
    from transformers import AutoModel, AutoTokenizer

    precision = torch.float32 if device == "cpu" else torch.bfloat16
    folder = str(bundled_checkpoint(load_settings().cache))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).to(device, precision).eval()
    live = generations_directory(index) / current_name(index)
    manifest = read_manifest(live)
    table = PassageTable(live / PASSAGES, manifest.fields)
    with open_vectors_of(live, manifest) as mapped:
        vectors = torch.from_numpy(mapped.copy()).to(device, precision)
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/search")
    @torch.inference_mode()
    def search(body: dict[str, Any]) -> dict[str, Any]:
        inputs = tokenizer("query: " + body["query"], return_tensors="pt").to(device)
        hidden = model(**inputs).last_hidden_state
        embedding = torch.nn.functional.normalize(hidden.mean(1), dim=-1)
        scores, rows = (embedding @ vectors.T)[0].topk(body.get("top_k", 10))
        found = table.read(rows.tolist())
        hits = [
            {"passage_id": passage.passage_id, "score": score, "text": passage.text}
            for passage, score in zip(found, scores.tolist(), strict=True)
        ]
        return {"results": [{"hits": hits}]}

    return app


def main() -> None:
    """Serve until a signal comes."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--index", type=Path, required=True)
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--device", required=True)
    options = made.parse_args()
    app = create_app(options.index, options.device)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
