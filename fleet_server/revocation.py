"""Keeps the revocation list and the broker's ACL in step with the database: the fence behind the status read per request."""

import logging

from sqlalchemy.exc import SQLAlchemyError

from fleet_server import broker_disk
from fleet_server.database import Database
from fleet_server.enrolment import certificates
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.settings import Settings
from ota.durable_disk import write_whole

log = logging.getLogger(__name__)

REISSUE_S = 86400.0
"""The list is made anew daily though nothing changed: one that has ended refuses everybody."""


class Revocations:
    """Remembers what was written last, so that a refresh without news costs one query."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._written: list[tuple[str, float]] | None = None
        self._written_s = 0.0
        self._devices: set[str] = set()
        self.newly_revoked: list[str] = []
        """Devices that the last refresh found for the first time: their connections are still open."""

    def refresh(self, database: Database, now_s: float) -> bool:
        """Rewrite list and ACL if they are not what the database says; True when mosquitto should read them again."""
        try:
            with database.read() as session:
                revoked = certificates.revoked(session, now_s)
                devices = certificates.revoked_devices(session)
        except SQLAlchemyError as error:
            log.error("revocations cannot be read: %s", error)
            return False
        if revoked == self._written and now_s - self._written_s < REISSUE_S:
            return False
        crl = Authority(self._settings.pki_dir).revocation_list(revoked, now_s)
        write_whole(self._settings.pki_dir / "crl.pem", crl)
        if self._settings.broker != "none":
            broker_disk.write_acl(self._settings, devices)
        self.newly_revoked = sorted(set(devices) - self._devices)
        self._written, self._written_s, self._devices = revoked, now_s, set(devices)
        return True
