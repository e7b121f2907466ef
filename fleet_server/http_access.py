"""What a route says about who may call it, and how it learns who did. The guards themselves are installed by ``app``.

``@require("operator")`` or ``@open_to_all`` stands BELOW the route decorator, so that the route registers the marked function.
A route of the operator door that says neither is refused: forgetting it cannot open a door.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request

from fleet_server.errors import UnauthenticatedError
from fleet_server.identities import SCOPES, DeviceIdentity, Operator

_MARK = "rookery_scope"
F = TypeVar("F", bound=Callable[..., Any])


def require(scope: str) -> Callable[[F], F]:
    """Only operators whose role holds this scope (viewer, operator, releaser, security, admin) may call the route."""
    if scope not in SCOPES["admin"]:
        raise ValueError(f"{scope!r} is not a scope")

    def mark(view: F) -> F:
        setattr(view, _MARK, scope)
        return view

    return mark


def open_to_all(view: F) -> F:
    """Anybody may call the route."""
    setattr(view, _MARK, "")
    return view


def scope_of(view: Callable[..., Any]) -> str | None:
    """The scope that a view asks for; "" for open, None when it says nothing."""
    return cast("str | None", getattr(view, _MARK, None))


def find_operator() -> Operator | None:
    """Who is signed in, or None: for pages that differ a little."""
    if "operator" not in g:
        g.operator = current_app.extensions["rookery_find_operator"]()
    return cast("Operator | None", g.operator)


def current_operator() -> Operator:
    """Who is signed in; UnauthenticatedError when nobody is."""
    found = find_operator()
    if found is None:
        raise UnauthenticatedError("nobody is signed in", "sign in at /login, or with `rookery login`")
    return found


def device_identity() -> DeviceIdentity:
    """The device of this request. UnauthenticatedError without a certificate; ForbiddenError for one unknown, revoked or expired.

    The status is read from the database for each request: that is the revocation, whatever TLS session goes on.
    """
    if "device_identity" not in g:
        g.device_identity = current_app.extensions["rookery_identify_device"]()
    return cast(DeviceIdentity, g.device_identity)


def origin() -> str:
    """The address from which this request came, for the audit log."""
    return request.remote_addr or ""


def install_operators(app: Flask, find: Callable[[], Operator | None]) -> None:
    """Say how the operator of a request is found."""
    app.extensions["rookery_find_operator"] = find


def install_devices(app: Flask, identify: Callable[[], DeviceIdentity]) -> None:
    """Say how the device of a request is found."""
    app.extensions["rookery_identify_device"] = identify
