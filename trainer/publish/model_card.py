"""The model card of a published encoder: description, use, results, training data, license.

The text is in `model_card.md.jinja`. Values come from manifests and from files that others wrote:
`huggingface_hub` quotes those of the front matter, `markdown_table` escapes those of a table.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from service.retrieval.checkpoint.checkpoint import Checkpoint
from trainer.markdown import markdown_table

TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
# Fields of a data card (`card.json` of an import): licenses ask for the name and the source.
DATA_FIELDS = ("name", "licence", "url")
RECORD_FIELDS = ("objective", "seed", "git_commit", "summary", "versions", "machine", "blend")


def model_card(
    query: Checkpoint,
    passage: Checkpoint,
    facts: Mapping[str, Any],
    results: str = "",
    data_cards: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the card in Markdown, with the front matter that a Hub reads.

    Args:
        query: the checkpoint whose query side encodes queries.
        passage: the checkpoint whose passage side encodes passages.
        facts: entries of the manifest: `name`, `license`, `base_model`, the training record.
        results: Markdown; by default the dev scores of the training record.
        data_cards: of the training data.
    """
    training = facts.get("training")
    record = {**facts, **(training if isinstance(training, Mapping) else {})}
    kept = {field: record[field] for field in RECORD_FIELDS if field in record}
    card = ModelCard.from_template(
        _front_matter(facts, data_cards),
        template_path=str(TEMPLATE),
        name=facts["name"],
        name_literal=repr(str(facts["name"])),
        license=facts["license"],
        has_two_sides=query.query is not passage.passage,
        properties=_properties(query, passage),
        results=results.strip() or _scores(record),
        training=json.dumps(kept, indent=1, ensure_ascii=False) if kept else "",
        data_sets=_data_sets(data_cards),
        data_files=_data_files(record),
    )
    return str(card)


def _front_matter(
    facts: Mapping[str, Any], data_cards: Sequence[Mapping[str, Any]]
) -> ModelCardData:
    return ModelCardData(
        language=sorted({"en", *(code for card in data_cards for code in card.get("rows", ()))}),
        license=str(facts["license"]).lower(),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "dense", "cross-lingual"],
        base_model=facts.get("base_model") or None,
    )


def _properties(query: Checkpoint, passage: Checkpoint) -> str:
    layout = passage.passage
    properties = {
        "dimensions": layout.embedding_dim,
        "maximum tokens": min(query.query.max_tokens, layout.max_tokens),
        "pooling": str(layout.pooling),
        "query prompt": f"`{query.prompts.query.text}`",
        "passage prompt": f"`{passage.prompts.passage.text}`",
        "passage fingerprint": f"`{passage.own_passage_fingerprint}`",
    }
    return markdown_table(("", ""), list(properties.items()))


def _scores(record: Mapping[str, Any]) -> str:
    """Tabulate the record's dev scores, base and trained: nDCG@10 by set and language."""
    base, trained = record.get("base_scores"), record.get("metrics", record.get("scores"))
    if not isinstance(trained, Mapping):
        return ""
    rows = [
        (name, language, _score(base, name, language), f"{value:.4f}")
        for name, by_language in trained.items()
        if isinstance(by_language, Mapping)
        for language, value in by_language.items()
    ]
    table = markdown_table(("dev set", "query language", "base", "this encoder"), rows)
    return f"nDCG@10 over English passages, on the dev sets.\n\n{table}"


def _score(scores: object, name: str, language: str) -> str:
    value = scores.get(name, {}).get(language) if isinstance(scores, Mapping) else None
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _data_sets(cards: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (*(card.get(field, "") for field in DATA_FIELDS), ", ".join(card.get("rows", ())))
        for card in cards
    ]
    return markdown_table(("data", "license", "source", "languages"), rows) if rows else ""


def _data_files(record: Mapping[str, Any]) -> str:
    digests = record.get("data")
    if not isinstance(digests, Mapping) or not digests:
        return ""
    return markdown_table(("file", "sha256"), [(k, f"`{v}`") for k, v in digests.items()])
