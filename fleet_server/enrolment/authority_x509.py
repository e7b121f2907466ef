"""The certificate authority: a root that can be taken offline, an issuing authority that signs servers and devices.

``pki/``: ``root.key`` (needed only to make a new issuing authority: take it away once the server stands), ``root.crt``,
``issuing.key``, ``issuing.crt``, ``server.key``, ``server.crt`` (with the issuing certificate behind it), ``ca.pem`` (issuing and
root: what devices pin and what client certificates are checked against), ``crl.pem``. Keys are P-256, files of keys 0600.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_server.errors import InvalidError, SettingsError
from ota.durable_disk import write_whole

ROOT_DAYS, ISSUING_DAYS, SERVER_DAYS = 20 * 365, 10 * 365, 397
SERVER_RENEW_DAYS = 60
"""The server's own certificate is made anew at a start within this time of its end."""
CRL_DAYS = 30
"""Until a revocation list ends; it is re-issued daily, because an ended list refuses everybody."""
_BACKDATED = timedelta(hours=1)
"""A board's clock may be a little behind ours."""


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
    """Read a certificate request; InvalidError unless it is PEM, signed by its own P-256 key. Its subject is not looked at."""
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidError("$.csr_pem: the key is not ECDSA P-256")
        if not request.is_signature_valid:
            raise InvalidError("$.csr_pem: the request is not signed by its own key")
    except (ValueError, InvalidSignature, x509.InvalidVersion):
        raise InvalidError("$.csr_pem: not a certificate request") from None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return CheckedRequest(key, hashlib.sha256(spki).hexdigest())


class Authority:
    """The issuing authority of one server, read from its ``pki`` folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._key = _load_key(folder / "issuing.key")
            self._certificate = x509.load_pem_x509_certificate((folder / "issuing.crt").read_bytes())
            self.chain_pem = (folder / "ca.pem").read_text()
        except (OSError, ValueError) as error:
            raise SettingsError(f"the certificate authority in {folder} cannot be read: {error}") from None

    def issue_device(self, request: CheckedRequest, device_id: str, days: int, now_s: float) -> IssuedCertificate:
        """A client certificate whose common name is the device id."""
        now = datetime.fromtimestamp(now_s, UTC)
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = _builder(_name(device_id), self._certificate.subject, request.public_key, now, end).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        certificate = _signed(builder, self._key)
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return IssuedCertificate(pem, f"{certificate.serial_number:x}", request.key_sha256, end.timestamp())

    def revocation_list(self, revoked: Iterable[tuple[str, float]], now_s: float) -> bytes:
        """The list (PEM) of these serials (hexadecimal) with the times of their revocation."""
        now = datetime.fromtimestamp(now_s, UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now - _BACKDATED).next_update(now + timedelta(days=CRL_DAYS))
        builder = builder.add_extension(x509.CRLNumber(int(now_s)), critical=False)
        for serial, revoked_s in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(datetime.fromtimestamp(revoked_s, UTC)).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def prepare(folder: Path, hosts: Sequence[str], now_s: float) -> Authority:
    """Make what is missing in ``folder``: root and issuing authority once, a certificate for these hosts when needed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.fromtimestamp(now_s, UTC)
    if not (folder / "ca.pem").exists():
        _make_authorities(folder, now)
    if not _server_fits(folder / "server.crt", hosts, now):
        _make_server(folder, hosts, now)
    authority = Authority(folder)
    if not (folder / "crl.pem").exists():
        write_whole(folder / "crl.pem", authority.revocation_list([], now_s))
    return authority


def _make_authorities(folder: Path, now: datetime) -> None:
    root_key, issuing_key = _new_key(), _new_key()
    root_name, issuing_name = _name("Rookery root"), _name("Rookery issuing")
    builder = _authority_builder(root_name, root_name, root_key, now, ROOT_DAYS, path_length=1)
    root = _signed(builder, root_key)
    builder = _authority_builder(issuing_name, root_name, issuing_key, now, ISSUING_DAYS, path_length=0)
    issuing = _signed(builder, root_key)
    root_pem, issuing_pem = root.public_bytes(Encoding.PEM), issuing.public_bytes(Encoding.PEM)
    for name, key in (("root.key", root_key), ("issuing.key", issuing_key)):
        write_whole(folder / name, _key_pem(key), 0o600)
    write_whole(folder / "root.crt", root_pem)
    write_whole(folder / "issuing.crt", issuing_pem)
    write_whole(folder / "ca.pem", issuing_pem + root_pem)  # last: it says that the rest is complete


def _make_server(folder: Path, hosts: Sequence[str], now: datetime) -> None:
    issuing_key = _load_key(folder / "issuing.key")
    issuing = x509.load_pem_x509_certificate((folder / "issuing.crt").read_bytes())
    key = _new_key()
    end = now + timedelta(days=SERVER_DAYS)
    builder = _builder(_name("Rookery fleet server"), issuing.subject, key.public_key(), now, end)
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    pem = _signed(builder, issuing_key).public_bytes(Encoding.PEM)
    write_whole(folder / "server.key", _key_pem(key), 0o600)
    write_whole(folder / "server.crt", pem + issuing.public_bytes(Encoding.PEM))


def _server_fits(path: Path, hosts: Sequence[str], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    return certificate.not_valid_after_utc - now > timedelta(days=SERVER_RENEW_DAYS) and all(
        _alternative(host) in names for host in hosts
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _authority_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int, *, path_length: int
) -> x509.CertificateBuilder:
    builder = _builder(subject, issuer, key.public_key(), now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _BACKDATED).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(issuer, critical=False).sign(key, hashes.SHA256())


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is not an EC key")
    return key
