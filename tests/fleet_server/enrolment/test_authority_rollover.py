"""Authorities side by side: the steps of a roll-over, and a power cut between any two of its writes."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from fleet_server import device_tls_x509, places_disk
from fleet_server.enrolment import authorities_disk, authority_rollover_x509, authority_x509, profiles_x509
from fleet_server.enrolment.authority_x509 import Authority, CheckedRequest
from fleet_server.errors import ConflictError, InvalidError, SettingsError

NOW_S = 1_790_000_000.0
HOSTS = ["localhost", "192.0.2.7"]


class PowerCutError(Exception):
    """The machine is off."""


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    authority_x509.prepare(tmp_path / "pki", HOSTS, NOW_S)
    return tmp_path / "pki"


def begin(pki: Path, *, new_root: bool = False, root_key: Path | None = None, password: bytes | None = None) -> str:
    return authority_rollover_x509.begin_next(pki, NOW_S, root_key=root_key, password=password, new_root=new_root)


def issued(pki: Path, name: str = "d-0001") -> str:
    key = profiles_x509.new_key().public_key()
    return Authority(pki).issue_device(CheckedRequest(key, "0" * 64), name, 90, NOW_S).pem


def way(pem: str | bytes, authorities: bytes, root: bytes) -> bool:
    """Whether a certificate reaches this root by these authorities, each signature checked."""
    data = pem.encode() if isinstance(pem, str) else pem
    known = (*x509.load_pem_x509_certificates(authorities), *x509.load_pem_x509_certificates(root))
    here, (anchor,) = x509.load_pem_x509_certificate(data), x509.load_pem_x509_certificates(root)
    for _ in range(6):
        if here == anchor:
            return True
        above = [one for one in known if authorities_disk.signed_by(here, (one,)) and one != here]
        if not above:
            return False
        here = anchor if anchor in above else above[0]
    return False


def sound(pki: Path, pinned: bytes) -> None:
    """What must hold at every moment after a start: server and devices reach the root that boards pinned on the first day."""
    loaded = authorities_disk.load(pki)
    assert (pki / "ca.pem").read_bytes() == loaded.ca_pem
    server = (pki / "server.crt").read_bytes()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pki / "server.crt", pki / "server.key")  # a pair
    assert way(server, server, pinned)
    assert way(issued(pki), loaded.ca_pem, pinned)
    names = {path.stem for path in pki.glob("issuing*.key")}
    assert names == set(loaded.standing.issuing)
    assert not list(pki.glob("*.part"))


def test_the_root_key_may_be_taken_away_and_is_asked_back_for_a_new_authority_only(pki: Path, tmp_path: Path) -> None:
    """The key lies on a stick, locked by a passphrase: the server renews itself, signs devices and lists without it."""
    key = authorities_disk.read_key(pki / "root.key")
    stick = tmp_path / "root.key"
    stick.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words")))
    (pki / "root.key").unlink()
    before = (pki / "server.crt").read_bytes()
    later_s = NOW_S + 340 * 86400.0
    authority = authority_x509.prepare(pki, HOSTS, later_s)
    assert (pki / "server.crt").read_bytes() != before
    assert issued(pki)
    assert authority.revocation_list([("ab", later_s)], later_s)
    with pytest.raises(SettingsError, match=r"root\.key") as caught:
        begin(pki)
    assert "--root-key" in caught.value.hint
    with pytest.raises(SettingsError, match="cannot be used"):
        begin(pki, root_key=stick, password=b"wrong")
    with pytest.raises(SettingsError, match="cannot be used"):
        begin(pki, root_key=stick)
    assert begin(pki, root_key=stick, password=b"words") == "issuing-2"
    assert not (pki / "root.key").exists()


def test_a_key_of_another_root_makes_no_authority(pki: Path, tmp_path: Path) -> None:
    """The wrong stick."""
    other = tmp_path / "other.key"
    other.write_bytes(profiles_x509.new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SettingsError, match=r"not the key of root\.crt"):
        begin(pki, root_key=other)


def test_step_by_step(pki: Path) -> None:
    """Next: both are taken, the old one signs. Switch: the new one signs. Retire: only then is the old one gone."""
    pinned = (pki / "root.crt").read_bytes()
    old = issued(pki)
    authority = Authority(pki)  # as a door holds it all the time
    assert begin(pki) == "issuing-2"
    assert len(x509.load_pem_x509_certificates(authority.chain_pem.encode())) == 3
    assert authority_rollover_x509.hanging(pki, [("d-1", issued(pki))]) == []
    with pytest.raises(ConflictError, match="already"):
        begin(pki)
    assert authority_rollover_x509.switch(pki, NOW_S) == ("issuing", "issuing-2")
    new = issued(pki)
    assert authority_rollover_x509.hanging(pki, [("d-old", old), ("d-new", new)]) == ["d-old"]
    for certificate in (old, new):
        assert way(certificate, (pki / "ca.pem").read_bytes(), pinned)
    with pytest.raises(ConflictError, match="no next"):
        authority_rollover_x509.switch(pki, NOW_S)
    assert authority_rollover_x509.retire(pki, NOW_S) == ["issuing"]
    assert not (pki / "issuing.key").exists()
    assert not way(old, (pki / "ca.pem").read_bytes(), pinned)
    assert way(new, (pki / "ca.pem").read_bytes(), pinned)
    with pytest.raises(ConflictError, match="no old"):
        authority_rollover_x509.retire(pki, NOW_S)
    assert begin(pki) == "issuing-3"  # a name is not used twice
    sound(pki, pinned)


def test_every_authority_has_its_list(pki: Path) -> None:
    """While three live side by side there are three lists, each signed by its own: without it none of its devices comes in."""
    begin(pki)
    authority_rollover_x509.switch(pki, NOW_S)
    begin(pki)
    pieces = Authority(pki).revocation_list([("ab", NOW_S)], NOW_S).split(b"-----END X509 CRL-----\n")[:-1]
    lists = [x509.load_pem_x509_crl(piece + b"-----END X509 CRL-----\n") for piece in pieces]
    signers = authorities_disk.load(pki).signers
    assert len(lists) == len(signers) == 3
    for made, signer in zip(lists, signers, strict=True):
        assert made.issuer == signer.certificate.subject
        assert made.is_signature_valid(signer.key.public_key())


STEPS: dict[str, Callable[[Path], object]] = {
    "next": lambda pki: begin(pki),
    "next below a new root": lambda pki: begin(pki, new_root=True),
    "switch": lambda pki: authority_rollover_x509.switch(pki, NOW_S),
    "retire": lambda pki: authority_rollover_x509.retire(pki, NOW_S),
    "server": lambda pki: authority_rollover_x509.name_server(pki, NOW_S, ("new.example.org", "old.example.org:9443")),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("torn", [False, True], ids=["before the write", "after the write"])
def test_a_power_cut_between_any_two_writes(step: str, torn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write in turn the power fails. The next start has everything right; the step said again ends where it should."""
    real = authorities_disk.write_whole
    left = {"writes": -1}

    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        if left["writes"] == 0 and not torn:
            raise PowerCutError
        real(path, data, mode)
        if left["writes"] == 0:
            raise PowerCutError
        left["writes"] -= 1

    for module in (authorities_disk, authority_x509, places_disk):
        monkeypatch.setattr(module, "write_whole", write)
    cuts = 0
    while True:
        left["writes"] = -1
        pki = tmp_path / f"pki-{cuts}"
        authority_x509.prepare(pki, HOSTS, NOW_S)
        pinned = (pki / "root.crt").read_bytes()
        if step in ("switch", "retire"):
            begin(pki)
        if step == "retire":
            authority_rollover_x509.switch(pki, NOW_S)
        left["writes"] = cuts
        try:
            STEPS[step](pki)
        except PowerCutError:
            cuts += 1
        else:
            break
        left["writes"] = -1
        authority_x509.prepare(pki, HOSTS, NOW_S)  # the next start
        sound(pki, pinned)
        try:
            STEPS[step](pki)
        except ConflictError:
            pass  # it had counted already
        sound(pki, pinned)
        assert _reached(step, pki), (step, cuts)
    assert cuts >= {"server": 3}.get(step, 2)


def _reached(step: str, pki: Path) -> bool:
    standing = authorities_disk.standing(pki)
    if step.startswith("next"):
        return standing.next == "issuing-2" and len(standing.roots) == (2 if "root" in step else 1)
    if step == "server":
        names = authorities_disk.read_certificate(pki / "server.crt").extensions
        found = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        return "new.example.org" in found
    return standing.signing == "issuing-2" and standing.old == (() if step == "retire" else ("issuing",))


def test_an_authority_that_was_begun_at_the_first_start_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very first start loses its power, at each write in turn."""
    real = authorities_disk.write_whole
    left = {"writes": 0}

    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        if left["writes"] == 0:
            raise PowerCutError
        left["writes"] -= 1
        real(path, data, mode)

    for module in (authorities_disk, authority_x509, places_disk):
        monkeypatch.setattr(module, "write_whole", write)
    for cut in range(10):
        left["writes"] = cut
        with pytest.raises(PowerCutError):
            authority_x509.prepare(tmp_path / f"pki-{cut}", HOSTS, NOW_S)
        left["writes"] = -1
        pki = tmp_path / f"pki-{cut}"
        authority_x509.prepare(pki, HOSTS, NOW_S)
        sound(pki, (pki / "root.crt").read_bytes())


def test_a_folder_of_before_goes_on(pki: Path) -> None:
    """A server of an older version wrote no authorities.json: its one authority is what it is, and can be rolled over."""
    (pki / "authorities.json").unlink()
    pinned = (pki / "root.crt").read_bytes()
    authority_x509.prepare(pki, HOSTS, NOW_S)
    sound(pki, pinned)
    begin(pki)
    sound(pki, pinned)


def test_a_broken_list_of_authorities_is_said_and_costs_no_key(pki: Path) -> None:
    """authorities.json is damaged: the start says so, and removes nothing."""
    begin(pki)
    (pki / "authorities.json").write_text("{")
    with pytest.raises(SettingsError, match=r"authorities\.json"):
        authority_x509.prepare(pki, HOSTS, NOW_S)
    assert (pki / "issuing-2.key").exists()


def test_two_at_once(pki: Path) -> None:
    """Two people roll over at the same moment: the second is told to wait."""
    with authorities_disk.one_at_a_time(pki), pytest.raises(ConflictError, match="another command"):
        begin(pki)


def test_several_names_and_addresses(pki: Path) -> None:
    """While the server moves both names stand in its certificate, and boards are told both; then the old one goes."""
    authority_rollover_x509.name_server(pki, NOW_S, ("new.example.org", "old.example.org:9443", "[2001:db8::7]:443"))
    assert places_disk.told_urls(pki, "https://x:8443") == [
        "https://new.example.org:8443", "https://old.example.org:9443", "https://[2001:db8::7]:443",
    ]  # fmt: skip
    hosts = places_disk.read_places(pki).hosts
    assert hosts == [*HOSTS, "new.example.org", "old.example.org", "2001:db8::7"]
    authority_x509.prepare(pki, HOSTS, NOW_S)  # a start with the settings of before forgets nothing
    names = authorities_disk.read_certificate(pki / "server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {"new.example.org", "old.example.org"} <= set(names.value.get_values_for_type(x509.DNSName))
    authority_rollover_x509.name_server(pki, NOW_S, ("new.example.org",))
    names = authorities_disk.read_certificate(pki / "server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "old.example.org" not in names.value.get_values_for_type(x509.DNSName)
    with pytest.raises(InvalidError, match="HOST"):
        authority_rollover_x509.name_server(pki, NOW_S, ("name:port",))


def test_the_door_takes_up_new_files_at_the_next_handshake(pki: Path) -> None:
    """No restart: a new certificate or list makes a new context; a torn pair leaves the old one."""
    clock = {"now_s": NOW_S + 60}
    authority = Authority(pki)
    door = device_tls_x509.DeviceTls(pki, now_s=lambda: clock["now_s"])
    first = door.context()
    assert first.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert door.context() is first
    begin(pki)
    assert not door.context().verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF  # the next authority has no list yet
    (pki / "crl.pem").write_bytes(authority.revocation_list([], NOW_S))
    second = door.context()
    assert second is not first
    assert second.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    authorities_disk.write_key(pki / "server.key", profiles_x509.new_key())  # the certificate of it is on its way
    assert door.context() is second
    authority_x509.publish_alone(pki, NOW_S)
    assert door.context() is not second
    clock["now_s"] = NOW_S + 31 * 86400.0
    assert not door.context().verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


