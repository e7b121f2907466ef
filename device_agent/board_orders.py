"""What a plan says of the whole board rather than of one camera. Pure but for what it is given."""

from device_agent.configuration.plan import BoardPlan
from device_agent.duties.keeping_logs import LogLevels
from device_agent.duties.shadowing import Shadowing
from device_agent.local.output import LocalOutput


class BoardOrders:
    """``use`` may be called from any thread, one at a time."""

    def __init__(self, levels: LogLevels, local: LocalOutput, shadow: Shadowing) -> None:
        self._levels, self._local, self._shadow = levels, local, shadow

    def use(self, plan: BoardPlan) -> None:
        """Go on by this plan."""
        self._shadow.use(plan.shadow_duty)
        self._local.silence(plan.silenced)
        self._levels.use(plan.log_level)
