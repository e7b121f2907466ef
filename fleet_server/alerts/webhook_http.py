"""Tell a webhook. The address was typed by an operator and is not trusted: it must not lead into our own network."""

import json
from typing import Any

from fleet_server.outgoing_http import TIMEOUT_S, WHOLE_S, OutgoingError, OutgoingRule, Resolve, exchange, resolve


def send(
    url: str, body: dict[str, Any], *, rule: OutgoingRule, resolve_host: Resolve = resolve, timeout_s: float = TIMEOUT_S,
    whole_s: float = WHOLE_S,
) -> str | None:  # fmt: skip
    """POST the body; None when it was taken (2xx), else what went wrong. Redirects are not followed, the answer is not kept."""
    try:
        answer = exchange(
            "POST", url, rule=rule, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"},
            timeout_s=timeout_s, whole_s=whole_s, resolve_host=resolve_host,
        )  # fmt: skip
    except OutgoingError as error:
        return str(error)
    return None if 200 <= answer.status < 300 else f"answered {answer.status}"
