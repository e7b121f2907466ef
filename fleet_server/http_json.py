"""The operator door's answers: dataclasses and structs as JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from flask import Response


def reply(value: Any, status: int = 200) -> Response:
    """A dataclass, struct, dict or list as JSON."""
    return Response(msgspec.json.encode(value), status=status, mimetype="application/json")


def reply_list(items: Sequence[Any], following: str | None = None) -> Response:
    """A list as every list route answers it: ``{"items": [...], "next": cursor or null}``."""
    return reply({"items": items, "next": following})
