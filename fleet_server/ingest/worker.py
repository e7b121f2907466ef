"""The worker: hears the broker, and ticks rollouts, alerts, verification and housekeeping. Every step is idempotent."""

import logging
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from fleet_server import lease
from fleet_server.alerts import service as alerts
from fleet_server.alerts.parts import is_news, note_part
from fleet_server.alerts.webhook_http import send
from fleet_server.context import Context
from fleet_server.door_limits import Rarely
from fleet_server.errors import ServerError
from fleet_server.ingest import service
from fleet_server.ingest.broker_mqtt import BrokerLink
from fleet_server.ingest.conditions_disk import gather, stopped_rollouts
from fleet_server.ingest.sweeping import Sweeping
from fleet_server.ingest.verifying import Verifying
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.outgoing_http import rule_of
from fleet_server.releases import seen
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import published_channels, tuf_folder
from fleet_server.releases.reconcile_disk import sign_above
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts import targets
from fleet_server.rollouts.orders import Timing
from fleet_server.settings import BROKER_USER
from fleet_server.telemetry import service as telemetry
from ota.trust.errors import TrustError
from ota.trust.refusal import Refusal

log = logging.getLogger(__name__)

DRAIN_S = 0.25
"""How long a batch is collected: measured, one commit for 250 to 500 ms of heartbeats keeps PostgreSQL at ease."""
PAUSE_AFTER_FAILURE_S = 2.0
_AWAY = (OperationalError, InterfaceError, OSError)
"""The database does not answer or has no room: messages wait. Any other failure comes from a message."""
VERIFY_ROUNDS = 20
"""Batches of crops in one tick: a long queue must not keep the worker from ending when it is asked to."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One job that only one process does at a time."""

    name: str
    every_s: float
    run: Callable[[int], None]
    """Takes the fence number of the lease."""

    @property
    def lease_s(self) -> float:
        """Long enough to be kept without a write per tick, short enough for a quick takeover."""
        return max(6.0, 3 * self.every_s)


def main(context: Context, stop: threading.Event) -> None:
    """Work until ``stop``. Returns after all threads have ended; what fails is logged and tried again."""
    worker = Worker(context)
    threads = [threading.Thread(target=worker.hear, args=(stop,), name="hear")]
    threads += [threading.Thread(target=worker.tick, args=(tick, stop), name=tick.name) for tick in worker.ticks()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()


class Worker:
    """What the threads share."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._verifying = Verifying(context, self._owner)
        self._sweeping = Sweeping(context)
        self.link = self._make_link()
        self._noted: dict[str, tuple[bool, str]] = {}
        self._told = Rarely(service.TOLD_EVERY_S)

    def ticks(self) -> list[Tick]:
        """Every job with its period."""
        return [
            Tick("rollouts", 1.0, self.tick_rollouts),
            Tick("alerts", 5.0, self.tick_alerts),
            Tick("verification", 1.0, self.tick_verification),
            Tick("housekeeping", 30.0, self.tick_housekeeping),
        ]

    def close(self) -> None:
        """End the connection to the broker."""
        if self.link is not None:
            self.link.stop()

    def hear(self, stop: threading.Event) -> None:
        """Messages of the broker into the database, in batches; and how the connection is."""
        if self.link is not None:
            self.link.start()
        pending: list[tuple[str, bytes]] = []
        while not stop.is_set():
            try:
                self._note_broker()
                if self.link is None:
                    stop.wait(5.0)
                    continue
                if not pending:
                    pending = self.link.take(1, DRAIN_S)
                    if pending:
                        stop.wait(DRAIN_S)
                        pending += self.link.take(service.BATCH - 1, 0.0)
                if pending:
                    self._store(pending)
                    pending = []
            except (SQLAlchemyError, OSError) as error:
                log.error("the database takes nothing at the moment: %s", error)  # what came stays in ``pending``
                stop.wait(PAUSE_AFTER_FAILURE_S)
            except Exception:  # one message that nobody foresaw must not silence the whole fleet
                log.exception("%d messages could not be stored and are passed over", len(pending))
                pending = []

    def _store(self, messages: list[tuple[str, bytes]]) -> None:
        """All in one transaction; where one cannot be stored, each in its own, so that a bad one harms nobody else."""
        try:
            with self._context.database.write() as session:
                service.store(session, messages, self._context.clock(), self._told)
        except _AWAY:
            raise
        except Exception as error:  # noqa: BLE001  whatever a message does, it must do to itself alone
            if len(messages) == 1:
                log.error("a message on %s cannot be stored: %s", messages[0][0], type(error).__name__)
                return
            for message in messages:
                self._store([message])

    def tick(self, tick: Tick, stop: threading.Event) -> None:
        """Run one job again and again, while this process holds its lease."""
        fence, until_s = None, 0.0
        while not stop.is_set():
            try:
                now_s = self._context.clock()
                if fence is None or until_s - now_s < tick.lease_s / 2:
                    with self._context.database.write() as session:
                        fence = lease.acquire(session, tick.name, self._owner, now_s=now_s, ttl_s=tick.lease_s)
                    until_s = now_s + tick.lease_s
                if fence is not None:
                    tick.run(fence)
            except (SQLAlchemyError, ServerError, TrustError, OSError) as error:
                log.error("%s: %s", tick.name, getattr(error, "detail", error))
                stop.wait(PAUSE_AFTER_FAILURE_S)
            except Exception:  # a fault in one job must not end the others
                log.exception("%s failed", tick.name)
                stop.wait(PAUSE_AFTER_FAILURE_S)
            stop.wait(tick.every_s)
        if fence is not None:
            self._let_go(tick.name)

    def tick_rollouts(self, fence: int) -> None:
        """Every open rollout one step further; then wake who has something new to hear."""
        here, now_s = self._context, self._context.clock()
        settings = here.settings
        with here.database.read() as session:
            is_open = rollouts.any_open(session)
        if is_open:
            timing = Timing(settings.online_within_s, max(settings.lost_after_s, 5 * settings.heartbeat_s))
            with here.database.write() as session:
                if rollouts.tick(session, now_s, fence, timing):
                    # In the same transaction: a pause that the next rollout supersedes a second later was told all the same.
                    alerts.reconcile(session, stopped_rollouts(session), now_s, kinds=["rollout_paused"])
        self.wake()

    def wake(self) -> None:
        """Wake devices over the broker; without one they ask by themselves."""
        here = self._context
        with here.database.read() as session:
            if not (targets.has_unwoken(session) or logs.has_unwoken(session)):
                return
        with here.database.write() as session:
            devices = sorted({*targets.take_unwoken(session), *logs.take_unwoken(session)})
        if self.link is not None and self.link.connected:
            self.link.wake(devices)

    def tick_alerts(self, _fence: int) -> None:
        """Open and resolve alerts, tell the webhooks."""
        here, now_s = self._context, self._context.clock()
        settings = here.settings
        with here.database.read() as session:
            conditions = gather(
                session, data_dir=settings.data_dir, now_s=now_s, within_s=settings.online_within_s,
                versions=here.repository.versions(), expires_s=here.repository.expires_s(),
            )  # fmt: skip
        with here.database.write() as session:
            alerts.reconcile(session, conditions, now_s)
        with here.database.read() as session:
            calls = alerts.due_calls(session, now_s)
        for call in calls:
            problem = send(call.url, call.body, rule=rule_of(settings))
            with here.database.write() as session:
                alerts.note_call(session, call, problem, here.clock())

    def tick_verification(self, _fence: int) -> None:
        """Find crops that came, and look at them a second time."""
        self._verifying.find_crops()
        for _ in range(VERIFY_ROUNDS):
            if self._verifying.verify_some() == 0:
                break

    def tick_housekeeping(self, _fence: int) -> None:
        """Fresh timestamp, the release cache, old rows, pictures that nobody needs."""
        here, now_s = self._context, self._context.clock()
        status = here.repository.status()
        problem = "; ".join(status.problems) if status.initialised else ""
        if status.initialised:
            outcome = here.repository.refresh_timestamp(now_s)
            problem = str(outcome) if isinstance(outcome, Refusal) else problem
            problem = self._reconcile(now_s) or problem
            self._read_releases(now_s)
        self._note("trust", not problem, problem or "well")
        with here.database.write() as session:
            telemetry.prune(session, now_s)
            logs.prune(session)
        self._sweeping.sweep()

    def _reconcile(self, now_s: float) -> str:
        """After a restore: sign above what devices have seen, so that they take our word again; answers what is in the way."""
        here = self._context
        with here.database.read() as session:
            standing = seen.standing(session, here.repository.versions())
        return sign_above(here.repository, tuf_folder(here.settings.data_dir), standing, now_s)

    def _read_releases(self, now_s: float) -> None:
        here = self._context
        with here.database.read() as session:
            behind = releases.is_behind(session, here.repository)
        if behind:
            listed = published_channels(here.repository, here.settings.data_dir)
            with here.database.write() as session:
                releases.take_over(session, listed, now_s)

    def _note_broker(self) -> None:
        if self.link is None:
            self._note("broker", True, "no broker: devices use HTTPS alone and hear of news at their next poll")
        elif self._note("broker", self.link.connected, self.link.note) and not self.link.connected:
            with self._context.database.write() as session:
                inventory.forget_presence(session)

    def _note(self, part: str, ok: bool, note: str) -> bool:
        if self._noted.get(part) == (ok, note):
            return False
        with self._context.database.read() as session:
            news = is_news(session, part, ok, note)
        if news:
            with self._context.database.write() as session:
                note_part(session, part, ok=ok, note=note, now_s=self._context.clock())
        self._noted[part] = (ok, note)
        return news

    def _let_go(self, name: str) -> None:
        try:
            with self._context.database.write() as session:
                lease.let_go(session, name, self._owner)
        except SQLAlchemyError as error:
            log.warning("lease %s was not given back: %s", name, error)

    def _make_link(self) -> BrokerLink | None:
        settings = self._context.settings
        if settings.broker == "none" or not settings.broker_inside_port:
            return None
        try:
            password = settings.broker_password_file.read_text().strip()
        except OSError as error:
            log.error("the broker's password cannot be read: %s; devices use HTTPS alone", error.strerror)
            return None
        return BrokerLink("127.0.0.1", settings.broker_inside_port, BROKER_USER, password)
