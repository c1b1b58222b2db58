"""A hook of schemathesis that avoids expected errors, which no document can describe."""

from typing import Any

import schemathesis

LONGEST_MS = 60_000
MODEL = "tiny-mean-0"
PASSAGE = "kenya.1"
MAX_MODEL_CHARACTERS = 1024
TEXTS = ("query", "queries", "texts", "input")
UNDECLARED = ("filter", "facets", "min_relevance")


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """Replace valid deadlines by the longest, names by those that are served, and blank texts.

    The index declares no fields and has no calibration: valid filters, facets and a least relevance
    are left out.
    """
    if isinstance(case.body, dict):
        if case.meta is not None and case.meta.generation.mode.is_positive:
            case.body = {
                name: _with_letters(value) if name in TEXTS else value
                for name, value in case.body.items()
                if name not in UNDECLARED
            }
            if case.body.get("more_like") is not None:
                case.body["more_like"] = PASSAGE
            if case.body.get("offset"):
                top_k = case.body.get("top_k") or 10
                case.body["offset"] = min(case.body["offset"], 1000 - top_k)
        timeout_ms = case.body.get("timeout_ms")
        is_number = isinstance(timeout_ms, int | float) and not isinstance(timeout_ms, bool)
        if is_number and timeout_ms == int(timeout_ms) and 1 <= timeout_ms <= LONGEST_MS:
            case.body = {**case.body, "timeout_ms": LONGEST_MS}
        model = case.body.get("model")
        if isinstance(model, str) and len(model) <= MAX_MODEL_CHARACTERS:
            case.body = {**case.body, "model": MODEL}


def _with_letters(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_with_letters(text) for text in texts]
    return texts[1:].replace("\x00", "") + "a" if isinstance(texts, str) else texts
