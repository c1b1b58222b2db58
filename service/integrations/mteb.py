"""A running service as an encoder that MTEB can evaluate (extra `mteb`)."""

import re
from itertools import chain
from typing import Any

from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from service.client import MAX_CHARACTERS, Client, Embeddings, Role
from service.retrieval.text import is_blank


class ServedEncoder(AbsEncoder):  # type: ignore[misc]
    """Embeds by `/encode`: documents as passages, all other texts as queries."""

    def __init__(self, client: Client) -> None:
        """Ask the service for its encoder; MTEB stores the scores under the encoder's name."""
        self._client = client
        encoder = client.info()["encoder"]
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": "clear-search/" + re.sub(r"[^\w.-]+", "-", encoder["name"]),
                "revision": encoder["fingerprint"],
                "max_tokens": encoder["max_tokens"],
                "embed_dim": encoder["dimension"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Embeddings:
        """Return unit-norm embeddings of the texts of MTEB's batches, [B, D]."""
        texts = [as_sent(text) for text in chain.from_iterable(batch["text"] for batch in inputs)]
        role: Role = "passage" if prompt_type == PromptType.document else "query"
        return self._client.encode(texts, role)


def as_sent(text: str) -> str:
    r"""Change a text so that the service accepts it; the encoder reads less than what remains.

    >>> as_sent(" "), as_sent("\u200b"), as_sent("tea")
    ('-', '-', 'tea')
    """
    kept = text.replace("\x00", " ")[:MAX_CHARACTERS].strip()
    return "-" if is_blank(kept) else kept
