"""Enrolment rules in the database: made, listed, removed, asked."""

from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.enrolment import rules, tokens_linux
from fleet_server.enrolment.claims_csv import NAME, NAME_RULE, PROFILE, PROFILE_RULE
from fleet_server.enrolment.rules import Rule, Verdict
from fleet_server.enrolment.tables import EnrolmentRow, RuleRow
from fleet_server.errors import ConflictError, InvalidError, NotFoundError
from fleet_server.inventory import succession as devices

MAX_RULES = 100
MOST_PER_DAY = 10_000
LONGEST_S = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """A rule as it is listed. ``let_in``: boards of the last 24 h; ``open``: whether it still lets anybody in."""

    id: str
    profile: str
    serial: str
    group: str
    most_per_day: int
    until_s: float
    created_s: float
    created_by: str
    let_in: int
    open: bool


def add_rule(
    session: Session, *, profile: str, serial: str, group: str, most_per_day: int, until_s: float, who: str, origin: str,
    now_s: float,
) -> RuleEntry:  # fmt: skip
    """A new rule, behind those that are there. InvalidError for one that would let in whoever comes, or for ever."""
    if not profile and not serial.strip("*?"):
        raise InvalidError("a rule needs a profile, or a pattern of serial numbers with letters in it")
    if profile and not PROFILE.fullmatch(profile):
        raise InvalidError(f"profile {PROFILE_RULE}")
    if len(serial) > rules.MAX_PATTERN or not serial.isprintable():
        raise InvalidError(f"serial is a pattern of at most {rules.MAX_PATTERN} printable characters with * and ?")
    if not NAME.fullmatch(group):
        raise InvalidError(f"group {NAME_RULE}")
    if not 1 <= most_per_day <= MOST_PER_DAY:
        raise InvalidError(f"most_per_day must be from 1 to {MOST_PER_DAY}")
    if not now_s < until_s <= now_s + LONGEST_S:
        raise InvalidError(f"until_s must lie ahead, by {LONGEST_S / 86_400:.0f} days at most")
    if (session.scalar(select(func.count()).select_from(RuleRow)) or 0) >= MAX_RULES:
        raise ConflictError(f"there are {MAX_RULES} rules already", "remove one: rookery rule remove")
    rule = Rule(tokens_linux.new_id("r"), profile, serial, group, most_per_day, until_s, now_s, who)
    session.add(RuleRow(**asdict(rule)))
    audit.record(session, who=who, what="rule.create", target=rule.id, origin=origin, now_s=now_s, after=_terms(rule))
    note_change(session, "enrolments")
    return RuleEntry(**asdict(rule), let_in=0, open=True)


def remove_rule(session: Session, rule_id: str, *, who: str, origin: str, now_s: float) -> None:
    """The rule lets nobody in from now on; whom it has let in stays."""
    row = session.get(RuleRow, rule_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no rule {rule_id!r}", "`rookery rule list` shows them")
    audit.record(session, who=who, what="rule.remove", target=rule_id, origin=origin, now_s=now_s, before=_terms(_rule(row)))
    session.delete(row)
    note_change(session, "enrolments")


def all_rules(session: Session, now_s: float) -> list[RuleEntry]:
    """Every rule, in the order in which they are asked."""
    let_in = _let_in(session, now_s)
    found = []
    for rule in _rules(session):
        count = let_in.get(rule.id, 0)
        found.append(RuleEntry(**asdict(rule), let_in=count, open=rule.until_s >= now_s and count < rule.most_per_day))
    return found


def decide_now(session: Session, serial: str, profile: str, now_s: float) -> Verdict:
    """What the rules say about a board of this serial number and profile, and why."""
    known = _rules(session)
    taken_by = devices.of_serial(session, serial) if known else ""
    return rules.decide(
        known, serial=serial, profile=profile, let_in=_let_in(session, now_s) if known else {}, taken_by=taken_by, now_s=now_s
    )


def _rules(session: Session) -> list[Rule]:
    return [_rule(row) for row in session.scalars(select(RuleRow).order_by(RuleRow.created_s, RuleRow.id))]


def _rule(row: RuleRow) -> Rule:
    return Rule(row.id, row.profile, row.serial, row.group, row.most_per_day, row.until_s, row.created_s, row.created_by)


def _terms(rule: Rule) -> dict[str, object]:
    return {key: value for key, value in asdict(rule).items() if not key.startswith("created") and key != "id"}


def _let_in(session: Session, now_s: float) -> dict[str, int]:
    query = (
        select(EnrolmentRow.rule_id, func.count())
        .where(EnrolmentRow.rule_id.is_not(None), EnrolmentRow.state == "accepted", EnrolmentRow.decided_s > now_s - rules.DAY_S)
        .group_by(EnrolmentRow.rule_id)
    )
    return {str(rule): count for rule, count in session.execute(query)}
