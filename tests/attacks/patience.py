"""A hook of schemathesis: neither a deadline of 2 ms nor a model that is not there is a fault."""

from typing import Any

import schemathesis

LONGEST_MS = 60_000
MODEL = "tiny-mean-0"
MAX_MODEL_CHARACTERS = 1024


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """Give every request that has a valid deadline the longest, and a model's name the victim's."""
    if isinstance(case.body, dict):
        timeout_ms = case.body.get("timeout_ms")
        if type(timeout_ms) is int and 1 <= timeout_ms <= LONGEST_MS:
            case.body = {**case.body, "timeout_ms": LONGEST_MS}
        model = case.body.get("model")
        if isinstance(model, str) and len(model) <= MAX_MODEL_CHARACTERS:
            case.body = {**case.body, "model": MODEL}
