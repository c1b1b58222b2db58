"""A hook of schemathesis: who asks for an answer within 2 ms gets a 504, which is no fault."""

from typing import Any

import schemathesis

LONGEST_MS = 60_000


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """Give every request that has a valid deadline the longest."""
    if isinstance(case.body, dict):
        timeout_ms = case.body.get("timeout_ms")
        if type(timeout_ms) is int and 1 <= timeout_ms <= LONGEST_MS:
            case.body = {**case.body, "timeout_ms": LONGEST_MS}
