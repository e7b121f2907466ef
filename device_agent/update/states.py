"""THE TABLE of a deployment: state, event, next state, actions; what a restart makes of each state, and how long it may last.

A deployment is one release on this device. Every state but ``idle`` is written down before its actions begin, and every action
can be done twice, so that a power cut at any moment is answered by the row (state, ``interrupted``). The diagram in
``docs/update-states.md`` is drawn from here.
"""

from dataclasses import dataclass

TRIAL_DEADLINE_S = 25 * 3600.0
"""A trial is judged within its own limits (`health.TrialLimits`, at most 24 h); this ends one whose judge never spoke."""


@dataclass(frozen=True, slots=True)
class StateFact:
    """What holds for a state: written down before it acts, what an interrupted one resumes as, how long it may last (seconds)."""

    meaning: str
    persisted: bool = True
    resumes_as: str = ""
    deadline_s: float | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """In ``state``, ``event`` leads to ``next``, and ``actions`` are performed in order once ``next`` is written down."""

    state: str
    event: str
    next: str
    actions: tuple[str, ...] = ()


STATES: dict[str, StateFact] = {
    "idle": StateFact("nothing is wanted that does not run", persisted=False, resumes_as="idle"),
    "offered": StateFact("metadata, device rule, the board's conditions; room is made", resumes_as="offered", deadline_s=900.0),
    "waiting": StateFact("something must pass first: see the reason", resumes_as="waiting", deadline_s=7 * 86400.0),
    "downloading": StateFact("files of this board's variant are fetched", resumes_as="downloading", deadline_s=6 * 3600.0),
    "verifying": StateFact("every file is hashed again from the disk", resumes_as="verifying", deadline_s=1800.0),
    "staging": StateFact("hooks are asked, files are unpacked into their install place", resumes_as="staging", deadline_s=1800.0),
    "selftest": StateFact("golden samples run on this board's runtime", resumes_as="selftest", deadline_s=1800.0),
    "trial": StateFact("it runs and is watched; the old one waits", resumes_as="trial", deadline_s=TRIAL_DEADLINE_S),
    "committed": StateFact("it stays; the floor is raised", resumes_as="committed", ended=True),
    "rolled_back": StateFact("the release before runs again", resumes_as="rolled_back", ended=True),
    "refused": StateFact("it never ran; what ran before goes on", resumes_as="refused", ended=True),
    "superseded": StateFact("a newer assignment took its place before it ran", resumes_as="superseded", ended=True),
    "cancelled": StateFact("the assignment was withdrawn before it ran", resumes_as="cancelled", ended=True),
}

EVENTS: dict[str, str] = {
    "assigned": "an assignment that passed its checks wants a bundle that does not run",
    "resolved": "the device rule accepts the bundle and a variant fits",
    "blocked": "a condition of this board forbids it now",
    "clear": "nothing stands in the way any more",
    "ask": "a hook that said not now is asked again",
    "downloaded": "all files are there",
    "verified": "all files are what the manifest says",
    "staged": "the install place is complete",
    "proved": "the self-test was passed",
    "good": "enough was seen in the trial, and it was good",
    "unseen": "too little was seen in the trial until its end",
    "bad": "the trial failed",
    "retry": "it failed, and the budget for this class of error allows another attempt",
    "refused": "it failed for good",
    "newer": "a newer assignment wants another bundle",
    "withdrawn": "the assignment wants no bundle, or the one that ran before",
    "interrupted": "the agent was started again in this state",
    "settled": "all actions of an end state are done",
}

BEFORE_TRIAL = ("offered", "waiting", "downloading", "verifying", "staging", "selftest")
ACTIONS = ("report", "resolve", "download", "verify", "stage", "selftest", "switch", "roll_back", "commit", "discard")

_LEAVE = ("discard", "report")
"""What is done when a release goes before it ever ran: its files go, and the server hears of it."""
_GO_BACK = ("roll_back", "discard", "report")

TABLE: tuple[Row, ...] = (
    Row("idle", "assigned", "offered", ("report", "resolve")),
    Row("offered", "resolved", "downloading", ("report", "download")),
    Row("offered", "blocked", "waiting", ("report",)),
    Row("offered", "retry", "waiting", ("report",)),
    Row("waiting", "clear", "offered", ("resolve",)),
    Row("waiting", "blocked", "waiting", ("report",)),
    Row("downloading", "downloaded", "verifying", ("report", "verify")),
    Row("downloading", "retry", "waiting", ("report",)),
    Row("verifying", "verified", "staging", ("report", "stage")),
    Row("verifying", "retry", "waiting", ("report",)),
    Row("staging", "staged", "selftest", ("report", "selftest")),
    Row("staging", "blocked", "waiting", ("report",)),
    Row("waiting", "ask", "staging", ("stage",)),
    Row("staging", "retry", "waiting", ("report",)),
    Row("selftest", "proved", "trial", ("switch", "report")),
    Row("trial", "good", "committed", ("commit", "report")),
    Row("trial", "unseen", "committed", ("commit", "report")),
    Row("trial", "bad", "rolled_back", _GO_BACK),
    Row("trial", "newer", "rolled_back", _GO_BACK),
    Row("trial", "withdrawn", "rolled_back", _GO_BACK),
    *(Row(state, "refused", "refused", _LEAVE) for state in BEFORE_TRIAL),
    *(Row(state, "newer", "superseded", _LEAVE) for state in BEFORE_TRIAL),
    *(Row(state, "withdrawn", "cancelled", _LEAVE) for state in BEFORE_TRIAL),
    Row("offered", "interrupted", "offered", ("resolve",)),
    Row("waiting", "interrupted", "waiting"),
    Row("downloading", "interrupted", "downloading", ("download",)),
    Row("verifying", "interrupted", "verifying", ("verify",)),
    Row("staging", "interrupted", "staging", ("stage",)),
    Row("selftest", "interrupted", "selftest", ("selftest",)),
    Row("trial", "interrupted", "trial", ("switch",)),
    Row("committed", "interrupted", "committed", ("commit", "report")),
    Row("rolled_back", "interrupted", "rolled_back", _GO_BACK),
    *(Row(state, "interrupted", state, _LEAVE) for state in ("refused", "superseded", "cancelled")),
    *(Row(state, "settled", state) for state in ("committed", "rolled_back", "refused", "superseded", "cancelled")),
)

_BY_KEY = {(row.state, row.event): row for row in TABLE}


class UnknownEventError(ValueError):
    """The table has no row for this state and event; the message names both."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"state {state!r} does not know the event {event!r}")
        self.state = state
        self.event = event


def row_for(state: str, event: str) -> Row:
    """The one row of the table for this state and event; raises UnknownEventError."""
    found = _BY_KEY.get((state, event))
    if found is None:
        raise UnknownEventError(state, event)
    return found


def events_of(state: str) -> tuple[str, ...]:
    """The events that a state knows, in the table's order."""
    return tuple(row.event for row in TABLE if row.state == state)
