"""Errors as ``application/problem+json``: one table from error to status, and no stack trace for anybody."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, request
from gunicorn.http.errors import ParseException
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from werkzeug.exceptions import HTTPException

from fleet_server import errors
from ota.wire.codec import MessageError

log = logging.getLogger(__name__)

# The first row that fits decides; the more special error stands above the more general one.
TABLE: tuple[tuple[type[errors.ServerError], int, str], ...] = (
    (errors.FaultyError, 422, "Wrong in the places that are listed"),
    (errors.InvalidError, 400, "The request is not valid"),
    (errors.UnauthenticatedError, 401, "Sign in first"),
    (errors.ForbiddenError, 403, "Refused"),
    (errors.NotFoundError, 404, "Not found"),
    (errors.ConflictError, 409, "Clashes with what is there"),
    (errors.TooLargeError, 413, "Too large"),
    (errors.TooManyError, 429, "Too many attempts"),
    (errors.CallerError, 400, "The request is not valid"),
    (errors.StoreFullError, 507, "The server has no room"),
    (errors.UnavailableError, 503, "Not available at the moment"),
    (errors.ServerError, 500, "The server needs its operator"),
)


def problem(
    status: int, title: str, detail: str, hint: str = "", headers: Mapping[str, str] | None = None,
    faults: list[dict[str, str]] | None = None, time: dict[str, Any] | None = None,
) -> Response:  # fmt: skip
    """One answer of RFC 9457: {type, title, status, detail, hint?, faults?, time?}."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if hint:
        body["hint"] = hint
    if faults:
        body["faults"] = faults
    if time:
        body["time"] = time
    return Response(msgspec.json.encode(body), status=status, headers=dict(headers or {}), mimetype="application/problem+json")


def from_server_error(error: errors.ServerError) -> Response:
    """The row of the table that fits, with Retry-After where the error knows it."""
    status, title = next((row[1], row[2]) for row in TABLE if isinstance(error, row[0]))
    retry_after_s = getattr(error, "retry_after_s", None)
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else None
    return problem(
        status, title, error.detail, error.hint, headers, getattr(error, "faults", None), getattr(error, "time", None)
    )  # fmt: skip


def from_message_error(error: MessageError) -> Response:
    """A device's message that is not one of ours: names the field."""
    return problem(400, "The message is not valid", f"{error.field}: {error.problem}")


def from_validation_error(error: ValidationError) -> Response:
    """pydantic's findings without the input itself, which may hold a password."""
    findings = [
        f"{'.'.join(str(step) for step in each['loc']) or 'body'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return problem(400, "The request is not valid", "; ".join(findings[:10]))


def from_http_exception(error: HTTPException) -> Response:
    """What Flask and Werkzeug refuse by themselves: unknown path, wrong method, broken JSON, too large a body."""
    given = error.get_response()
    kept = {name: value for name, value in given.headers.items() if name in {"Allow", "Retry-After", "Location"}}
    if given.status_code < 400:  # a redirect is an exception only to Werkzeug
        return Response(status=given.status_code, headers=kept)
    return problem(given.status_code, error.name, error.description or error.name, headers=kept)


def from_database_error(error: OperationalError) -> Response:
    """A database that is full or busy is said plainly; anything else of it is ours to look into."""
    cause = error.orig
    text = str(cause).lower()
    if "disk is full" in text or "no space left" in text or "disk full" in text:
        log.error("database cannot be written: %s", cause)
        return problem(507, "The server has no room", "the database cannot be written: no space left on its disk")
    if text.startswith("database is locked"):
        return problem(503, "Not available at the moment", "the database is busy", headers={"Retry-After": "2"})
    log.error("database does not answer: %s", cause)
    return problem(503, "Not available at the moment", "the database does not answer", headers={"Retry-After": "5"})


def from_data_error(_error: DataError | OverflowError) -> Response:
    """A value from outside that no column can hold: NUL in a text, a number beyond 64 bits."""
    return problem(400, "The request is not valid", "a value in it cannot be stored: NUL in a text, or a number beyond 64 bits")


def from_broken_body(_error: ParseException) -> Response:
    """Chunks that are none: the client's fault, told when the body is read."""
    return problem(400, "The request is not valid", "the body's chunks cannot be read", headers={"Connection": "close"})


def from_recursion(_error: RecursionError) -> Response:
    """Ten thousand brackets: Python's JSON reader gives up, and that is no fault of ours to log."""
    return problem(400, "The request is not valid", "the JSON is nested too deep")


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
    return problem(500, "The server failed", "an unexpected error; it stands in the server's log")


def register(app: Flask) -> None:
    """Every way in which a request can fail ends in a problem."""
    app.register_error_handler(errors.ServerError, from_server_error)
    app.register_error_handler(MessageError, from_message_error)
    app.register_error_handler(ValidationError, from_validation_error)
    app.register_error_handler(HTTPException, from_http_exception)
    app.register_error_handler(OperationalError, from_database_error)
    app.register_error_handler(DataError, from_data_error)
    app.register_error_handler(OverflowError, from_data_error)
    app.register_error_handler(ParseException, from_broken_body)
    app.register_error_handler(RecursionError, from_recursion)
    app.register_error_handler(Exception, _unexpected)
