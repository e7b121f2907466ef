"""An assignment past its end begins nothing any more; what runs goes on running. Pure."""

from device_agent.update.deployment import Deployment, Event
from device_agent.update.states import BEFORE_TRIAL
from ota.wire.assignments import AssignedBundle, Assignment

PATIENCE_S = 120.0
"""A board that was dark for a night asks the server first: so long nothing begins, and nothing is refused."""
BEGINS = ("resolved", "verified", "proved")
"""Events with which something begins that only a valid assignment allows: the download, the install, the trial."""


def past_end(
    deployment: Deployment, assignment: Assignment | None, wanted: AssignedBundle | None, now_s: float
) -> Event | None:
    """The failure of a deployment that has not run yet and whose assignment, as newest renewed, is past its end; else None."""
    if assignment is None or assignment.bundle is None or deployment.state not in BEFORE_TRIAL:
        return None
    if assignment.bundle.sha256 != deployment.bundle.sha256 or now_s < assignment.expires_s:
        return None
    past_s = now_s - assignment.expires_s
    detail = f"assignment {assignment.seq} expired {past_s:.0f} s ago and the server has not renewed it"
    return Event(kind="failed", reason="expired", detail=detail)


def begins_late(
    deployment: Deployment | None, assignment: Assignment | None, wanted: AssignedBundle | None, event: Event, now_s: float
) -> Event | None:
    """The failure in place of an event with which something would begin past the assignment's end; else None."""
    return None if deployment is None or event.kind not in BEGINS else past_end(deployment, assignment, wanted, now_s)


class Renewal:
    """Gives the server a while to renew an assignment that expired while the board waited or was dark."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def go_on(self, event: Event, late: Event | None, steady_s: float) -> Event | None:
        """``event`` where the assignment holds; where it is ``late``, None for a while and then the failure."""
        if late is None:
            self._since_s = None
            return event
        if self._since_s is None:
            self._since_s = steady_s
        return late if steady_s - self._since_s >= PATIENCE_S else None
