"""Store and read log lines; begin and end debug sessions."""

import secrets
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import insert_new, note_change, upsert
from fleet_server.errors import InvalidError, NotFoundError
from fleet_server.logs.tables import DebugSessionRow, LogMarkRow, LogRow
from fleet_server.stream_mark import mark_after
from ota.wire.debug import FRAMES, DebugSession
from ota.wire.events import Stored
from ota.wire.logs import LEVELS, LogBatch

MAX_LINES_PER_DEVICE = 20_000
"""Older lines go first; a device in a loop cannot fill the database."""
MAX_COUNT = 2**53 - 1
MIN_SESSION_S = 1.0
MAX_SESSION_S = 86_400.0
MAX_OPEN_SESSIONS = 5


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a device's log."""

    sequence: int
    at_s: float
    level: str
    logger: str
    text: str
    session: str | None


@dataclass(frozen=True, slots=True)
class DebugSessionEntry:
    """One debug session; ``active`` while its device should log at ``log_level``."""

    id: str
    device: str
    log_level: str
    reason: str
    created_s: float
    created_by: str
    until_s: float
    ended_s: float | None
    active: bool
    ended: bool
    frames: str
    frames_asked: int
    frames_camera: str | None


def store_lines(session: Session, device_id: str, batch: LogBatch) -> Stored:
    """Store the lines that are not there yet; the answer is the device's mark after this batch (``stream_mark``)."""
    sequences = [line.sequence for line in batch.lines]
    if sequences != sorted(set(sequences)):
        raise InvalidError("the lines are not in rising order of their sequence")
    mark = session.get(LogMarkRow, device_id)
    if not sequences:
        return Stored(stream="logs", sequence=mark.stored if mark else 0)
    rows = [
        {"device_id": device_id, "sequence": line.sequence, "at_s": line.at_s, "level": line.level, "logger": line.logger,
         "text": line.text, "session": line.session}
        for line in batch.lines
    ]  # fmt: skip
    known = select(LogRow.sequence, LogRow.at_s).where(LogRow.device_id == device_id, LogRow.sequence.in_(sequences))
    present = {(sequence, at_s) for sequence, at_s in session.execute(known)}
    new = [line.sequence for line in batch.lines if (line.sequence, line.at_s) not in present]
    if insert_new(session, LogRow, rows, keys=("device_id", "sequence", "at_s")):
        note_change(session, "logs")
    # A repeated batch must not count its lost lines twice. And a device may say any number again and again: the sum ends where
    # every database can still hold it.
    dropped = min((mark.dropped if mark else 0) + (batch.dropped if new else 0), MAX_COUNT)
    stored = mark_after(mark.stored if mark else 0, sequences[-1], new)
    row = {"device_id": device_id, "stored": stored, "dropped": dropped}
    upsert(session, LogMarkRow, [row], keys=["device_id"], update=["stored", "dropped"])
    return Stored(stream="logs", sequence=stored)


def lines(
    session: Session, device_id: str, *, level: str | None = None, since_s: float | None = None, limit: int = 200
) -> list[LogEntry]:
    """The newest lines of this level and above, oldest first."""
    query = select(LogRow).where(LogRow.device_id == device_id)
    if level is not None:
        if level not in LEVELS:
            raise InvalidError(f"level {level!r} is not one of {', '.join(LEVELS)}")
        query = query.where(LogRow.level.in_(LEVELS[LEVELS.index(level) :]))
    if since_s is not None:
        query = query.where(LogRow.at_s >= since_s)
    found = session.scalars(query.order_by(LogRow.at_s.desc(), LogRow.sequence.desc()).limit(limit))
    return [LogEntry(row.sequence, row.at_s, row.level, row.logger, row.text, row.session) for row in found][::-1]


def prune(session: Session, keep: int = MAX_LINES_PER_DEVICE) -> int:
    """Forget the oldest lines of devices that have more than ``keep``; answers how many went."""
    counts = session.execute(select(LogRow.device_id, func.count()).group_by(LogRow.device_id).having(func.count() > keep))
    gone = 0
    for device_id, count in counts.all():
        newest = select(LogRow.at_s, LogRow.sequence).where(LogRow.device_id == device_id)
        newest = newest.order_by(LogRow.at_s.desc(), LogRow.sequence.desc())
        at_s, sequence = session.execute(newest.offset(keep - 1).limit(1)).one()
        # By the number as well: a device may say one and the same time of all its lines.
        older = (LogRow.at_s < at_s) | ((LogRow.at_s == at_s) & (LogRow.sequence < sequence))
        session.execute(delete(LogRow).where(LogRow.device_id == device_id, older))
        gone += int(count) - keep
    return gone


def create_session(
    session: Session, device_id: str, *, log_level: str, duration_s: float, reason: str, who: str, now_s: float, origin: str = "",
    frames: str = "none", camera: str | None = None,
) -> DebugSessionEntry:  # fmt: skip
    """Ask a device to log more until now + ``duration_s``, and for pictures. InvalidError for nonsense, or too many."""
    _check_frames(frames, camera)
    if log_level not in LEVELS:
        raise InvalidError(f"log level {log_level!r} is not one of {', '.join(LEVELS)}")
    if not MIN_SESSION_S <= duration_s <= MAX_SESSION_S:
        raise InvalidError(f"a session lasts {MIN_SESSION_S:.0f} to {MAX_SESSION_S:.0f} s, not {duration_s:g}")
    if not reason.strip():
        raise InvalidError("say why: the reason stands in the audit log")
    if len(active(session, device_id, now_s)) >= MAX_OPEN_SESSIONS:
        raise InvalidError(f"{MAX_OPEN_SESSIONS} sessions are open on this device", "end one of them first")
    row = DebugSessionRow(
        id=secrets.token_hex(6), device_id=device_id, log_level=log_level, reason=reason.strip(), created_s=now_s, created_by=who,
        until_s=now_s + duration_s, ended_s=None, woken=False, frames=frames, frames_asked=0 if frames == "none" else 1,
        frames_camera=camera,
    )  # fmt: skip
    session.add(row)
    after = {"session": row.id, "log_level": log_level, "until_s": row.until_s, "reason": row.reason, "frames": frames}
    audit.record(session, who=who, what="debug.begin", target=device_id, after=after, origin=origin, now_s=now_s)
    note_change(session, "devices")
    return _entry(row, now_s)


def ask_frames(
    session: Session, device_id: str, session_id: str, *, frames: str, camera: str | None, who: str, now_s: float,
    origin: str = "",
) -> DebugSessionEntry:  # fmt: skip
    """Ask for pictures within an open session; each call is one request. The board's own policy decides whether any come.

    NotFoundError where the device has no such session, InvalidError where it has ended or asks for nonsense.
    """
    _check_frames(frames, camera)
    if frames == "none":
        raise InvalidError("ask for the last frame or for a burst")
    row = session.get(DebugSessionRow, session_id, with_for_update=True)
    if row is None or row.device_id != device_id:
        raise NotFoundError(f"the device has no debug session {session_id}")
    if row.ended_s is not None or row.until_s <= now_s:
        raise InvalidError("this debug session has ended", "begin another one")
    before = {"session": row.id, "frames": row.frames, "camera": row.frames_camera, "asked": row.frames_asked}
    row.frames, row.frames_camera, row.frames_asked, row.woken = frames, camera, row.frames_asked + 1, False
    after = {"session": row.id, "frames": frames, "camera": camera, "asked": row.frames_asked}
    audit.record(
        session, who=who, what="debug.frames", target=device_id, before=before, after=after, origin=origin, now_s=now_s
    )  # fmt: skip
    note_change(session, "devices")
    return _entry(row, now_s)


def find_session(session: Session, device_id: str, session_id: str, now_s: float) -> DebugSessionEntry:
    """One session of a device, open or not; NotFoundError where it has none of that id."""
    row = session.get(DebugSessionRow, session_id)
    if row is None or row.device_id != device_id:
        raise NotFoundError(f"the device has no debug session {session_id}")
    return _entry(row, now_s)


def _check_frames(frames: str, camera: str | None) -> None:
    if frames not in FRAMES:
        raise InvalidError(f"frames {frames!r} is not one of {', '.join(FRAMES)}")
    if camera is not None and not 1 <= len(camera) <= 100:
        raise InvalidError("the name of a camera has 1 to 100 characters")


def end_session(session: Session, device_id: str, session_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """End it before its time; ending it twice does no harm. NotFoundError where the device has no such session."""
    row = session.get(DebugSessionRow, session_id)
    if row is None or row.device_id != device_id:
        raise NotFoundError(f"the device has no debug session {session_id}")
    if row.ended_s is not None or row.until_s <= now_s:
        return
    row.ended_s = now_s
    row.woken = False
    audit.record(
        session, who=who, what="debug.end", target=device_id, before={"session": row.id, "until_s": row.until_s},
        after={"session": row.id, "until_s": now_s}, origin=origin, now_s=now_s,
    )  # fmt: skip
    note_change(session, "devices")


def sessions(session: Session, device_id: str, now_s: float) -> list[DebugSessionEntry]:
    """All sessions of a device, newest first."""
    query = (
        select(DebugSessionRow)
        .where(DebugSessionRow.device_id == device_id)
        .order_by(DebugSessionRow.created_s.desc())
        .limit(200)
    )
    return [_entry(row, now_s) for row in session.scalars(query)]


def active(session: Session, device_id: str, now_s: float) -> list[DebugSession]:
    """What the assignment carries: the open sessions, in a fixed order."""
    query = select(DebugSessionRow).where(
        DebugSessionRow.device_id == device_id, DebugSessionRow.ended_s.is_(None), DebugSessionRow.until_s > now_s
    )
    found = session.scalars(query.order_by(DebugSessionRow.created_s, DebugSessionRow.id))
    return [
        DebugSession(
            id=row.id, until_s=row.until_s, log_level=row.log_level, frames=row.frames, frames_asked=row.frames_asked,
            camera=row.frames_camera,
        )
        for row in found
    ]  # fmt: skip


def take_unwoken(session: Session) -> list[str]:
    """Devices that should be woken because a session began or was ended; each is named once."""
    devices = list(session.scalars(select(DebugSessionRow.device_id).where(DebugSessionRow.woken.is_(False)).distinct()))
    if devices:
        session.execute(update(DebugSessionRow).where(DebugSessionRow.woken.is_(False)).values(woken=True))
    return devices


def has_unwoken(session: Session) -> bool:
    """Whether anybody is to be woken: a reader's look before a writer's lock."""
    return session.execute(select(DebugSessionRow.id).where(DebugSessionRow.woken.is_(False)).limit(1)).first() is not None


def _entry(row: DebugSessionRow, now_s: float) -> DebugSessionEntry:
    return DebugSessionEntry(
        row.id, row.device_id, row.log_level, row.reason, row.created_s, row.created_by, row.until_s, row.ended_s,
        row.ended_s is None and row.until_s > now_s, not (row.ended_s is None and row.until_s > now_s),
        row.frames, row.frames_asked, row.frames_camera,
    )  # fmt: skip
