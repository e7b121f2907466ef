"""Keeps revocation lists, the broker's deny list and the server's own certificate in step with database, clock and authorities.

It is the fence behind the status read per request, and the whole of it at the broker, which knows no database.
"""

import logging

from sqlalchemy.exc import SQLAlchemyError

from fleet_server import broker_disk
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509, certificates, living
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.enrolment.living import Revoked
from fleet_server.errors import ServerError
from fleet_server.places_disk import stamp
from fleet_server.settings import Settings
from ota.durable_disk import write_whole

log = logging.getLogger(__name__)

REISSUE_S = 86400.0
"""The list is made anew daily though nothing changed: one that has ended refuses everybody."""
WATCHED = ("ca.pem", "server.crt", "authorities.json")


class Revocations:
    """Remembers what was written last, so that a refresh without news costs one query.

    A certificate that a device has replaced by itself waits for the daily list: its key is the device's own, the door reads
    its status anyhow, and in a fleet of ten thousand, with a renewal every ten minutes, broker and door would do little else.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._authority: Authority | None = None
        self._written: dict[str, Revoked] | None = None
        self._written_s = 0.0
        self._denied: set[str] = set()
        self._seen: object = None
        self._issuing: set[str] = set()
        self.newly_revoked: list[str] = []
        """Devices of which the last refresh found a certificate revoked for the first time: their connections are still open."""
        self.restart_broker = False
        """Whether an authority was retired with the last refresh: who came in by its certificates is still connected."""

    def refresh(self, database: Database, now_s: float) -> bool:
        """Rewrite lists and ACL if they are not what the database says; True when mosquitto should read its files again."""
        self.newly_revoked, self.restart_broker = [], False
        revoked, denied = self._read(database, now_s)
        if revoked is None:
            return False
        due = now_s - self._written_s >= REISSUE_S or now_s < self._written_s - 3600.0  # or the clock was set back
        if due:
            self._renew_server(now_s)
        seen, before = self._stamp(), self._written or {}
        news = [one for serial, one in revoked.items() if serial not in before and not one.superseded]
        if not (news or due or denied != self._denied or seen != self._seen or self._written is None):
            return False
        if self._written is not None:  # at the first look nobody is connected yet
            self.newly_revoked = sorted({one.device for one in news})
        self._write(revoked, denied, now_s)
        self._seen = seen
        return True

    def _read(self, database: Database, now_s: float) -> tuple[dict[str, Revoked] | None, set[str]]:
        try:
            with database.read() as session:
                found = living.revoked(session, now_s)
                return {one.serial: one for one in found}, set(certificates.revoked_devices(session, now_s))
        except SQLAlchemyError as error:
            log.error("revocations cannot be read: %s", error)
        # What was known is issued again meanwhile: a database that is away for a month must not end every connection.
        return self._written, self._denied

    def _write(self, revoked: dict[str, Revoked], denied: set[str], now_s: float) -> None:
        if self._authority is None:
            self._authority = Authority(self._settings.pki_dir)
        # A verifier that holds two lists takes the later, to the second: two within one second must differ.
        listed_s = max(now_s, self._written_s + 1.0) if now_s > self._written_s - 3600.0 else now_s
        entries = [(one.serial, one.revoked_s) for one in revoked.values()]
        write_whole(self._settings.pki_dir / "crl.pem", self._authority.revocation_list(entries, listed_s))
        if self._settings.broker != "none":
            broker_disk.write_acl(self._settings, sorted(denied))
        issuing = set(self._authority.loaded.standing.issuing)
        self.restart_broker = bool(self._issuing - issuing)
        self._written, self._written_s, self._denied, self._issuing = revoked, listed_s, denied, issuing

    def _renew_server(self, now_s: float) -> None:
        try:
            if authority_x509.publish_alone(self._settings.pki_dir, now_s):
                log.info("the server's certificate was made anew")
        except (ServerError, OSError) as error:
            log.error("the server's certificate cannot be renewed: %s", getattr(error, "detail", error))

    def _stamp(self) -> object:
        return stamp(*(self._settings.pki_dir / name for name in WATCHED))
