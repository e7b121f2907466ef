"""Which authorities live side by side in ``pki/``, and their files. One small file says it, and is replaced as a whole.

``authorities.json``: ``signing`` signs now, ``next`` will, ``old`` did (their devices still come); ``roots``: newest first. Files
of an authority are written once, before its name stands there: a power cut leaves files without a name, which the next step makes
anew or removes, never a name without its files.
"""

import contextlib
import fcntl
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from fleet_server.enrolment.profiles_x509 import Signer
from fleet_server.errors import ConflictError, SettingsError
from ota.durable_disk import fsync_folder, remove_leftovers, write_whole

STATE = "authorities.json"


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of authorities; each is the stem of its files."""

    signing: str = "issuing"
    next: str = ""
    old: tuple[str, ...] = ()
    roots: tuple[str, ...] = ("root",)
    """Newest first: the one that signs what comes next. Those behind it are roots that boards may still have pinned."""
    made: int = 1
    """How many issuing authorities there were: names are not used twice."""

    @property
    def issuing(self) -> tuple[str, ...]:
        """Every issuing authority whose certificates are taken: the signing one first."""
        return (self.signing, *([self.next] if self.next else []), *self.old)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The authorities as they are on the disk at one moment."""

    standing: Standing
    signers: tuple[Signer, ...]
    """Issuing authorities, the signing one first."""
    roots: tuple[x509.Certificate, ...]
    across: tuple[x509.Certificate, ...]
    """Each root but the first, signed by the one before it."""

    @property
    def ca_pem(self) -> bytes:
        """What boards are given and clients are checked against: issuing authorities, cross-signed root, roots."""
        issuing = [signer.certificate for signer in self.signers]
        return b"".join(one.public_bytes(Encoding.PEM) for one in (*issuing, *self.across, *self.roots))

    @property
    def server_chain_pem(self) -> bytes:
        """What stands behind the server's certificate: the way from it to every root that a board may have pinned."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.signers[0].certificate, *self.across))


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Only one process changes the authorities; ConflictError where another one does so now."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError("another command changes the authorities at this moment", "wait for it, then try again") from None
        yield


def standing(folder: Path) -> Standing:
    """What ``authorities.json`` says; of a folder that was made before there was one: one of each kind."""
    path = folder / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except FileNotFoundError:
        return Standing()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "put it back from the backup: it names the authorities") from None


def write_standing(folder: Path, now: Standing) -> None:
    """The one step that counts: before it the old standing holds, after it the new one."""
    write_whole(folder / STATE, msgspec.json.encode(now) + b"\n")


def load(folder: Path) -> Loaded:
    """Read every authority that is named. SettingsError naming what cannot be read."""
    now = standing(folder)
    try:
        signers = tuple(read_signer(folder, name) for name in now.issuing)
        roots = tuple(read_certificate(folder / f"{name}.crt") for name in now.roots)
        across = tuple(read_certificate(folder / across_name(*pair)) for pair in itertools.pairwise(now.roots))
        if not roots or any(not signed_by(one.certificate, roots) for one in signers):
            raise ValueError("an issuing authority is not signed by a root that is named here")
    except (OSError, ValueError) as error:
        raise SettingsError(f"the certificate authority in {folder} cannot be read: {error}") from None
    return Loaded(now, signers, roots, across)


def across_name(root: str, by: str) -> str:
    """File of a root that an older one signed."""
    return f"{root}-by-{by}.crt"


def signed_by(certificate: x509.Certificate, authorities: tuple[x509.Certificate, ...]) -> bool:
    """Whether one of these signed it (dates are not looked at)."""
    for authority in authorities:
        if certificate.issuer == authority.subject:
            with contextlib.suppress(Exception):  # InvalidSignature, or a key of another kind: not by this one
                certificate.verify_directly_issued_by(authority)
                return True
    return False


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file; OSError or ValueError."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def read_signer(folder: Path, name: str) -> Signer:
    """Certificate and key of one authority; ValueError where they do not belong together."""
    certificate, key = read_certificate(folder / f"{name}.crt"), read_key(folder / f"{name}.key")
    if certificate.public_key() != key.public_key():
        raise ValueError(f"{name}.key is not the key of {name}.crt")
    return Signer(certificate, key)


def read_key(path: Path, password: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """A private key, ``password`` if it is locked; OSError or ValueError."""
    data = path.read_bytes()
    try:
        key = load_pem_private_key(data, password if b"ENCRYPTED" in data else None)
    except TypeError as error:  # a passphrase is needed
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is not an EC key")
    return key


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Only its owner may read it."""
    write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """PEM."""
    write_whole(path, certificate.public_bytes(Encoding.PEM))


def tidy(folder: Path) -> list[str]:
    """Remove issuing authorities that nobody names any more, and what writes that were cut short left; answers their names.

    Nothing is removed where no ``authorities.json`` says who is needed. Roots stay: their certificates are pinned, their keys
    are their owner's to take away.
    """
    remove_leftovers(folder)
    if not (folder / STATE).exists():
        return []
    needed = set(standing(folder).issuing)
    gone = sorted({path.stem for path in folder.glob("issuing*.*") if path.suffix in {".key", ".crt"}} - needed)
    for name in gone:
        for suffix in (".key", ".crt"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    if gone:
        fsync_folder(folder)
    return gone
