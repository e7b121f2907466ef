"""What devices are told to do differently: fleet, then group, then device, key by key. Delivered in the assignment.

A device is in exactly one group, so three layers at most lie over each other. Every change is a version that stays, and nothing
is stored that a board would refuse for its form, alone or together with the layers that are there. A change is looked through
before the database is held (one of the fleet is laid over every other layer, and all boards' events would wait for as long), and
written only if what it was looked through with is still so.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import literal, or_, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.configuration.checking import cameras_of, check
from fleet_server.configuration.layers import Change, Setting, changes, merged
from fleet_server.configuration.tables import ConfigurationRow, ConfigurationVersionRow
from fleet_server.database import Database, insert_new, note_change
from fleet_server.errors import ConflictError, FaultyError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.identities import groups_in_words
from fleet_server.inventory import service as inventory
from fleet_server.inventory.reach import ids_in
from ota.wire.configuration import digest_of, laid_over

FLEET = "fleet"
MAX_NAME = 100
MAX_WHY = 200
TRIES = 5
"""So often a change is looked through again because another layer changed in the meantime."""

__all__ = ["Author", "Change", "Effective", "Layer", "Setting", "cameras_of", "check"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one scope says (or said at a version). ``version`` 0: nothing was ever said."""

    scope: str
    version: int
    content: dict[str, Any]
    changed_s: float
    changed_by: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Effective:
    """What a device is told, where each value comes from, and what the device said of it last.

    ``said``: {digest, state, reason} of its heartbeat, None before it said anything; ``in_force`` whether that is about this one.
    """

    device: str
    digest: str
    content: dict[str, Any]
    settings: list[Setting]
    layers: list[Layer]
    said: dict[str, Any] | None
    in_force: bool


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, from where, when, and why in their own words."""

    who: str
    origin: str
    now_s: float
    why: str = ""
    groups: Collection[str] | None = None
    """The groups that they are limited to: the fleet's own layer is not theirs to change then."""


def scope_of(session: Session, text: str, now_s: float, groups: Collection[str] | None = None) -> str:
    """``fleet``, ``group:NAME`` or ``device:ID_OR_NAME`` as the scope that is stored; InvalidError, NotFoundError.

    ``groups``: those that the caller is limited to; other groups and their devices are as if they were not there.
    """
    kind, _, name = text.partition(":")
    if kind == "fleet" and not name:
        return FLEET
    if kind == "group" and 1 <= len(name) <= MAX_NAME and name.isprintable():
        if groups is not None and name not in groups:
            raise NotFoundError(f"there is no group {name!r}", f"yours: {', '.join(sorted(groups)) or 'none'}")
        return f"group:{name}"
    if kind == "device" and name:
        return of_device(inventory.get(session, name, now_s, groups=groups).id)
    raise InvalidError(f"{text[:60]!r} is no layer of the configuration", "layers are fleet, group:NAME and device:NAME")


def scope_to_change(session: Session, text: str, now_s: float, groups: Collection[str] | None) -> str:
    """As ``scope_of``; ForbiddenError for the fleet's layer where the caller is limited to groups."""
    scope = scope_of(session, text, now_s, groups)
    if groups is not None and scope == FLEET:
        raise ForbiddenError(
            f"this layer is told to the whole fleet, and your account is limited to {groups_in_words(frozenset(groups))}",
            "change the layer of your group, or ask somebody whose account is not limited",
        )
    return scope


def of_device(device_id: str) -> str:
    """The scope of one device's own settings."""
    return f"device:{device_id}"


def get(session: Session, scope: str, version: int | None = None) -> Layer:
    """What a scope says now, or said at a version; NotFoundError for a version that never was."""
    if version is None:
        row = session.get(ConfigurationRow, scope)
        return _layer(row) if row is not None else Layer(scope, 0, {}, 0.0, "")
    found = session.get(ConfigurationVersionRow, (scope, version))
    if found is None and version == 0:
        return Layer(scope, 0, {}, 0.0, "")
    if found is None:
        raise NotFoundError(f"{scope} has no version {version}", f"`rookery config history {scope}` shows them")
    return _layer(found)


def layers(session: Session, groups: Collection[str] | None = None) -> list[Layer]:
    """Every layer that says something or ever did, by scope; with groups the fleet's, theirs, and their devices'."""
    query = select(ConfigurationRow).order_by(ConfigurationRow.scope)
    if groups is not None:
        devices = ids_in(groups).subquery()
        named = [FLEET, *(f"group:{name}" for name in sorted(groups))]
        query = query.where(
            or_(ConfigurationRow.scope.in_(named), ConfigurationRow.scope.in_(select(literal("device:") + devices.c.id)))
        )
    return [_layer(row) for row in session.scalars(query)]


def history(session: Session, scope: str, *, limit: int = 50, before: int | None = None) -> list[Layer]:
    """The versions of a scope, newest first."""
    table = ConfigurationVersionRow
    query = select(table).where(table.scope == scope).order_by(table.version.desc()).limit(limit)
    if before is not None:
        query = query.where(table.version < before)
    return [_layer(row) for row in session.scalars(query)]


def effective(session: Session, device_id: str) -> dict[str, Any]:
    """What one device is told."""
    return functools.reduce(laid_over, (layer.content for layer in _stack(session, device_id)), {})


def explained(session: Session, device_id: str, now_s: float) -> Effective:
    """What one device is told and why, beside what it says that it does; NotFoundError."""
    device = inventory.get(session, device_id, now_s)
    stack = _stack(session, device.id)
    content, settings = merged([(layer.scope, layer.content) for layer in stack])
    said = (device.heartbeat or {}).get("configuration")
    digest = digest_of(content)
    return Effective(
        device.id, digest, content, settings, stack, said,
        in_force=said is not None and said.get("digest") == digest and said.get("state") == "applied",
    )  # fmt: skip


def diff(session: Session, left: str, right: str, now_s: float, groups: Collection[str] | None = None) -> list[Change]:
    """What differs between two of ``LAYER``, ``LAYER@VERSION``, ``effective:DEVICE``."""
    return changes(_named(session, left, now_s, groups), _named(session, right, now_s, groups))


def put(database: Database, text: str, content: Mapping[str, Any], *, if_version: int | None, author: Author) -> Layer:
    """Replace what a scope (``fleet``, ``group:NAME``, ``device:ID_OR_NAME``) says; the same again changes nothing.

    FaultyError with all faults; ConflictError when somebody changed it since ``if_version``; NotFoundError, InvalidError.
    """
    return _change(database, text, lambda _, __: dict(content), if_version, author, "configuration.put")


def undo(database: Database, text: str, *, to_version: int | None, if_version: int | None, author: Author) -> Layer:
    """Say again what the scope said at a version (None: the one before the present): a new version, equal to the old one."""
    wanted = [0]

    def old(session: Session, scope: str) -> dict[str, Any]:
        present = get(session, scope)
        if present.version == 0:
            raise ConflictError(f"{scope} never said anything: there is nothing to undo")
        wanted[0] = present.version - 1 if to_version is None else to_version
        return get(session, scope, wanted[0]).content

    return _change(database, text, old, if_version, author, "configuration.undo", lambda: f"undo: as version {wanted[0]}")


def store(session: Session, scope: str, content: dict[str, Any], if_version: int | None, author: Author, deed: str) -> Layer:
    """Write down a content that was checked: a new version; the same again changes nothing.

    ConflictError when somebody changed the scope since ``if_version``.
    """
    if len(author.why) > MAX_WHY:
        raise InvalidError(f"the reason has more than {MAX_WHY} characters")
    # A row to lock is there even the first time: two who both find nothing must not both begin with version 1.
    nothing = {"scope": scope, "version": 0, "content": {}, "changed_s": author.now_s, "changed_by": author.who, "why": ""}
    insert_new(session, ConfigurationRow, [nothing], keys=["scope"])
    row = session.get(ConfigurationRow, scope, with_for_update=True, populate_existing=True)
    assert row is not None
    version, before = row.version, row.content
    if if_version is not None and if_version != version:
        raise ConflictError(f"{scope} has version {version} by now, not {if_version}", "look again, then change it")
    if version and before == content:
        return _layer(row)
    values = {
        "version": version + 1, "content": content, "changed_s": author.now_s, "changed_by": author.who, "why": author.why,
    }  # fmt: skip
    for name, value in values.items():
        setattr(row, name, value)
    session.add(ConfigurationVersionRow(scope=scope, **values))
    audit.record(
        session, who=author.who, what=deed, target=scope, before=before, after=content, origin=author.origin, now_s=author.now_s
    )  # fmt: skip
    note_change(session, "configuration")
    note_change(session, "devices")
    return Layer(scope, version + 1, content, author.now_s, author.who, author.why)


def pass_on(session: Session, old: str, new: str, author: Author) -> None:
    """A device that takes another's place is told what that one was told for itself; it was looked through when it was stored."""
    said = get(session, of_device(old))
    if said.version and said.content:
        store(session, of_device(new), said.content, None, author, "configuration.put")


def _change(
    database: Database, text: str, wanted: Callable[[Session, str], dict[str, Any]], if_version: int | None, author: Author,
    deed: str, why: Callable[[], str] = str,
) -> Layer:  # fmt: skip
    for _ in range(TRIES):
        with database.read() as session:
            scope = scope_to_change(session, text, author.now_s, author.groups)
            looked_at = _versions(session, scope)
            content = wanted(session, scope)
            found = check(session, scope, content, author.now_s)
        if found:
            raise FaultyError(f"the configuration of {scope} cannot be used", [fault._asdict() for fault in found])
        told = replace(author, why=author.why or why())
        with database.write() as session:
            if _versions(session, scope) == looked_at or (if_version is not None and if_version != looked_at.get(scope, 0)):
                return store(session, scope, content, if_version, told, deed)
    raise ConflictError("other layers of the configuration change all the time", "try again")


def _versions(session: Session, scope: str) -> dict[str, int]:
    """The versions of the layers that one of this scope may lie over or under."""
    query = select(ConfigurationRow.scope, ConfigurationRow.version)
    if scope.startswith("device:"):
        query = query.where(ConfigurationRow.scope.in_(scopes_over(session, scope.partition(":")[2])))
    return {row.scope: row.version for row in session.execute(query)}


def scopes_over(session: Session, device_id: str) -> list[str]:
    """The scopes of a device from the lowest up."""
    here = inventory.presences(session, [device_id], 0.0).get(device_id)
    return [FLEET, *([f"group:{here.group}"] if here is not None and here.group else []), of_device(device_id)]


def _stack(session: Session, device_id: str) -> list[Layer]:
    """The layers of a device from the lowest up; those that say nothing, too."""
    scopes = scopes_over(session, device_id)
    rows = session.scalars(select(ConfigurationRow).where(ConfigurationRow.scope.in_(scopes)))
    found = {row.scope: _layer(row) for row in rows}
    return [found.get(scope) or Layer(scope, 0, {}, 0.0, "") for scope in scopes]


def _named(session: Session, text: str, now_s: float, groups: Collection[str] | None) -> dict[str, Any]:
    kind, _, name = text.partition(":")
    if kind == "effective" and name:
        return effective(session, inventory.get(session, name, now_s, groups=groups).id)
    scope, at, version = text.rpartition("@")
    if not at:
        return get(session, scope_of(session, text, now_s, groups)).content
    if not version.isdecimal() or len(version) > 9:
        raise InvalidError(f"{version[:20]!r} is no number of a version")
    return get(session, scope_of(session, scope, now_s, groups), int(version)).content


def _layer(row: ConfigurationRow | ConfigurationVersionRow) -> Layer:
    return Layer(row.scope, row.version, row.content, row.changed_s, row.changed_by, row.why)
