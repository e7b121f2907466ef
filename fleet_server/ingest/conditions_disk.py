"""What needs a person right now, gathered from the services for ``alerts``."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.orm import Session

from fleet_server.alerts.parts import parts
from fleet_server.alerts.service import Condition
from fleet_server.enrolment import limited
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import Presence
from fleet_server.releases import seen
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts import targets
from fleet_server.verification import service as verification
from ota.trust.expiry_warnings import expiry_warnings

SILENT_AFTER_S = 300.0
"""An enrolled device that was heard before and is silent for this long (or twice the online window, if longer) alerts."""
LOW_DISK_BYTES = 512 * 1024 * 1024
LOW_DISK_SHARE = 0.02
LAG_AFTER_S = 86_400.0
"""A maintenance window opens at least once a day."""
BACKLOG_AGE_S = 300.0
"""A verifier that answers and lets crops wait this long is as good as dead."""


def gather(
    session: Session, *, data_dir: Path, now_s: float, within_s: float, versions: Mapping[str, int] | None = None,
    expires_s: Mapping[str, float] | None = None,
) -> list[Condition]:  # fmt: skip
    """Every condition that holds now. ``versions`` and ``expires_s``: of the published metadata, by role."""
    found: list[Condition] = []
    after_s = max(SILENT_AFTER_S, 2 * within_s)
    fleet = inventory.presences(session, None, now_s, within_s)
    for one in fleet.values():
        if not one.online and not one.revoked and one.last_seen_s is not None and now_s - one.last_seen_s > after_s:
            text = f"{one.name} is silent: not heard for {after_s:.0f} s or longer"
            found.append(Condition("device_silent", one.id, text))
        if one.trouble and one.online and not one.revoked:
            found.append(Condition("trouble", one.id, f"{one.name}: {one.trouble}"))
        if one.held and not one.revoked:
            text = f"{one.name} is held back from updates: {one.held}; the ways on are on its page, under identity"
            found.append(Condition("clone", one.id, text))
    found += stopped_rollouts(session)
    disk = disk_condition(data_dir)
    if disk is not None:
        found.append(disk)
    known = parts(session)
    if "broker" in known and not known["broker"].ok:
        found.append(Condition("broker_down", "broker", known["broker"].note))
    backlog = verification.backlog(session, now_s)
    verifier = known.get("verifier")
    if verifier is not None and (not verifier.ok or backlog.oldest_age_s > BACKLOG_AGE_S) and verifier.note != "none":
        note = "it is too slow" if verifier.ok else verifier.note
        found.append(Condition("verifier_dead", "verifier", f"{note} ({backlog.waiting} crops wait)"))
    trust = known.get("trust")
    if trust is not None and not trust.ok:
        found.append(Condition("trust", "repository", trust.note))
    found += [Condition("expiry", one.role, one.text) for one in expiry_warnings(expires_s or {}, now_s)]
    found += _lagging(session, fleet, now_s)
    found += limited_callers(session, now_s, {device: one.name for device, one in fleet.items()})
    standing = seen.standing(session, versions or {})
    if standing.texts:
        found.append(Condition("reconcile", "repository", "; ".join(standing.texts)))
    return found


def _lagging(session: Session, fleet: Mapping[str, Presence], now_s: float) -> list[Condition]:
    """Devices that poll, were offered a release long ago and have seen no newer metadata since: a freeze looks like that."""
    waiting = targets.unheeded(session, now_s - LAG_AFTER_S)
    news = seen.last_news_s(session, waiting)
    found = []
    for device, (release, since_s) in sorted(waiting.items()):
        if device in fleet and fleet[device].online and news.get(device, 0.0) <= since_s:
            hours = (now_s - since_s) / 3600
            name = fleet[device].name
            text = f"{name} polls, was offered {release} {hours:.0f} hours ago and has fetched no signed metadata since"
            found.append(Condition("metadata_lag", device, f"{text}: is something between it and the server holding it back?"))
    return found


def limited_callers(session: Session, now_s: float, names: Mapping[str, str] | None = None) -> list[Condition]:
    """Devices (by name, where ``names`` knows it) and strangers that the device door has told to come back later just now."""
    found = []
    for one in limited.now_limited(session, now_s):
        known = {limited.STRANGERS: "somebody without a certificate", **(names or {})}
        who = known.get(one.subject, one.subject)
        text = f"{who} sends the device door too many {one.what} and is told to wait ({one.times} times): {one.detail}"
        found.append(Condition("limited", one.subject, text))
    return found


def stopped_rollouts(session: Session) -> list[Condition]:
    """Rollouts that wait for a person."""
    return [
        Condition("rollout_paused", str(rollout.id), f"rollout of {rollout.release}: {rollout.reason}")
        for rollout in rollouts.rollouts(session, open_only=True)
        if rollout.state in ("paused", "held")
    ]


def disk_condition(data_dir: Path) -> Condition | None:
    """Whether the server's own disk is nearly full."""
    usage = shutil.disk_usage(data_dir)
    if usage.free >= LOW_DISK_BYTES or usage.free >= usage.total * LOW_DISK_SHARE:
        return None
    return Condition(
        "disk_full", "server", f"{usage.free // 2**20} MiB are left on the server's disk; crops and releases need room"
    )
