"""The page of the audit: who did what, by person, target, kind and time; what each deed changed; whether the chain is whole."""

from datetime import UTC, datetime

from flask import Blueprint, render_template, request

from fleet_server.audit import service as audit
from fleet_server.context import context
from fleet_server.dashboard.differing import MOST, differences
from fleet_server.http_access import require

ROWS_PER_PAGE = 50
MAX_CHECKED = 50_000
"""Rows that a page checks while a person waits; more are for `rookery audit verify`."""


def add_audit_pages(blueprint: Blueprint) -> None:
    """Register the page."""
    blueprint.add_url_rule("/audit", audit_log.__name__, audit_log, methods=["GET"])


@require("viewer")
def audit_log() -> str:
    """Rows that fit the filter, newest first; ``check=1`` recomputes the whole chain."""
    here = context()
    chosen = {key: request.args.get(key, "").strip()[:400] for key in ("who", "target", "what", "since", "until")}
    times, problem = {}, ""
    for key in ("since", "until"):
        times[key], fault = _instant(chosen[key])
        problem = problem or fault
    wanted = audit.Wanted(chosen["who"], chosen["target"], chosen["what"], times["since"], times["until"])
    cursor = request.args.get("cursor", type=int)
    with here.database.read() as db:
        head = audit.head(db)
        # A number beyond 64 bits is no row's; NUL is in no text.
        fits = not problem and not any("\0" in one for one in chosen.values()) and (cursor is None or 0 <= cursor < 2**53)
        found = audit.entries(db, wanted, before_id=cursor, limit=ROWS_PER_PAGE) if fits else []
    asked = request.args.get("check", "") == "1"
    checked = audit.checked(here.database) if asked and head.id <= MAX_CHECKED else None
    rows = [(one, (changed := differences(one.before, one.after))[:MOST], len(changed)) for one in found]
    return render_template(
        "audit.html", rows=rows, chosen=chosen, problem=problem, head=head, checked=checked, too_long=asked and checked is None,
        older=found[-1].id if len(found) == ROWS_PER_PAGE else None, most_checked=MAX_CHECKED, spans=times, topics="audit",
    )  # fmt: skip


def _instant(text: str) -> tuple[float | None, str]:
    """Seconds since 1970 of a field's date and time in UTC, or what is wrong with it."""
    if not text:
        return None, ""
    try:
        found = datetime.fromisoformat(text)
        at_s = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        if at_s < 0:
            raise ValueError
    except (ValueError, OverflowError):
        return None, f"{text[:40]!r} is no date and time, for instance 2026-11-23T14:30"
    return at_s, ""
