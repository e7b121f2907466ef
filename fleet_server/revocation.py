"""Keeps revocation lists, the broker's deny list and the server's own certificate in step with database, clock and authorities.

It is the fence behind the status read per request, and the whole of it at the broker, which knows no database.
"""

import logging

from sqlalchemy.exc import SQLAlchemyError

from fleet_server import broker_disk
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509, certificates
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.errors import ServerError
from fleet_server.places_disk import stamp
from fleet_server.settings import Settings
from ota.durable_disk import write_whole

log = logging.getLogger(__name__)

REISSUE_S = 86400.0
"""The list is made anew daily though nothing changed: one that has ended refuses everybody."""
WATCHED = ("ca.pem", "server.crt", "authorities.json")


class Revocations:
    """Remembers what was written last, so that a refresh without news costs one query."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._authority: Authority | None = None
        self._written: list[tuple[str, float]] | None = None
        self._written_s = 0.0
        self._devices: set[str] | None = None
        self._seen: object = None
        self._issuing: set[str] = set()
        self.newly_revoked: list[str] = []
        """Devices that the last refresh found for the first time: their connections are still open."""
        self.restart_broker = False
        """Whether an authority was retired with the last refresh: a broker that runs would go on trusting it."""

    def refresh(self, database: Database, now_s: float) -> bool:
        """Rewrite lists and ACL if they are not what the database says; True when mosquitto should read its files again."""
        self.newly_revoked, self.restart_broker = [], False
        revoked, devices = self._read(database, now_s)
        if revoked is None:
            return False
        due = now_s - self._written_s >= REISSUE_S or now_s < self._written_s  # or the clock was set back
        if due:
            self._renew_server(now_s)
        seen = self._stamp()
        if revoked == self._written and devices == self._devices and seen == self._seen and not due:
            return False
        self._write(revoked, devices, now_s)
        self._seen = seen
        return True

    def _read(self, database: Database, now_s: float) -> tuple[list[tuple[str, float]] | None, set[str]]:
        try:
            with database.read() as session:
                return certificates.revoked(session, now_s), set(certificates.revoked_devices(session, now_s))
        except SQLAlchemyError as error:
            log.error("revocations cannot be read: %s", error)
        # What was known is issued again meanwhile: a database that is away for a month must not end every connection.
        return self._written, self._devices or set()

    def _write(self, revoked: list[tuple[str, float]], devices: set[str], now_s: float) -> None:
        if self._authority is None:
            self._authority = Authority(self._settings.pki_dir)
        # A verifier that holds two lists takes the later, to the second: two within one second must differ.
        listed_s = max(now_s, self._written_s + 1.0) if now_s > self._written_s - 3600.0 else now_s
        write_whole(self._settings.pki_dir / "crl.pem", self._authority.revocation_list(revoked, listed_s))
        if self._settings.broker != "none":
            broker_disk.write_acl(self._settings, sorted(devices))
        if self._devices is not None:  # at the first look nobody is connected yet
            self.newly_revoked = sorted(devices - self._devices)
        issuing = set(self._authority.loaded.standing.issuing)
        self.restart_broker = bool(self._issuing - issuing)
        self._written, self._written_s, self._devices, self._issuing = revoked, listed_s, devices, issuing

    def _renew_server(self, now_s: float) -> None:
        try:
            if authority_x509.publish_alone(self._settings.pki_dir, now_s):
                log.info("the server's certificate was made anew")
        except (ServerError, OSError) as error:
            log.error("the server's certificate cannot be renewed: %s", getattr(error, "detail", error))

    def _stamp(self) -> object:
        return stamp(*(self._settings.pki_dir / name for name in WATCHED))
