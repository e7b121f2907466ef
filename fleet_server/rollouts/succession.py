"""What rollouts and configuration keep of a device, when another takes its place or its board begins anew.

``enrolment`` decides and stands below; the app hands this to it as its heirs.
"""

from sqlalchemy.orm import Session

from fleet_server.configuration import service as configuration
from fleet_server.rollouts import reports, targets
from ota.bundle.manifest import AGENT, MODEL


class Succession:
    """Everything in the transaction in which the board was let in: a crash leaves all of it or nothing."""

    def replaced(self, session: Session, old: str, new: str, *, who: str, now_s: float, origin: str) -> None:
        """The new board is told what the old one was told, its zones too, and wants what the old one wanted."""
        author = configuration.Author(who, origin, now_s, f"takes the place of {old}")
        configuration.pass_on(session, old, new, author)
        for kind in (MODEL, AGENT):
            meant = targets.target(session, old, kind)
            if meant is not None:
                targets.set_target(
                    session, new, meant.release, source=meant.source, now_s=now_s, role=meant.role, arm=meant.arm, kind=kind
                )

    def begun_anew(self, session: Session, device_id: str) -> None:
        """Its report counter starts again, and what was seen of other boots is forgotten."""
        reports.begin_anew(session, device_id)
