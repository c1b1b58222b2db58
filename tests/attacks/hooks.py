"""A hook of schemathesis that avoids expected errors: short deadlines and unknown models."""

from typing import Any

import schemathesis

LONGEST_MS = 60_000
MODEL = "tiny-mean-0"
MAX_MODEL_CHARACTERS = 1024


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """Replace each valid deadline by the longest, and each model name by the one that is served."""
    if isinstance(case.body, dict):
        timeout_ms = case.body.get("timeout_ms")
        if type(timeout_ms) is int and 1 <= timeout_ms <= LONGEST_MS:
            case.body = {**case.body, "timeout_ms": LONGEST_MS}
        model = case.body.get("model")
        if isinstance(model, str) and len(model) <= MAX_MODEL_CHARACTERS:
            case.body = {**case.body, "model": MODEL}
