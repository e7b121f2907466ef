"""Alerts: one row from when a condition begins to hold until it no longer does. Whoever evaluates conditions hands them in."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from fleet_server.alerts.tables import AlertRow, WebhookCallRow, WebhookRow
from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.errors import ConflictError, NotFoundError
from fleet_server.inventory.reach import ids_in
from fleet_server.rollouts.reach import ids_inside

KINDS = (
    "device_silent", "trouble", "rollout_paused", "disk_full", "verifier_dead", "broker_down", "trust", "expiry", "reconcile",
    "metadata_lag", "limited", "clone",
)  # fmt: skip
MAX_CALL_ATTEMPTS = 8
MAX_WAITING_CALLS = 1000
"""A webhook that is down for weeks must not fill the database; the page has the alerts anyway."""
MAX_WEBHOOKS = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that needs a person, as it holds now. One alert per (kind, subject)."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; open while ``resolved_s`` is None."""

    id: str
    kind: str
    subject: str
    text: str
    opened_s: float
    resolved_s: float | None
    acknowledged_s: float | None
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of alerts, and how the last telling went."""

    id: str
    url: str
    created_s: float
    created_by: str
    last_s: float | None
    last_result: str


@dataclass(frozen=True, slots=True)
class Call:
    """One message to one webhook that is due."""

    id: int
    webhook: str
    url: str
    body: dict[str, Any]
    attempts: int


def reconcile(session: Session, conditions: Sequence[Condition], now_s: float, *, kinds: Collection[str] = KINDS) -> int:
    """Begin alerts for new conditions, resolve those that no longer hold; answers how many changed. Idempotent.

    ``kinds`` says what was evaluated: alerts of other kinds are left alone.
    """
    holding = {(one.kind, one.subject): one for one in conditions if one.kind in kinds}
    standing = {
        (row.kind, row.subject): row
        for row in session.scalars(select(AlertRow).where(AlertRow.resolved_s.is_(None), AlertRow.kind.in_(list(kinds))))
    }
    changed = 0
    for key, condition in holding.items():
        row = standing.get(key)
        if row is None:
            row = AlertRow(
                id=f"a-{secrets.token_hex(4)}", kind=condition.kind, subject=condition.subject, text=condition.text,
                opened_s=now_s,
                resolved_s=None, acknowledged_s=None, acknowledged_by=None,
            )  # fmt: skip
            session.add(row)
            _tell(session, "opened", row, now_s)
            changed += 1
        elif row.text != condition.text and condition.kind != "device_silent":
            row.text = condition.text
            changed += 1
    for key, row in standing.items():
        if key not in holding:
            row.resolved_s = now_s
            _tell(session, "resolved", row, now_s)
            changed += 1
    if changed:
        note_change(session, "alerts")
    return changed


def alerts(
    session: Session, *, only_open: bool = False, limit: int = 500, groups: Collection[str] | None = None
) -> list[Alert]:
    """Alerts, newest first; with groups those about their devices and about rollouts that reach no others."""
    query = _about(select(AlertRow).order_by(AlertRow.opened_s.desc(), AlertRow.id).limit(limit), groups)
    if only_open:
        query = query.where(AlertRow.resolved_s.is_(None))
    return [_alert(row) for row in session.scalars(query)]


def acknowledge(
    session: Session, alert_id: str, *, who: str, now_s: float, origin: str = "", groups: Collection[str] | None = None
) -> Alert:
    """Somebody is on it; the first one stays named."""
    row = session.scalars(_about(select(AlertRow).where(AlertRow.id == alert_id), groups)).first()
    if row is None:
        raise NotFoundError(f"there is no alert {alert_id}")
    if row.acknowledged_s is None:
        row.acknowledged_s, row.acknowledged_by = now_s, who
        after = {"acknowledged_by": who, "kind": row.kind, "subject": row.subject}
        audit.record(session, who=who, what="alert.acknowledge", target=alert_id, after=after, origin=origin, now_s=now_s)
        note_change(session, "alerts")
    return _alert(row)


def add_webhook(session: Session, url: str, *, who: str, now_s: float, origin: str = "") -> Webhook:
    """Tell this address of alerts from now on; ``url`` was checked by the caller."""
    rows = list(session.scalars(select(WebhookRow)))
    if any(row.url == url for row in rows):
        raise ConflictError("this address is there already")
    if len(rows) >= MAX_WEBHOOKS:
        raise ConflictError(f"there are {MAX_WEBHOOKS} webhooks already", "delete one first")
    row = WebhookRow(id=f"w-{secrets.token_hex(4)}", url=url, created_s=now_s, created_by=who, last_s=None, last_result="")
    session.add(row)
    audit.record(session, who=who, what="webhook.add", target=row.id, after=_named(url), origin=origin, now_s=now_s)
    return _webhook(row)


def remove_webhook(session: Session, webhook_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """Tell it nothing more; what still waits for it is dropped."""
    row = session.get(WebhookRow, webhook_id)
    if row is None:
        raise NotFoundError(f"there is no webhook {webhook_id}")
    for call in session.scalars(select(WebhookCallRow).where(WebhookCallRow.webhook_id == webhook_id)):
        session.delete(call)
    session.delete(row)
    audit.record(session, who=who, what="webhook.remove", target=webhook_id, before=_named(row.url), origin=origin, now_s=now_s)


def _named(url: str) -> dict[str, str]:
    """A webhook in the audit. Path, query and user may hold a secret of the receiver: host and port alone."""
    place = urlsplit(url)
    return {"address": f"{place.scheme}://{place.netloc.rpartition('@')[2]}"}


def webhooks(session: Session) -> list[Webhook]:
    """All webhooks."""
    return [_webhook(row) for row in session.scalars(select(WebhookRow).order_by(WebhookRow.created_s))]


def due_calls(session: Session, now_s: float, limit: int = 20) -> list[Call]:
    """Messages that are to be sent now. Send them OUTSIDE a transaction, then say how it went with ``note_call``."""
    query = select(WebhookCallRow).where(WebhookCallRow.next_s <= now_s).order_by(WebhookCallRow.id).limit(limit)
    found = []
    for row in session.scalars(query):
        webhook = session.get(WebhookRow, row.webhook_id)
        if webhook is not None:
            found.append(Call(row.id, row.webhook_id, webhook.url, row.body, row.attempts))
    return found


def note_call(session: Session, call: Call, problem: str | None, now_s: float) -> None:
    """It went through (None), or not: then again later, each time after twice as long, and given up in the end."""
    row = session.get(WebhookCallRow, call.id)
    webhook = session.get(WebhookRow, call.webhook)
    if webhook is not None:
        webhook.last_s, webhook.last_result = now_s, problem or "ok"
    if row is None:
        return
    row.attempts += 1
    if problem is None or row.attempts >= MAX_CALL_ATTEMPTS:
        session.delete(row)
    else:
        row.next_s = now_s + 5.0 * 2**row.attempts


def _tell(session: Session, what: str, row: AlertRow, now_s: float) -> None:
    hooks = list(session.scalars(select(WebhookRow.id)))
    if not hooks:
        return
    waiting = session.scalars(select(WebhookCallRow.id).limit(MAX_WAITING_CALLS)).all()
    if len(waiting) >= MAX_WAITING_CALLS:
        return
    for webhook_id in hooks:
        body = {"v": 1, "what": what, "alert": asdict(_alert(row))}
        session.add(WebhookCallRow(webhook_id=webhook_id, body=body, attempts=0, next_s=now_s))


def _about(query: "Select[AlertRow]", groups: Collection[str] | None) -> "Select[AlertRow]":
    if groups is None:
        return query
    rollout = and_(AlertRow.kind == "rollout_paused", AlertRow.subject.in_(ids_inside(groups)))
    return query.where(or_(AlertRow.subject.in_(ids_in(groups)), rollout))


def _alert(row: AlertRow) -> Alert:
    return Alert(row.id, row.kind, row.subject, row.text, row.opened_s, row.resolved_s, row.acknowledged_s, row.acknowledged_by)


def _webhook(row: WebhookRow) -> Webhook:
    return Webhook(row.id, row.url, row.created_s, row.created_by, row.last_s, row.last_result)
