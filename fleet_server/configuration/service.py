"""What devices are told to do differently: the fleet's settings with the device's own over them. Delivered in the assignment."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.configuration.tables import ConfigurationRow
from fleet_server.database import note_change
from fleet_server.errors import ConflictError, InvalidError

FLEET = "fleet"
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings of one scope; ``version`` 0: none were ever given."""

    scope: str
    version: int
    content: dict[str, Any]
    changed_s: float
    changed_by: str


def get(session: Session, scope: str) -> Configuration:
    """The settings of the fleet or of one device."""
    row = session.get(ConfigurationRow, scope)
    if row is None:
        return Configuration(scope, 0, {}, 0.0, "")
    return Configuration(row.scope, row.version, row.content, row.changed_s, row.changed_by)


def effective(session: Session, device_id: str) -> dict[str, Any]:
    """What one device is told: the fleet's settings, then its own, key by key of the top level."""
    rows = session.scalars(select(ConfigurationRow).where(ConfigurationRow.scope.in_((FLEET, device_id))))
    found = {row.scope: row.content for row in rows}
    return {**found.get(FLEET, {}), **found.get(device_id, {})}


def put(
    session: Session, scope: str, content: dict[str, Any], *, if_version: int | None, who: str, origin: str, now_s: float
) -> Configuration:
    """Replace the settings of a scope. ConflictError when somebody changed them since ``if_version``."""
    if len(msgspec.json.encode(content)) > MAX_BYTES:
        raise InvalidError(f"a configuration has at most {MAX_BYTES} bytes")
    row = session.get(ConfigurationRow, scope, with_for_update=True)
    version = row.version if row else 0
    if if_version is not None and if_version != version:
        raise ConflictError(f"the configuration has version {version} by now, not {if_version}", "look again, then change it")
    before = row.content if row else {}
    if row is None:
        session.add(ConfigurationRow(scope=scope, version=1, content=content, changed_s=now_s, changed_by=who))
    else:
        row.version, row.content, row.changed_s, row.changed_by = version + 1, content, now_s, who
    audit.record(
        session, who=who, what="configuration.put", target=scope, before=before, after=content, origin=origin, now_s=now_s
    )  # fmt: skip
    note_change(session, "devices")
    return Configuration(scope, version + 1, content, now_s, who)
