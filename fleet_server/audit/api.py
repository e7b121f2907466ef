"""GET /audit: the log in pages, its signed head, and the whole of it as a stream.

Whoever works here (scope ``viewer``, not limited to groups) reads it and can check it: the more people look, the harder it is to
rewrite. To carry it out of the house as a file takes the scope ``security``, and stands in it.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.audit import chain, service
from fleet_server.context import Context, context
from fleet_server.http_access import current_operator, origin, require
from fleet_server.http_json import reply, reply_list
from ota.trust.assignment import sign_payload
from ota.trust.keys import key_to_dict
from ota.wire.codec import to_builtins

operator = APIBlueprint("audit", __name__, url_prefix="/api/v1")

MAX_ID = 2**53


class AuditQuery(BaseModel):
    """Which part of the log. ``cursor``: newest first, before this row; ``after``: rising, behind this row."""

    who: str = Field("", max_length=100)
    target: str = Field("", max_length=400, description="exactly, or all below it")
    what: str = Field("", max_length=100, description="exactly, or the first word: rollout has rollout.create")
    since_s: float | None = Field(None, ge=0, lt=2**34)
    until_s: float | None = Field(None, ge=0, lt=2**34)
    cursor: int | None = Field(None, ge=0, lt=MAX_ID)
    after: int | None = Field(None, ge=0, lt=MAX_ID)
    limit: int = Field(100, ge=1, le=1000)


class ExportQuery(BaseModel):
    """From the first row at or after ``since_s`` (and behind ``after``) to the last one before ``until_s``, without a gap."""

    after: int = Field(0, ge=0, lt=MAX_ID)
    since_s: float | None = Field(None, ge=0, lt=2**34)
    until_s: float | None = Field(None, ge=0, lt=2**34)


@operator.get("/audit")
@require("viewer")
def list_audit(query: AuditQuery) -> Response:
    """Who did what, newest first."""
    wanted = service.Wanted(query.who, query.target, query.what, query.since_s, query.until_s)
    with context().database.read() as session:
        found = service.entries(session, wanted, before_id=query.cursor, after_id=query.after, limit=query.limit)
    return reply_list(found, str(found[-1].id) if len(found) == query.limit else None)


@operator.get("/audit/head")
@require("viewer")
def get_head() -> Response:
    """The last row's id and hash, signed by the assignment key: whoever keeps it can show later what the server said."""
    here = context()
    with here.database.read() as session:
        found = service.head(session)
    return reply({"id": found.id, "hash": found.hash, **_signed(here, found.id, found.hash)})


@operator.get("/audit/export")
@require("security")
def get_export(query: ExportQuery) -> Response:
    """One row a line, rising, as it was hashed; the last line is the signed end. Without that line the answer is not whole."""
    here = context()
    with here.database.write() as session:
        asked = query.model_dump(exclude_none=True)
        service.record(
            session, who=current_operator().name, what="audit.export", target="audit", after=asked, origin=origin(),
            now_s=here.clock(),
        )  # fmt: skip
    with here.database.read() as session:
        first, last = service.span(session, query.since_s, query.until_s)
    lines = _lines(here, max(first, query.after + 1), last)
    response = Response(lines, mimetype="application/x-ndjson")
    response.headers["Content-Disposition"] = 'attachment; filename="rookery-audit.ndjson"'
    return response


def _lines(here: Context, first: int, last: int) -> Iterator[bytes]:
    number, said = first - 1, ""
    piece: list[str] = []
    for text, said in service.texts(here.database, first, last):
        number += 1
        # The hash as it is stored, whatever the text has become: who reads it finds out.
        piece.append(f'{{"hash":"{said}","row":{text}}}\n')
        if len(piece) == service.BATCH:
            yield "".join(piece).encode()
            piece.clear()
    yield "".join(piece).encode()
    if not said:  # nothing to tell: the end is where the asker stands already
        with here.database.read() as session:
            said = service.hash_at(session, number) or chain.GENESIS
    yield msgspec.json.encode({"end": {"id": number, "hash": said}, **_signed(here, number, said)}) + b"\n"


def _signed(here: Context, row_id: int, row_hash: str) -> dict[str, Any]:
    signed = sign_payload(chain.AuditHead(id=row_id, hash=row_hash, at_s=here.clock()), here.signer)
    return {"signed": to_builtins(signed), "key": key_to_dict(here.signer.public_key)}
