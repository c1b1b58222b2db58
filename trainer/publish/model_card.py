"""The model card of a published encoder: what it is, how it is used, results, data, licences.

Markdown with the front matter that a Hub reads. Values come from manifests and from files that
others wrote: each is quoted where it stands.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from service.retrieval.checkpoint.checkpoint import Checkpoint

# Of a data card (`card.json` of an import): what the licence asks to be told.
DATA_FIELDS = ("name", "licence", "url")
RECORD_FIELDS = ("objective", "seed", "git_commit", "summary", "versions", "machine", "blend")


def model_card(
    query: Checkpoint,
    passage: Checkpoint,
    facts: Mapping[str, Any],
    results: str = "",
    data_cards: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the card.

    Args:
        query: whose query side encodes queries.
        passage: whose passage side encodes passages.
        facts: entries of the manifest: `name`, `license`, `base_model`, the training record.
        results: Markdown; by default the record's figures.
        data_cards: of the training data.
    """
    has_two_sides = query.query is not passage.passage
    record = {**facts, **facts.get("training", {})}
    parts = [
        _front_matter(facts, data_cards),
        f"# {facts['name']}\n",
        _description(query, passage, has_two_sides),
        _usage(str(facts["name"]), has_two_sides),
        "## Results\n\n" + (results.strip() or _scores(record) or "Not measured.") + "\n",
        _training(record),
        _data(record, data_cards),
        f"## Licence\n\n{facts['license']}; the training data keeps its own.\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(facts: Mapping[str, Any], data_cards: Sequence[Mapping[str, Any]]) -> str:
    languages = sorted({"en", *(code for card in data_cards for code in card.get("rows", ()))})
    content = {
        "language": languages,
        "license": str(facts["license"]).lower(),
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "dense", "cross-lingual"],
        **({"base_model": facts["base_model"]} if facts.get("base_model") else {}),
    }
    # JSON is YAML, and quotes what a name may hold.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    return "\n".join(["---", *lines, "---", ""])


def _description(query: Checkpoint, passage: Checkpoint, has_two_sides: bool) -> str:
    layout = passage.passage
    sides = (
        "Queries and passages have a side each (a `Router`): the passage side's embeddings are "
        "those of the encoder of the fingerprint below, so an index that it embedded stays valid."
        if has_two_sides
        else "Queries and passages are embedded by the same weights."
    )
    facts = {
        "dimensions": layout.config.get("hidden_size"),
        "tokens at the most": min(query.query.max_tokens, layout.max_tokens),
        "pooling": layout.pooling,
        "prompt of queries": f"`{query.query.prompts['query']}`",
        "prompt of passages": f"`{layout.prompts['passage']}`",
        "fingerprint of the passage side": f"`{passage.fingerprint(layout)}`",
    }
    introduction = (
        "A bi-encoder for cross-lingual retrieval: questions in many languages, English passages. "
    )
    return f"{introduction}{sides}\n\n{_table(('', ''), list(facts.items()))}"


def _usage(name: str, has_two_sides: bool) -> str:
    served = "\nIt serves an index of its passage side without building it again:\n"
    return f"""## Use

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer({name!r})
queries = encoder.encode_query(["Je, mji mkuu wa Kenya ni upi?"])
passages = encoder.encode_document(["Nairobi is the capital of Kenya."])
similarities = encoder.similarity(queries, passages)
```
{served if has_two_sides else ""}
```sh
clear-service serve --index my-index --encoder {name}
```
"""


def _scores(record: Mapping[str, Any]) -> str:
    """Lay the record's dev scores out, base beside trained: nDCG@10 by set and language."""
    base, trained = record.get("base_scores"), record.get("metrics", record.get("scores"))
    if not isinstance(trained, Mapping):
        return ""
    rows = [
        (name, language, _figure(base, name, language), f"{value:.4f}")
        for name, by_language in trained.items()
        if isinstance(by_language, Mapping)
        for language, value in by_language.items()
    ]
    heading = ("dev set", "query language", "base", "this encoder")
    return "nDCG@10 over English passages, on the dev sets.\n\n" + _table(heading, rows)


def _figure(scores: object, name: str, language: str) -> str:
    value = scores.get(name, {}).get(language) if isinstance(scores, Mapping) else None
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _training(record: Mapping[str, Any]) -> str:
    kept = {field: record[field] for field in RECORD_FIELDS if field in record}
    if not kept:
        return ""
    return f"## Training\n\n```json\n{json.dumps(kept, indent=1, ensure_ascii=False)}\n```\n"


def _data(record: Mapping[str, Any], cards: Sequence[Mapping[str, Any]]) -> str:
    digests = record.get("data")
    digests = digests if isinstance(digests, Mapping) else {}
    if not digests and not cards:
        return ""
    parts = ["## Data\n"]
    if cards:
        rows = [
            (*(str(card.get(field, "")) for field in DATA_FIELDS), ", ".join(card.get("rows", ())))
            for card in cards
        ]
        parts.append(_table(("data", "licence", "from", "languages"), rows))
    if digests:
        parts.append(_table(("file", "sha256"), [(k, f"`{v}`") for k, v in digests.items()]))
    return "\n".join(parts)


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        return (
            "| "
            + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
            + " |"
        )

    return "\n".join([line(heading), line(["---"] * len(heading)), *map(line, rows)]) + "\n"
