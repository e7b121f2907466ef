"""The queue behind the verifier: claimed under a lease, given back when the verifier dies, never lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from fleet_server.database import insert_new
from fleet_server.detections import service as detections
from fleet_server.detections.listing import crop_keys_in
from fleet_server.verification.tables import VerifyJobRow

LEASE_S = 60.0
MAX_ATTEMPTS = 3
"""A crop that ended this many attempts without a verdict is unreadable; else one poisoned crop would stop all others."""


@dataclass(frozen=True, slots=True)
class Job:
    """One crop to look at; ``label`` is the edge's."""

    key: str
    label: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier saw in one crop."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, and how long the oldest has waited (0 when nothing does)."""

    waiting: int
    oldest_age_s: float


def enqueue(session: Session, crops: Sequence[tuple[str, str]], now_s: float) -> int:
    """Queue crops (key, edge label) that are not there yet."""
    rows = [
        {"crop_key": key, "label": label, "state": "queued", "lease_until_s": 0.0, "owner": "", "attempts": 0, "created_s": now_s,
         "note": ""}
        for key, label in dict(crops).items()
    ]  # fmt: skip
    return insert_new(session, VerifyJobRow, rows, keys=["crop_key"])


def claim(session: Session, owner: str, *, now_s: float, limit: int = 8, lease_s: float = LEASE_S) -> list[Job]:
    """Take jobs for a while. Those whose verifier died under them come again; those that killed it too often are ended."""
    free = or_(VerifyJobRow.state == "queued", and_(VerifyJobRow.state == "leased", VerifyJobRow.lease_until_s <= now_s))
    query = select(VerifyJobRow).where(free).order_by(VerifyJobRow.created_s, VerifyJobRow.crop_key).limit(limit)
    jobs = []
    for row in session.scalars(query.with_for_update(skip_locked=True)):
        if row.attempts >= MAX_ATTEMPTS:
            _unreadable(session, row, row.note or "every attempt ended without an answer", now_s)
            continue
        row.state, row.owner, row.lease_until_s = "leased", owner, now_s + lease_s
        row.attempts += 1
        jobs.append(Job(row.crop_key, row.label, row.attempts))
    return jobs


def finish(session: Session, key: str, owner: str, verdict: Verdict, *, verifier: str, now_s: float) -> bool:
    """Keep the verdict; False when the job meanwhile belongs to somebody else."""
    row = _mine(session, key, owner)
    if row is None:
        return False
    row.state, row.note = "done", ""
    agrees = "agree" if verdict.label == row.label else "disagree"
    detections.set_verdict(session, key, verdict=agrees, label=verdict.label, score=verdict.score, verifier=verifier, now_s=now_s)
    return True


def fail(session: Session, key: str, owner: str, problem: str, *, now_s: float) -> None:
    """This crop could not be judged: again later, or unreadable after the last attempt."""
    row = _mine(session, key, owner)
    if row is None:
        return
    row.note = problem[:300]
    if row.attempts >= MAX_ATTEMPTS:
        _unreadable(session, row, row.note, now_s)
    else:
        row.state, row.owner = "queued", ""


def give_back(session: Session, jobs: Sequence[Job], owner: str) -> None:
    """The verifier itself is dead: the crops did nothing wrong, so the attempt does not count."""
    for job in jobs:
        row = _mine(session, job.key, owner)
        if row is not None:
            row.state, row.owner, row.attempts = "queued", "", max(0, row.attempts - 1)


def backlog(session: Session, now_s: float, groups: Collection[str] | None = None) -> Backlog:
    """What waits for a verdict; of the devices in these groups where some are named."""
    query = select(func.count(), func.min(VerifyJobRow.created_s)).where(VerifyJobRow.state != "done")
    if groups is not None:
        query = query.where(VerifyJobRow.crop_key.in_(crop_keys_in(groups)))
    count, oldest_s = session.execute(query).one()
    return Backlog(int(count), max(0.0, now_s - float(oldest_s)) if oldest_s is not None else 0.0)


def _mine(session: Session, key: str, owner: str) -> VerifyJobRow | None:
    row = session.get(VerifyJobRow, key, with_for_update=True)
    return row if row is not None and row.state == "leased" and row.owner == owner else None


def _unreadable(session: Session, row: VerifyJobRow, note: str, now_s: float) -> None:
    row.state, row.note = "done", note
    detections.set_verdict(session, row.crop_key, verdict="unreadable", label="", score=0.0, verifier="", now_s=now_s)
