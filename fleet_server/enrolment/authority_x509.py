"""The certificate authority: a root that can be taken offline, an issuing authority that signs servers and devices.

``pki/``: ``root.key`` (needed only to make a new authority: take it away once the server stands), ``root.crt``, ``issuing.key``,
``issuing.crt``, ``server.key``, ``server.crt`` (with the way to the root behind it), ``ca.pem`` (what boards pin and client
certificates are checked against), ``crl.pem``, ``authorities.json`` (who signs; see ``authority_rollover_x509``). Keys are P-256,
files of keys 0600. ``ca.pem`` and ``server.*`` follow from the rest: ``publish`` makes them right at any time.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet_server.enrolment import authorities_disk, profiles_x509
from fleet_server.enrolment.authorities_disk import Loaded, Standing
from fleet_server.errors import InvalidError, SettingsError
from fleet_server.places_disk import Places, read_places, stamp, write_places
from ota.durable_disk import write_whole

log = logging.getLogger(__name__)

SERVER_RENEW_DAYS = 60
"""The server's own certificate is made anew within this time of its end, at a start or while it runs."""
AUTHORITY_WARN_DAYS = 400
"""An issuing authority that ends within this time is told of: boards sleep, and a roll-over takes a certificate's life."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A device certificate that was just signed."""

    pem: str
    serial: str
    """Hexadecimal, lower case."""
    key_sha256: str
    not_after_s: float


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A certificate request whose own signature holds, with a key that we certify."""

    public_key: ec.EllipticCurvePublicKey
    key_sha256: str


def check_request(csr_pem: str) -> CheckedRequest:
    """Read a certificate request; InvalidError unless it is PEM, signed by its own P-256 key.

    Its subject and the extensions that it asks for are not looked at: whatever it calls itself, the server names the device.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidError("$.csr_pem: the key is not ECDSA P-256")
        if not request.is_signature_valid:
            raise InvalidError("$.csr_pem: the request is not signed by its own key")
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        raise InvalidError("$.csr_pem: not a certificate request") from None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return CheckedRequest(key, hashlib.sha256(spki).hexdigest())


class Authority:
    """The issuing authority of one server, read from its ``pki`` folder, and read again when a roll-over has changed it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._stamp()
        self._loaded = authorities_disk.load(folder)

    @property
    def loaded(self) -> Loaded:
        """The authorities as they are now."""
        seen = self._stamp()
        if seen != self._seen:
            try:
                self._loaded, self._seen = authorities_disk.load(self._folder), seen
            except SettingsError as error:
                log.error("%s; the authorities of before are used", error.detail)
        return self._loaded

    @property
    def chain_pem(self) -> str:
        """What a device is given besides its certificate: see ``Loaded.ca_pem``."""
        return self.loaded.ca_pem.decode()

    def issue_device(self, request: CheckedRequest, device_id: str, days: float, now_s: float) -> IssuedCertificate:
        """A client certificate whose common name is the device id. SettingsError when our authority has ended."""
        signer, now = self.loaded.signers[0], datetime.fromtimestamp(now_s, UTC)
        if signer.certificate.not_valid_after_utc <= now:
            raise SettingsError("the issuing authority has ended", "rookery-server pki next, then pki switch")
        certificate = profiles_x509.device(request.public_key, device_id, signer, now, days)
        pem = certificate.public_bytes(Encoding.PEM).decode()
        end_s = certificate.not_valid_after_utc.timestamp()
        return IssuedCertificate(pem, f"{certificate.serial_number:x}", request.key_sha256, end_s)

    def revocation_list(self, revoked: Iterable[tuple[str, float]], now_s: float) -> bytes:
        """The lists (PEM, one behind the other) of all issuing authorities, that of the signing one first.

        Each names every revoked serial: they are random, so no list hits a stranger, and no row must say who signed it.
        """
        entries = list(revoked)
        return b"".join(profiles_x509.revocation_list(signer, entries, now_s) for signer in self.loaded.signers)

    def _stamp(self) -> object:
        return stamp(self._folder / authorities_disk.STATE)


def prepare(folder: Path, hosts: Sequence[str], now_s: float) -> Authority:
    """Make what is missing in ``folder``: root and issuing authority once, a certificate for these hosts when needed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with authorities_disk.one_at_a_time(folder):
        if not (folder / "ca.pem").exists():
            _make_authorities(folder, datetime.fromtimestamp(now_s, UTC))
        elif not (folder / authorities_disk.STATE).exists():
            authorities_disk.write_standing(folder, Standing())
        authorities_disk.tidy(folder)
        places = read_places(folder)
        if places.own != tuple(hosts):
            write_places(folder, Places(tuple(hosts), places.told))
        publish(folder, now_s)
    authority = Authority(folder)
    if not (folder / "crl.pem").exists():
        write_whole(folder / "crl.pem", authority.revocation_list([], now_s))
    return authority


def publish(folder: Path, now_s: float) -> bool:
    """Make ``ca.pem`` and the server's certificate what the authorities and ``hosts.json`` demand; True when one was not.

    A step that was cut short is finished here: the same again changes nothing.
    """
    loaded, now = authorities_disk.load(folder), datetime.fromtimestamp(now_s, UTC)
    hosts, changed = read_places(folder).hosts, False
    if not _holds(folder / "ca.pem", loaded.ca_pem):
        write_whole(folder / "ca.pem", loaded.ca_pem)
        changed = True
    if not _server_fits(folder, loaded, hosts, now):
        key = profiles_x509.new_key()
        made = profiles_x509.server(key, loaded.signers[0], hosts, now).public_bytes(Encoding.PEM)
        authorities_disk.write_key(folder / "server.key", key)
        write_whole(folder / "server.crt", made + loaded.server_chain_pem)
        changed = True
    return changed


def publish_alone(folder: Path, now_s: float) -> bool:
    """``publish`` while nobody else changes the authorities; ConflictError where somebody does."""
    with authorities_disk.one_at_a_time(folder):
        return publish(folder, now_s)


def _make_authorities(folder: Path, now: datetime) -> None:
    root_key, issuing_key = profiles_x509.new_key(), profiles_x509.new_key()
    root = profiles_x509.Signer(profiles_x509.root("Rookery root", root_key, now), root_key)
    issuing = profiles_x509.issuing("Rookery issuing", issuing_key, root, now)
    authorities_disk.write_key(folder / "root.key", root_key)
    authorities_disk.write_key(folder / "issuing.key", issuing_key)
    authorities_disk.write_certificate(folder / "root.crt", root.certificate)
    authorities_disk.write_certificate(folder / "issuing.crt", issuing)
    authorities_disk.write_standing(folder, Standing())
    # Last: it says that the rest is complete. Before it everything is made anew.
    write_whole(folder / "ca.pem", authorities_disk.load(folder).ca_pem)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _server_fits(folder: Path, loaded: Loaded, hosts: Sequence[str], now: datetime) -> bool:
    try:
        pem = (folder / "server.crt").read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        key = authorities_disk.read_key(folder / "server.key")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    signing = loaded.signers[0].certificate
    young = certificate.not_valid_after_utc - now > timedelta(days=SERVER_RENEW_DAYS)
    # Near the authority's own end a new one would live no longer: it is not made anew at each look.
    at_the_end = now < certificate.not_valid_after_utc == signing.not_valid_after_utc
    return (
        (young or at_the_end)
        and certificate.public_key() == key.public_key()
        and authorities_disk.signed_by(certificate, (signing,))
        and pem.endswith(loaded.server_chain_pem)
        and set(names) == {profiles_x509.alternative(host) for host in hosts}
    )
