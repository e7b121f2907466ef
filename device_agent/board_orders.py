"""What a plan says of the whole board rather than of one camera. Pure but for what it is given."""

from dataclasses import replace

from device_agent.configuration.plan import BoardPlan
from device_agent.duties.keeping_logs import LogLevels
from device_agent.duties.shadowing import Shadowing
from device_agent.local.output import LocalOutput


class BoardOrders:
    """``use`` may be called from any thread, one at a time."""

    def __init__(self, levels: LogLevels, local: LocalOutput, shadow: Shadowing) -> None:
        self._levels, self._local, self._shadow = levels, local, shadow
        self._own_share = shadow.settings.max_core_share

    def use(self, plan: BoardPlan) -> None:
        """Go on by this plan. The shadow's share may only shrink below what the board's own settings allow."""
        share = self._own_share if plan.shadow_duty is None else min(self._own_share, plan.shadow_duty)
        self._shadow.settings = replace(self._shadow.settings, max_core_share=share)
        self._local.silence(plan.silenced)
        self._levels.use(plan.log_level)
