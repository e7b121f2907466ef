"""Looks at pictures, written down before the picture is handed out: what cannot be recorded is not shown.

A look is the request of a picture, by whatever page or program. A list shows 48 at once, and each would be a transaction of its
own: so whoever comes while another is writing waits, and the next one writes for all who wait.
"""

import threading
from dataclasses import dataclass

from flask import current_app
from sqlalchemy.orm import Session

from fleet_server.audit import service
from fleet_server.context import context
from fleet_server.database import Database
from fleet_server.http_access import current_operator, origin

KEPT_BY_BROWSERS = {"Cache-Control": f"private, max-age={service.LOOK_S:.0f}", "Vary": "Cookie, Authorization"}
"""Headers of a picture. A browser shows its copy for as long as one row stands for, and to nobody who signs in after."""
REMEMBERED = 20_000
"""Looks that one process knows to be written down, so that it need not ask the database."""


@dataclass(frozen=True, slots=True)
class Look:
    """Who looked at what, when and from where."""

    who: str
    what: str
    target: str
    now_s: float
    origin: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What one row stands for."""
        return self.who, self.what, self.target


@dataclass(slots=True)
class _Waiting:
    look: Look
    done: bool = False
    problem: Exception | None = None


class Looks:
    """The looks of one process; any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._waiting: list[_Waiting] = []
        self._known: dict[tuple[str, str, str], float] = {}

    def note(self, look: Look) -> None:
        """Returns when the look is committed, or was within the last ten minutes. Raises what the database raised."""
        known_s = self._known.get(look.key)
        if known_s is not None and known_s <= look.now_s < known_s + service.LOOK_S:
            return
        mine = _Waiting(look)
        with self._queue_lock:
            self._waiting.append(mine)
        with self._write_lock:
            if not mine.done:
                self._write()
        if mine.problem is not None:
            raise mine.problem

    def _write(self) -> None:
        with self._queue_lock:
            batch, self._waiting = self._waiting, []
        try:
            with self._database.write() as session:
                written = self._store(session, batch)
        except Exception as error:  # noqa: BLE001  handed to everybody who waits for it, each raises it
            for one in batch:
                one.done, one.problem = True, error
            return
        if len(self._known) + len(written) > REMEMBERED:
            self._known.clear()
        self._known.update(written)
        for one in batch:
            one.done = True

    def _store(self, session: Session, batch: list[_Waiting]) -> dict[tuple[str, str, str], float]:
        """Those that are first looks, so that a later one is not taken for known when its ten minutes are over."""
        # In one order, whoever writes: two processes that note the same looks must not wait for each other.
        first: dict[tuple[str, str, str], float] = {}
        for one in sorted(batch, key=lambda waiting: waiting.look.key):
            look = one.look
            new = service.looked(
                session, who=look.who, what=look.what, target=look.target, now_s=look.now_s, origin=look.origin
            )
            if new:
                first[look.key] = look.now_s
        return first


def look_here(what: str, target: str) -> None:
    """The person of this request looks at something: ``crop.look``, ``frame.look`` or ``log.look``."""
    here = context()
    looks: Looks = current_app.extensions.setdefault("rookery_looks", Looks(here.database))
    looks.note(Look(current_operator().name, what, target, here.clock(), origin()))
