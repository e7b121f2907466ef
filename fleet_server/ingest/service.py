"""What came over MQTT, into the services: one transaction for a batch, the same result when it comes twice."""

import logging
from collections.abc import Sequence

from sqlalchemy.orm import Session

from fleet_server.door_limits import Rarely
from fleet_server.errors import CallerError
from fleet_server.ingest.messages import Beat, Lines, Malformed, Presence, parse, sender
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.telemetry import service as telemetry

log = logging.getLogger(__name__)

BATCH = 500
"""Messages of one transaction."""
TOLD_EVERY_S = 60.0
"""How often the server's log says of a device that it sends what is of no use."""


def store(session: Session, received: Sequence[tuple[str, bytes]], now_s: float, told: Rarely | None = None) -> int:
    """Store a batch of (topic, payload); answers how many were of use. Unknown and revoked devices are passed over.

    ``told`` counts what was of no use, by device, and says when it is time for a line in the log; None: each time.
    """
    told = told or Rarely(0.0)
    messages = [parse(topic, payload) for topic, payload in received]
    known = inventory.active_ids(session, {one.device for one in messages if not isinstance(one, Malformed)})
    beats: list[tuple[str, Beat]] = []
    presence: dict[str, bool] = {}
    used = 0
    for message in messages:
        if isinstance(message, Malformed):
            if times := told.count(sender(message.topic), now_s):
                log.warning("%d not of ours, the latest on %s: %s", times, message.topic, message.reason)
        elif message.device not in known:
            log.info("message of unknown or revoked device %s passed over", message.device)
        elif isinstance(message, Beat):
            beats.append((message.device, message))
        elif isinstance(message, Presence):
            presence[message.device] = message.online  # the last word counts
            used += 1
        else:
            used += _store_lines(session, message, now_s, told)
    telemetry.store_heartbeats(session, [(device, beat.heartbeat, now_s) for device, beat in beats])
    for device, online in sorted(presence.items()):
        inventory.record_presence(session, device, online, now_s)
    return used + len(beats)


def _store_lines(session: Session, message: Lines, now_s: float, told: Rarely) -> int:
    try:
        logs.store_lines(session, message.device, message.batch)
    except CallerError as error:
        if times := told.count(message.device, now_s):
            log.warning("%d log batches of %s passed over: %s", times, message.device, error.detail)
        return 0
    return 1
