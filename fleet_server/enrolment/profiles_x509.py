"""Profiles of our certificates: what each kind says, and nothing else builds one. RFC 5280; keys are P-256, signatures SHA-256.

Serial numbers are 159 random bits (20 bytes), so that nobody guesses one and no two authorities meet. Every certificate names its
own key and its issuer's (SKI, AKI): while two authorities live side by side, that is how a verifier tells them apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT_DAYS, ISSUING_DAYS, SERVER_DAYS = 20 * 365, 10 * 365, 397
CRL_DAYS = 30
"""Until a revocation list ends; it is re-issued daily, because an ended list refuses everybody."""
BACKDATED = timedelta(hours=1)
"""A board's clock may be a little behind ours."""


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority that signs: its certificate and the private key of it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def root(common_name: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """A root, signed by itself. No limit to the path: the next root is signed across by this one."""
    name = _name(common_name)
    return _sign(_authority(name, name, key.public_key(), now, now + timedelta(days=ROOT_DAYS), path_length=None), key)


def cross(of: x509.Certificate, by: Signer, now: datetime) -> x509.Certificate:
    """The same root once more, signed by an older one: whoever trusts that one finds the way to this one."""
    key = of.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # we made it
    end = min(of.not_valid_after_utc, by.certificate.not_valid_after_utc)
    return _sign(_authority(of.subject, by.certificate.subject, key, now, end, path_length=None), by.key)


def issuing(common_name: str, key: ec.EllipticCurvePrivateKey, by: Signer, now: datetime) -> x509.Certificate:
    """An authority that signs servers and devices, and no further authority."""
    end = min(now + timedelta(days=ISSUING_DAYS), by.certificate.not_valid_after_utc)
    return _sign(_authority(_name(common_name), by.certificate.subject, key.public_key(), now, end, path_length=0), by.key)


def server(key: ec.EllipticCurvePrivateKey, by: Signer, hosts: Sequence[str], now: datetime) -> x509.Certificate:
    """A server under these names and addresses; good for nothing but a server."""
    end = min(now + timedelta(days=SERVER_DAYS), by.certificate.not_valid_after_utc)
    names = x509.SubjectAlternativeName([alternative(host) for host in hosts])
    builder = _leaf(_name("Rookery fleet server"), key.public_key(), by, now, end, ExtendedKeyUsageOID.SERVER_AUTH)
    return _sign(builder.add_extension(names, critical=False), by.key)


def device(key: ec.EllipticCurvePublicKey, device_id: str, by: Signer, now: datetime, days: float) -> x509.Certificate:
    """A device, by its common name; good for nothing but a client. Nothing of its request but the key is in it."""
    end = min(now + timedelta(days=days), by.certificate.not_valid_after_utc)
    builder = _leaf(_name(device_id), key, by, now, end, ExtendedKeyUsageOID.CLIENT_AUTH)
    # The same name once more where modern verifiers look for one: they read no common name.
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:rookery:device:{device_id}")])
    return _sign(builder.add_extension(names, critical=False), by.key)


def revocation_list(by: Signer, revoked: Iterable[tuple[str, float]], now_s: float, end_days: float = CRL_DAYS) -> bytes:
    """The list (PEM) of these serials (hexadecimal) with the times of their revocation.

    ``now_s`` must grow from list to list by a second at least: a verifier that holds two of one authority takes the later.
    """
    now = datetime.fromtimestamp(now_s, UTC)
    # All at once: the builder looks through what it has for each that is added, and copies it.
    entries = [
        x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        .revocation_date(datetime.fromtimestamp(revoked_s, UTC)).build()
        for serial, revoked_s in revoked
    ]  # fmt: skip
    builder = x509.CertificateRevocationListBuilder(by.certificate.subject, revoked_certificates=entries)
    builder = builder.last_update(now - BACKDATED).next_update(now + timedelta(days=end_days))
    builder = builder.add_extension(x509.CRLNumber(int(now_s)), critical=False)
    builder = builder.add_extension(_authority_key(by.key), critical=False)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def alternative(host: str) -> x509.GeneralName:
    """A host as a certificate names it."""
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _leaf(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, by: Signer, now: datetime, end: datetime, purpose: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    builder = _begun(subject, by.certificate.subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)


def _authority(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime, *,
    path_length: int | None,
) -> x509.CertificateBuilder:  # fmt: skip
    builder = _begun(subject, issuer, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs=True), critical=True)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - BACKDATED).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.add_extension(_authority_key(key), critical=False).sign(key, hashes.SHA256())


def _authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, digital_signature: bool = False, signs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
