"""Roll-over of the authorities, step by step: next, switch, retire. Each step counts by the one replacement of a small file, and
can be said again after a power cut: what was done stays done, what was begun is finished.

``begin_next`` makes the next issuing authority (with ``new_root``: below a new root that the old one signs across); from then on
doors and boards take what either signed. ``switch`` signs with it, the server's own certificate too. ``retire`` lets the old one
go, once nothing that lives hangs on it. Devices have the root pinned: one that slept through all of it still trusts the server.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from fleet_server.enrolment import authorities_disk, profiles_x509
from fleet_server.enrolment.authorities_disk import Standing
from fleet_server.enrolment.authority_x509 import publish
from fleet_server.errors import ConflictError, InvalidError, SettingsError
from fleet_server.places_disk import Places, read_places, split_place, write_places


@dataclass(frozen=True, slots=True)
class Line:
    """One authority for people: ``part`` is signing, next, old, or root."""

    part: str
    file: str
    name: str
    not_after_s: float
    key_here: bool
    """Whether its private key lies in the folder."""


def status(folder: Path) -> list[Line]:
    """Every authority, issuing ones first."""
    now = authorities_disk.standing(folder)
    parts = [("signing", now.signing), *([("next", now.next)] if now.next else []), *(("old", name) for name in now.old)]
    parts += [("root", name) for name in now.roots]
    lines = []
    for part, stem in parts:
        found = authorities_disk.read_certificate(folder / f"{stem}.crt")
        here = (folder / f"{stem}.key").exists()
        lines.append(Line(part, stem, _called(found), found.not_valid_after_utc.timestamp(), here))
    return lines


def begin_next(folder: Path, now_s: float, *, root_key: Path | None, password: bytes | None, new_root: bool) -> str:
    """Make the next issuing authority; answers its name. ConflictError when there is one already, SettingsError without the key.

    ``root_key``: where the key of the newest root lies today (None: in the folder), ``password``: if it is locked.
    """
    now = datetime.fromtimestamp(now_s, UTC)
    with authorities_disk.one_at_a_time(folder):
        authorities_disk.tidy(folder)
        standing = authorities_disk.standing(folder)
        if standing.next:
            raise ConflictError(f"{standing.next} is the next authority already", "rookery-server pki switch")
        by = _root_signer(folder, standing, root_key, password)
        if by.certificate.not_valid_after_utc <= now:
            raise SettingsError(f"the root {standing.roots[0]} has ended; boards must be given a new ca.pem by hand")
        if new_root:
            standing, by = _below_a_new_root(folder, standing, by, now)
        number = standing.made + 1
        name, key = f"issuing-{number}", profiles_x509.new_key()
        authorities_disk.write_key(folder / f"{name}.key", key)
        made = profiles_x509.issuing(f"Rookery issuing {number}", key, by, now)
        authorities_disk.write_certificate(folder / f"{name}.crt", made)
        authorities_disk.write_standing(folder, msgspec.structs.replace(standing, next=name, made=number))
        publish(folder, now_s)
        return name


def switch(folder: Path, now_s: float) -> tuple[str, str]:
    """Sign with the next authority from now on; answers old and new name. ConflictError when there is none."""
    with authorities_disk.one_at_a_time(folder):
        standing = authorities_disk.standing(folder)
        if not standing.next:
            raise ConflictError("there is no next authority", "rookery-server pki next makes it")
        old, new = standing.signing, standing.next
        after = msgspec.structs.replace(standing, signing=new, next="", old=(old, *standing.old))
        authorities_disk.write_standing(folder, after)
        publish(folder, now_s)
        return old, new


def hanging(folder: Path, living: list[tuple[str, str]]) -> list[str]:
    """Devices (of pairs: device, its newest living certificate in PEM) whose certificate an old authority signed."""
    loaded = authorities_disk.load(folder)
    today = {_key_id(signer.certificate) for signer in loaded.signers[: len(loaded.signers) - len(loaded.standing.old)]}
    return [device for device, pem in living if _issuer_key_id(x509.load_pem_x509_certificate(pem.encode())) not in today]


def retire(folder: Path, now_s: float) -> list[str]:
    """Let the old issuing authorities go; answers their names. The caller asked ``hanging``. Roots stay: boards pin them."""
    with authorities_disk.one_at_a_time(folder):
        standing = authorities_disk.standing(folder)
        if not standing.old:
            authorities_disk.tidy(folder)  # what a power cut left of the last time
            publish(folder, now_s)
            raise ConflictError("there is no old authority to retire", "rookery-server pki status")
        after = msgspec.structs.replace(standing, old=())
        authorities_disk.write_standing(folder, after)
        authorities_disk.tidy(folder)
        publish(folder, now_s)
        return list(standing.old)


def name_server(folder: Path, now_s: float, places: tuple[str, ...]) -> Places:
    """Certify the server under these names too, and tell boards that it is reached there, the first one first."""
    for place in places:
        try:
            host, _port = split_place(place)
            profiles_x509.alternative(host)
        except ValueError as error:
            raise InvalidError(f"{place!r} is neither HOST nor HOST:PORT: {error}") from None
    with authorities_disk.one_at_a_time(folder):
        now = Places(read_places(folder).own, places)
        write_places(folder, now)
        publish(folder, now_s)
        return now


def _root_signer(folder: Path, standing: Standing, root_key: Path | None, password: bytes | None) -> profiles_x509.Signer:
    newest = standing.roots[0]
    path = root_key or folder / f"{newest}.key"
    certificate = authorities_disk.read_certificate(folder / f"{newest}.crt")
    try:
        key = authorities_disk.read_key(path, password)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", f"bring the key of {newest}.crt: --root-key FILE") from None
    except ValueError as error:
        raise SettingsError(f"{path} cannot be used: {error}", "a locked key's passphrase comes by ROOKERY_PASSPHRASE") from None
    if key.public_key() != certificate.public_key():
        raise SettingsError(f"{path} is not the key of {newest}.crt")
    return profiles_x509.Signer(certificate, key)


def _below_a_new_root(
    folder: Path, standing: Standing, by: profiles_x509.Signer, now: datetime
) -> tuple[Standing, profiles_x509.Signer]:
    limit = by.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and limit < 2:
        raise SettingsError(f"{standing.roots[0]}.crt may sign no further root; boards must be given a new ca.pem by hand")
    name = f"root-{len(standing.roots) + 1}"
    key = profiles_x509.new_key()
    root = profiles_x509.Signer(profiles_x509.root(f"Rookery root {len(standing.roots) + 1}", key, now), key)
    authorities_disk.write_key(folder / f"{name}.key", key)
    authorities_disk.write_certificate(folder / f"{name}.crt", root.certificate)
    # Signed across by the root before it: boards of the first root go from crossing to crossing.
    authorities_disk.write_certificate(
        folder / authorities_disk.across_name(name, standing.roots[0]), profiles_x509.cross(root.certificate, by, now)
    )
    return msgspec.structs.replace(standing, roots=(name, *standing.roots)), root


def _called(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _issuer_key_id(certificate: x509.Certificate) -> bytes | None:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
