"""Revocation at the broker: at each status read the lists are written, the broker reads them, and open sessions are ended."""

import signal
from collections.abc import Callable

from fleet_server import broker_takeover_mqtt
from fleet_server.database import Database
from fleet_server.revocation import Revocations
from fleet_server.settings import Settings


class BrokerGuard:
    """``signal_broker`` sends a signal to mosquitto; time comes in as arguments."""

    def __init__(
        self, settings: Settings, database: Database, revocations: Revocations, signal_broker: Callable[[int], None]
    ) -> None:
        self._settings, self._database = settings, database
        self._revocations, self._signal = revocations, signal_broker
        self._next_s = 0.0

    def look(self, steady_s: float, now_s: float) -> bool:
        """The status read, when its time has come (``revocation_poll_s``); True when something was new.

        ``steady_s``: of the clock that is never set; ``now_s``: seconds since 1970.
        """
        if steady_s < self._next_s:
            return False
        self._next_s = steady_s + self._settings.revocation_poll_s
        if not self._revocations.refresh(self._database, now_s):
            return False
        if self._settings.broker != "none":
            # Whoever came in by an authority that is retired since is still connected: a start ends that.
            self._signal(signal.SIGTERM if self._revocations.restart_broker else signal.SIGHUP)
            broker_takeover_mqtt.close_sessions(self._settings, self._revocations.newly_revoked)
        return True
