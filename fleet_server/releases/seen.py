"""What devices have seen of the signed metadata: how a restored server learns that it is behind, and who lags."""

from collections.abc import Collection, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet_server.database import upsert
from fleet_server.releases.reconciling import Standing, is_ahead, judge
from fleet_server.releases.tables import MetadataSeenRow

MAX_ROLES = 64
"""Of one device's word: a fleet has a handful of roles."""


def note(session: Session, device_id: str, versions: Mapping[str, int], ours: Mapping[str, int], now_s: float) -> None:
    """Keep what the device says that it has seen; a write only when it says something new. An empty word says nothing."""
    if not versions:
        return
    kept = dict(sorted(versions.items())[:MAX_ROLES])
    ahead = is_ahead(kept, ours)
    row = session.get(MetadataSeenRow, device_id)
    if row is not None and (row.versions, row.ahead) == (kept, ahead):
        return
    values = {"device_id": device_id, "versions": kept, "ahead": ahead, "at_s": now_s}
    upsert(session, MetadataSeenRow, [values], keys=["device_id"], update=["versions", "ahead", "at_s"])
    session.expire_all()


def is_device_ahead(session: Session, device_id: str, versions: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """Whether this device knows newer metadata than we publish: by its own word, or (an agent of before) by its last report."""
    if versions:
        return is_ahead(versions, ours)
    row = session.get(MetadataSeenRow, device_id)
    return row is not None and row.ahead and is_ahead(_numbers(row), ours)


def standing(session: Session, ours: Mapping[str, int]) -> Standing:
    """Whether the server is behind its devices, and what follows."""
    rows = session.scalars(select(MetadataSeenRow).where(MetadataSeenRow.ahead.is_(True)))
    claims = {row.device_id: _numbers(row) for row in rows}
    fleet = session.scalar(select(func.count()).select_from(MetadataSeenRow)) or 0
    return judge(ours, claims, fleet)


def believed_version(session: Session, role: str, ours: Mapping[str, int]) -> int:
    """The version of this role that devices have seen, when it is above ours and believed; else 0."""
    return next((one.seen for one in standing(session, ours).behind if one.role == role), 0)


def last_news_s(session: Session, devices: Collection[str]) -> dict[str, float]:
    """When each of these devices last said that it has seen newer metadata than before."""
    query = select(MetadataSeenRow.device_id, MetadataSeenRow.at_s).where(MetadataSeenRow.device_id.in_(list(devices)))
    return {row.device_id: row.at_s for row in session.execute(query)}


def _numbers(row: MetadataSeenRow) -> dict[str, int]:
    return {role: int(version) for role, version in row.versions.items()}
