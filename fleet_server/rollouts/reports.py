"""What devices report of their deployments: stored once, then taken over into inventory and rollouts."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import insert_new, note_change
from fleet_server.errors import InvalidError
from fleet_server.inventory import service as inventory
from fleet_server.releases import service as releases
from fleet_server.rollouts.gates import ASIDE, ENDED, TERMINAL
from fleet_server.rollouts.tables import ReportMarkRow, ReportRow, RolloutDeviceRow, RolloutRow
from fleet_server.rollouts.targets import set_target, target
from fleet_server.stream_mark import mark_after
from ota.wire import codec
from ota.wire.deployments import DEPLOYMENT_STATES, SERVER, DeploymentReport, ReportBatch, fault_of
from ota.wire.events import Stored

MAX_BOOTS_REMEMBERED = 50


def store_reports(session: Session, device_id: str, batch: ReportBatch, *, now_s: float) -> Stored:
    """Store the reports that are not there yet and take them over in their order; answers the mark (``stream_mark``)."""
    sequences = [report.sequence for report in batch.reports]
    if sequences != sorted(set(sequences)):
        raise InvalidError("the reports are not in rising order of their sequence")
    mark = session.get(ReportMarkRow, device_id, with_for_update=True)
    if mark is None:
        mark = ReportMarkRow(device_id=device_id, stored=0, counter=batch.counter, boot_id=batch.boot_id, boots_seen=[])
        session.add(mark)
        session.flush()
    fork = fork_reason(mark.counter, mark.boot_id, [str(boot) for boot in mark.boots_seen], batch)
    if fork is not None:
        _hold(session, device_id, f"{fork} ({_sides(session, device_id, mark.boot_id, batch, now_s)})", now_s)
    if batch.boot_id != mark.boot_id:
        mark.boots_seen = [*mark.boots_seen, mark.boot_id][-MAX_BOOTS_REMEMBERED:]
        mark.boot_id = batch.boot_id
    mark.counter = max(mark.counter, batch.counter)
    if batch.facts is not None:
        inventory.record_facts(session, device_id, batch.facts)
    inventory.record_seen(session, device_id, now_s)
    refused: dict[str, str] = {}
    unknown = _unknown(session, device_id, batch.reports)
    new = [report.sequence for report in unknown if report.state in DEPLOYMENT_STATES]
    stored = mark_after(mark.stored, sequences[-1], new) if sequences else mark.stored
    if stored < mark.stored:
        inventory.forget_report_number(session, device_id)
    for report in unknown:
        if report.state not in DEPLOYMENT_STATES:
            refused[str(report.sequence)] = f"state {report.state!r} is not known here"
            continue
        row = {"device_id": device_id, "sequence": report.sequence, "at_s": report.at_s, "target_sha256": report.target_sha256,
               "state": report.state, "body": codec.to_builtins(report), "received_s": now_s}  # fmt: skip
        insert_new(session, ReportRow, [row], keys=("device_id", "sequence", "at_s"))
        inventory.record_report(session, device_id, report, now_s)
        take_over(session, device_id, report, now_s)
    mark.stored = stored
    return Stored(stream="reports", sequence=stored, refused=refused)


def fork_reason(counter: int, boot_id: str, boots_seen: list[str], batch: ReportBatch) -> str | None:
    """Why this batch can only come from a second card with the same identity, or None. Pure."""
    if batch.counter < counter:
        return f"its report counter went back from {counter} to {batch.counter}: two cards bear this identity"
    if batch.counter == counter and batch.boot_id != boot_id:
        return f"report counter {counter} came from two boots: two cards bear this identity"
    if batch.boot_id != boot_id and batch.boot_id in boots_seen:
        return f"boot {batch.boot_id[:12]} came back after another one: two cards bear this identity"
    return None


def _sides(session: Session, device_id: str, boot_id: str, batch: ReportBatch, now_s: float) -> str:
    """Both of the cards, as far as they can be told apart: their boots, and their boards' serial numbers where they differ."""
    boots = f"boot {boot_id[:12]} and boot {batch.boot_id[:12]}"
    known = inventory.get(session, device_id, now_s).serial
    said = batch.facts.serial if batch.facts is not None else known
    return boots if said == known else f"{boots}; boards with the serial numbers {known or 'unknown'} and {said or 'unknown'}"


def _hold(session: Session, device_id: str, reason: str, now_s: float) -> None:
    """Hold the device back, once: two cards that take turns do not write the audit full."""
    if inventory.get(session, device_id, now_s).held is None:
        inventory.record_held(session, device_id, reason)
        audit.record(
            session, who="server", what="device.hold", target=device_id, before={"held": None}, after={"held": reason},
            now_s=now_s,
        )  # fmt: skip


def release_hold(session: Session, device_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """An operator has decided: the device takes part in updates again, and is watched from here on."""
    mark = session.get(ReportMarkRow, device_id)
    if mark is not None:
        mark.boots_seen, mark.counter = [], 0
    held = inventory.get(session, device_id, now_s).held
    inventory.record_held(session, device_id, None)
    audit.record(
        session, who=who, what="device.unhold", target=device_id, before={"held": held}, after={"held": None}, origin=origin,
        now_s=now_s,
    )  # fmt: skip


def begin_anew(session: Session, device_id: str) -> None:
    """A new key, an empty disk: whatever counter and boot id come next are the device's own; it is watched from there on."""
    mark = session.get(ReportMarkRow, device_id, with_for_update=True)
    if mark is not None:
        session.delete(mark)
        session.flush()
    inventory.forget_report_number(session, device_id)


def reports(session: Session, device_id: str, limit: int = 200) -> list[dict[str, Any]]:
    """A device's reports, newest first, each with ``received_s``."""
    query = select(ReportRow).where(ReportRow.device_id == device_id)
    found = session.scalars(query.order_by(ReportRow.received_s.desc(), ReportRow.sequence.desc()).limit(limit))
    return [{**row.body, "received_s": row.received_s} for row in found]


def _unknown(session: Session, device_id: str, given: list[DeploymentReport]) -> list[DeploymentReport]:
    if not given:
        return []
    query = select(ReportRow.sequence, ReportRow.at_s).where(
        ReportRow.device_id == device_id, ReportRow.sequence.in_([report.sequence for report in given])
    )
    known = {(sequence, at_s) for sequence, at_s in session.execute(query)}
    return [report for report in given if (report.sequence, report.at_s) not in known]


def take_over(session: Session, device_id: str, report: DeploymentReport, now_s: float) -> None:
    """Let the newest rollout of this release on this device know."""
    query = (
        select(RolloutDeviceRow, RolloutRow)
        .join(RolloutRow, RolloutRow.id == RolloutDeviceRow.rollout_id)
        .where(RolloutDeviceRow.device_id == device_id, RolloutRow.sha256 == report.target_sha256)
        .order_by(RolloutRow.created_s.desc(), RolloutRow.id)
    )
    if report.origin == "local" and report.state == "committed":
        _adopt(session, device_id, report, now_s)
    found = session.execute(query.limit(1)).first()
    if found is None or report.state == "idle":
        return
    row, rollout = found
    if report.state == "committed":
        if row.withdrawn:
            # The offer was taken back too late. It runs the release and trusts it: sending it back would only make it flap.
            set_target(
                session, device_id, rollout.release, source=f"rollout:{rollout.id}", now_s=now_s, kind=rollout.kind
            )
            row.withdrawn = False
    elif row.state in ASIDE or (row.state == "pending" and not row.withdrawn):
        return  # of an older try of the same release: this rollout has not offered it
    elif row.withdrawn and report.state in ASIDE:
        # That is the withdrawal arriving; the device is still to be offered the release when the rollout goes on.
        row.state, row.reason, row.detail, row.at_s = "pending", "", "the offer was withdrawn", now_s
        return
    row.state, row.reason, row.detail = _counted(report.state, report.reason), report.reason, report.detail
    row.running, row.at_s, row.behaviour_unseen = report.running, now_s, report.behaviour_unseen
    note_change(session, "rollouts")


def _counted(state: str, reason: str) -> str:
    """The state by which a device counts in its rollout.

    A refusal that the metadata, the assignment or the line is to blame for says nothing of device or release: the device asks
    again with the next assignment, so it waits, and a rollout in which all wait is held for a person.
    """
    return "waiting" if state == "refused" and fault_of(reason) == SERVER else state


def _adopt(session: Session, device_id: str, report: DeploymentReport, now_s: float) -> None:
    """Somebody with authority over the board installed a release there: that is its target now, not what stood before.

    A release that this server does not know becomes "keep what runs". Rollouts that had offered the device another one let go of
    it; one whose turn for it has not come still may offer it: that will be a newer word.
    """
    known = releases.release_of(session, report.target_sha256)
    meant = target(session, device_id, report.kind)
    if meant is None or meant.release != known:
        set_target(session, device_id, known, source="local", now_s=now_s, kind=report.kind)
    query = (
        select(RolloutDeviceRow)
        .join(RolloutRow, RolloutRow.id == RolloutDeviceRow.rollout_id)
        .where(RolloutDeviceRow.device_id == device_id, RolloutRow.kind == report.kind)
        .where(RolloutRow.sha256 != report.target_sha256, RolloutRow.state.not_in(TERMINAL))
        .where(RolloutDeviceRow.state.not_in((*ENDED, "pending")))
    )
    for row in session.scalars(query):
        row.state, row.reason, row.at_s = "superseded", "superseded", now_s
        row.detail = f"{report.target} was installed on the board itself"
