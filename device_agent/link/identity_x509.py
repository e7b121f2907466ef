"""The device's identity on disk: a key that never leaves it, its certificate, a renewal that survives power loss at each step.

Two folders, ``a`` and ``b``; the file ``current`` names the one in force. A renewal fills the other one: first the key, then the
server's answer; the certificate is used once, and only then ``current`` moves and the old folder goes. Interrupted anywhere,
the next start finds the old identity in force with an unfinished neighbour (finished then, with the same key), or the new one
with leftovers (removed).
"""

import hashlib
import logging
import shutil
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_agent.errors import IdentityBrokenError, ServerNonsenseError
from device_agent.link.trust_roots_x509 import pem, presented
from ota.durable_disk import fsync_folder, remove_leftovers, write_whole
from ota.wire.codec import MessageError, decode, encode
from ota.wire.enrolment import EnrolAnswer, fingerprint
from ota.wire.topics import DEVICE_ID

log = logging.getLogger(__name__)
AGAIN = "restore the folder identity/, or remove it and enrol again with a new claim"
RETIRED = "remove-other"
"""Stands in ``current`` between the switch and the removal of the old identity."""
RENEW_AT = 2 / 3
"""Share of its lifetime after which a certificate is renewed (contracts, section 3)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is. Files are PEM: ``certificate_file`` holds the certificate and the authorities up to the root."""

    device: str
    key_file: Path
    certificate_file: Path
    chain_pem: str
    not_before_s: float
    not_after_s: float
    broker: tuple[str, int] | None

    def renewal_due(self, now_s: float) -> bool:
        """Whether two thirds of the lifetime are over."""
        return now_s >= self.not_before_s + RENEW_AT * (self.not_after_s - self.not_before_s)


class IdentityStore:
    """The identity under ``folder``; holds no secret in memory longer than a call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clean()

    def load(self) -> Identity | None:
        """The identity in force, None before enrolment. Raises IdentityBrokenError when the files contradict each other."""
        place = self._current()
        return None if place is None else _read(self._folder / place)

    def request(self, serial: str) -> str:
        """A certificate request (PEM) for the next identity. The key is made on the first call and is the same until adopted.

        The subject is the board's serial, for people only: the server decides the device id.
        """
        key = self._next_key()
        name = [x509.NameAttribute(NameOID.SERIAL_NUMBER, serial[:64])] if serial else []
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name)).sign(key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.PEM).decode()

    def fingerprint(self) -> str:
        """Of the key that the next identity is asked for with, as the server shows it to whoever decides."""
        return _fingerprint(self._next_key())

    def keep_answer(self, answer: EnrolAnswer) -> Identity:
        """Check the server's answer against our key and write it; not in force yet. Raises ServerNonsenseError."""
        key = self._next_key()
        device, leaf = _certificate_of(answer)
        if leaf.public_key() != key.public_key():
            raise ServerNonsenseError("the certificate that came is not for this board's key")
        folder = self._folder / self._next_place()
        shown = presented(leaf, x509.load_pem_x509_certificates(answer.chain_pem.encode()))
        write_whole(folder / "certificate.pem", pem(shown).encode())
        write_whole(folder / "answer.json", encode(answer))
        log.info("certificate for %s received, valid until %s", device, leaf.not_valid_after_utc.date())
        return _read(folder)

    def pending(self) -> Identity | None:
        """A received identity that was not used yet, from before a restart."""
        folder = self._folder / self._next_place()
        return _read(folder) if (folder / "answer.json").exists() else None

    def adopt(self) -> Identity:
        """The received identity has worked: it is in force from now on, and the old one is removed."""
        place = self._next_place()
        identity = _read(self._folder / place)
        # The note to remove the other folder travels with the switch itself: no clock has to tell old from new.
        write_whole(self._folder / "current", f"{place} {RETIRED}".encode())
        self._clean()
        return identity

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _current(self) -> str | None:
        try:
            place = (self._folder / "current").read_text().split(" ")[0].strip()
        except FileNotFoundError:
            return None
        if place not in ("a", "b"):
            raise IdentityBrokenError(f"{self._folder / 'current'} names no identity", AGAIN)
        return place

    def _next_place(self) -> str:
        return "b" if self._current() == "a" else "a"

    def _next_key(self) -> ec.EllipticCurvePrivateKey:
        folder = self._folder / self._next_place()
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / "key.pem"
        if path.exists():
            return _read_key(path)
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_whole(path, pem, mode=0o600)
        fsync_folder(self._folder)
        return key

    def _clean(self) -> None:
        """Remove what interrupted writes and an interrupted adoption left behind."""
        remove_leftovers(self._folder)
        for place in ("a", "b"):
            if (self._folder / place).is_dir():
                remove_leftovers(self._folder / place)
        current = self._folder / "current"
        if current.exists() and current.read_text().endswith(RETIRED):
            shutil.rmtree(self._folder / self._next_place(), ignore_errors=True)
            fsync_folder(self._folder)
            write_whole(current, str(self._current()).encode())


def _certificate_of(answer: EnrolAnswer) -> tuple[str, x509.Certificate]:
    """Device id and certificate of an accepted answer. Raises ServerNonsenseError."""
    try:
        leaf = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
        x509.load_pem_x509_certificates(answer.chain_pem.encode())
    except ValueError as error:
        raise ServerNonsenseError(f"the certificate that came cannot be read: {error}") from None
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    device = str(names[0].value) if names else ""
    if not DEVICE_ID.fullmatch(device) or device != answer.device:
        raise ServerNonsenseError(f"the certificate is for {device!r}, the answer for {answer.device!r}")
    return device, leaf


def waiting_fingerprint(folder: Path) -> str:
    """Of the key with which a board asks that is not enrolled yet; empty where it has made none. Reads, and changes nothing."""
    path = folder / "a" / "key.pem"
    return _fingerprint(_read_key(path)) if path.exists() else ""


def _fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(hashlib.sha256(spki).hexdigest())


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityBrokenError(f"{path}: the key cannot be read: {error}", AGAIN) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityBrokenError(f"{path}: not an elliptic-curve key", AGAIN)
    return key


def _read(folder: Path) -> Identity:
    try:
        answer = decode(EnrolAnswer, (folder / "answer.json").read_bytes())
        device, leaf = _certificate_of(answer)
    except (OSError, MessageError, ServerNonsenseError) as error:
        raise IdentityBrokenError(f"{folder}: the certificate cannot be used: {error}", AGAIN) from None
    if leaf.public_key() != _read_key(folder / "key.pem").public_key():
        raise IdentityBrokenError(f"{folder}: key and certificate do not belong together", AGAIN)
    return Identity(
        device=device,
        key_file=folder / "key.pem",
        certificate_file=folder / "certificate.pem",
        chain_pem=answer.chain_pem,
        not_before_s=leaf.not_valid_before_utc.replace(tzinfo=UTC).timestamp(),
        not_after_s=leaf.not_valid_after_utc.replace(tzinfo=UTC).timestamp(),
        broker=None if answer.broker is None else (answer.broker.host, answer.broker.port),
    )
