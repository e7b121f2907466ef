"""What a route says about who may call it, and how it learns who did. The guards themselves are installed by ``app``.

``@require("operator")`` or ``@open_to_all`` stands BELOW the route decorator, so that the route registers the marked function.
A route of the operator door that says neither is refused: forgetting it cannot open a door. Neither can forgetting ``reach``: an
account that is limited to device groups is refused wherever a route does not say how it keeps to them.
"""

from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request
from sqlalchemy.orm import Session

from fleet_server.errors import UnauthenticatedError
from fleet_server.identities import SCOPES, DeviceIdentity, Operator

_MARK = "rookery_scope"
_REACH_MARK = "rookery_reach"
REACHES = ("fleet", "device", "filtered", "nobody")
"""What of the fleet a route shows or changes; see ``require``."""
DEVICE_PARAMETERS = ("device", "device_id")
"""How the path of a route with reach ``device`` calls its device (an id or a unique name)."""
F = TypeVar("F", bound=Callable[..., Any])


def require(scope: str, *, reach: str = "fleet") -> Callable[[F], F]:
    """Only operators whose role holds this scope (viewer, operator, releaser, security, admin) may call the route.

    ``reach`` says what becomes of accounts that are limited to device groups. ``fleet``: they are refused. ``device``: they pass
    where the path's device lies in their groups; any other is as if it were not there. ``filtered``: the route itself sees and
    changes only what lies in ``reach_here()``. ``nobody``: nothing of a device is in it.
    """
    if scope not in SCOPES["admin"]:
        raise ValueError(f"{scope!r} is not a scope")
    if reach not in REACHES:
        raise ValueError(f"{reach!r} is not a reach")

    def mark(view: F) -> F:
        setattr(view, _MARK, scope)
        setattr(view, _REACH_MARK, reach)
        return view

    return mark


def open_to_all(view: F) -> F:
    """Anybody may call the route."""
    setattr(view, _MARK, "")
    return view


def scope_of(view: Callable[..., Any]) -> str | None:
    """The scope that a view asks for; "" for open, None when it says nothing."""
    return cast("str | None", getattr(view, _MARK, None))


def reach_of(view: Callable[..., Any]) -> str:
    """What of the fleet a view shows; the whole of it where it does not say."""
    return cast(str, getattr(view, _REACH_MARK, "fleet"))


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


def reach_here() -> frozenset[str] | None:
    """The device groups that this request is limited to; None: all. A route with reach ``filtered`` must ask, or is refused."""
    g.reach_asked = True
    return current_operator().groups


def reach_was_asked() -> bool:
    """Whether this request has asked what it is limited to."""
    return bool(g.get("reach_asked", False))


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


def install_reach(app: Flask, check_device: Callable[[str, Collection[str]], None]) -> None:
    """Say how it is found whether a device (id or name) lies in groups; NotFoundError where it does not or is not there."""
    app.extensions["rookery_check_device"] = check_device


def check_device(id_or_name: str, groups: Collection[str]) -> None:
    """NotFoundError unless there is such a device and it lies in one of the groups."""
    current_app.extensions["rookery_check_device"](id_or_name, groups)


def install_account_left(app: Flask, left: Callable[..., None]) -> None:
    """Say what parts above ``accounts`` end with an account: see ``account_left``."""
    app.extensions["rookery_account_left"] = left


def account_left(session: Session, name: str, *, who: str, now_s: float) -> None:
    """An account was disabled or removed in this transaction: what it gave out to others ends with it."""
    current_app.extensions["rookery_account_left"](session, name, who=who, origin=origin(), now_s=now_s)


def install_devices(
    app: Flask, identify: Callable[[], DeviceIdentity], still_ours: Callable[[str], None],
    too_much: Callable[[str, str, str], None],
) -> None:  # fmt: skip
    """Say how the device of a request is found, and what the other two functions below do."""
    app.extensions["rookery_identify_device"] = identify
    app.extensions["rookery_still_ours"] = still_ours
    app.extensions["rookery_too_much"] = too_much


def check_still_ours(device_id: str) -> None:
    """ForbiddenError for a device none of whose certificates is good any more: for routes that a signed URL opens."""
    current_app.extensions["rookery_still_ours"](device_id)


def note_too_much(device_id: str, what: str, detail: str) -> None:
    """A device was told to come back later: people see it. ``what``: requests or uploads."""
    current_app.extensions["rookery_too_much"](device_id, what, detail)
