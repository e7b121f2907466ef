"""GET /overview, and GET /live: a stream that says when to look again."""

import json
import threading
import time
from collections.abc import Iterator

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint

from fleet_server.context import Context, context
from fleet_server.database import changes_since
from fleet_server.errors import UnavailableError
from fleet_server.http_access import reach_here, require
from fleet_server.http_json import reply
from fleet_server.overview import service

operator = APIBlueprint("overview", __name__, url_prefix="/api/v1")

LOOK_EVERY_S = 1.0
KEEPALIVE_S = 15.0
LIMITED_LOOK_S = 5.0
"""How often whoever is limited to groups is told to look again."""
LIMITED_TOPICS = ("alerts", "configuration", "detections", "devices", "enrolments", "experiments", "logs", "overview", "rollouts")
MAX_STREAM_S = 600.0
"""A stream ends after this long and the browser asks anew: a revoked session does not listen for ever."""


class Streams:
    """Counts open streams: each holds a thread of the operator door."""

    def __init__(self, limit: int) -> None:
        self._free = threading.BoundedSemaphore(limit) if limit > 0 else None

    def enter(self) -> bool:
        """Take a place; False when all are taken."""
        return self._free is not None and self._free.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place back."""
        if self._free is not None:
            self._free.release()


@operator.get("/overview")
@require("viewer", reach="filtered")
def get_overview() -> Response:
    """The whole fleet in one answer."""
    here = context()
    with here.database.read() as session:
        within_s = here.settings.online_within_s
        return reply(service.overview(session, now_s=here.clock(), within_s=within_s, groups=reach_here()))


@operator.get("/live")
@require("viewer", reach="filtered")
def get_live() -> Response:
    """Server-sent events: ``change`` with the topics that changed, at most once a second.

    What changes is not noted by group. An account that is limited to groups is told to look again at a steady pace, whatever
    happens: when the rest of the fleet is busy is not its to know.
    """
    here = context()
    streams: Streams = current_app.extensions.setdefault("rookery_streams", Streams(here.settings.live_streams))
    if not streams.enter():
        raise UnavailableError("all live streams are taken", "look again every few seconds instead", retry_after_s=10)
    response = Response(_events(here) if reach_here() is None else _steady(), mimetype="text/event-stream")
    response.call_on_close(streams.leave)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _steady() -> Iterator[str]:
    yield "retry: 3000\n\n"
    began_s = time.monotonic()
    while time.monotonic() - began_s < MAX_STREAM_S:
        time.sleep(LIMITED_LOOK_S)
        yield f"event: change\ndata: {json.dumps({'topics': LIMITED_TOPICS})}\n\n"


def _events(here: Context) -> Iterator[str]:
    with here.database.read() as session:
        version, _ = changes_since(session, 2**53)
    yield "retry: 3000\n\n"
    began_s = quiet_s = time.monotonic()
    while time.monotonic() - began_s < MAX_STREAM_S:
        with here.database.read() as session:
            version_now, topics = changes_since(session, version)
        if topics:
            yield f"event: change\ndata: {json.dumps({'topics': sorted(topics)})}\n\n"
            quiet_s = time.monotonic()
        elif time.monotonic() - quiet_s > KEEPALIVE_S:
            yield ": still here\n\n"  # also how a closed connection is noticed
            quiet_s = time.monotonic()
        version = version_now
        time.sleep(LOOK_EVERY_S)
