"""``rookery-server reconcile``: this data folder came from a backup, so its devices know more than it does."""

import time
from collections.abc import Callable

from fleet_server.assemble import make_context
from fleet_server.audit import service as audit
from fleet_server.audit.local_linux import at_the_machine
from fleet_server.releases.reconciling import ALONE_STEP, ONLINE_ROLES
from fleet_server.rollouts import service as rollouts
from fleet_server.settings import Settings
from ota.trust.refusal import Refusal


def reconcile(settings: Settings, say: Callable[[str], None] = print, clock: Callable[[], float] = time.time) -> int:
    """Pause the rollouts of yesterday and sign above all that can have been signed since; answers 0, or 1 when it cannot.

    Nothing is lost by saying it once too often. What people signed since the backup, they must push again: ``check`` and the
    releases page name it as soon as the first device has been heard.
    """
    here = make_context(settings)
    try:
        with here.database.write() as session:
            for one in rollouts.rollouts(session, open_only=True):
                rollouts.pause(session, str(one.id), who=at_the_machine(), now_s=clock())
                say(f"paused  rollout {one.id} of {one.release}: look what its devices run, then resume or abort it")
        before = here.repository.versions()
        if not before:
            say("nothing was ever published here: there is nothing to sign above")
            return 0
        refused = here.repository.sign_above({role: before[role] + ALONE_STEP for role in ONLINE_ROLES})
        if isinstance(refused, Refusal):
            say(f"cannot sign: {refused.detail}")
            return 1
        after = here.repository.versions()
        with here.database.write() as session:
            audit.record(
                session, who=at_the_machine(), what="server.reconcile", target="server", before=dict(before), after=dict(after),
                now_s=clock(),
            )  # fmt: skip
        say("signed  " + ", ".join(f"{role} {after[role]} (was {before[role]})" for role in ONLINE_ROLES))
        listed = ", ".join(f"{role} {version}" for role, version in sorted(after.items()) if role not in ONLINE_ROLES)
        say(f"here    {listed}: push again what was signed after these")
        return 0
    finally:
        here.database.dispose()
