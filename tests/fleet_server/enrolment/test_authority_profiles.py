"""What our certificates say, judged by two verifiers that are not ours: OpenSSL's command and cryptography's own."""

import base64
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_server.enrolment import authorities_disk, authority_rollover_x509, authority_x509, profiles_x509
from fleet_server.enrolment.authority_x509 import Authority, check_request
from fleet_server.errors import InvalidError, SettingsError

NOW_S = 1_790_000_000.0
DAY_S = 86400.0


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    authority_x509.prepare(tmp_path / "pki", ["fleet.example.org", "192.0.2.7", "::1"], NOW_S)
    return tmp_path / "pki"


def request_pem(key: object, *, name: str = "anything", extensions: tuple[x509.ExtensionType, ...] = ()) -> str:
    """A board's certificate request, by whatever key, asking for whatever it likes."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    for one in extensions:
        builder = builder.add_extension(one, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]


def device(pki: Path, name: str = "d-0001", now_s: float = NOW_S) -> x509.Certificate:
    made = Authority(pki).issue_device(check_request(request_pem(profiles_x509.new_key())), name, 90, now_s)
    return x509.load_pem_x509_certificate(made.pem.encode())


def openssl(purpose: str, leaf: Path, roots: Path, between: Path, at_s: float = NOW_S + 60) -> str:
    """``openssl verify`` as strict as it can be; "" when it is content."""
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(at_s)), "-CAfile", str(roots),
               "-untrusted", str(between), str(leaf)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_every_certificate_says_what_it_is_for_and_nothing_more(pki: Path) -> None:
    """Authorities sign and do nothing else, the issuing one no further authority; leaves serve one purpose each."""
    root, issuing, server = (authorities_disk.read_certificate(pki / f"{name}.crt") for name in ("root", "issuing", "server"))
    board = device(pki)
    for authority, length in ((root, None), (issuing, 0)):
        limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, length)
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    for leaf, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (board, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    for one, above in ((root, root), (issuing, root), (server, issuing), (board, issuing)):
        own = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fleet.example.org"]
    assert {str(one) for one in names.get_values_for_type(x509.IPAddress)} == {"192.0.2.7", "::1"}


def test_serial_numbers_are_random_and_long(pki: Path) -> None:
    """Nobody guesses the next one, and none is longer than RFC 5280's 20 bytes or negative."""
    serials = [device(pki).serial_number for _ in range(40)]
    assert len(set(serials)) == 40
    assert all(0 < serial.bit_length() <= 159 for serial in serials)
    assert max(serial.bit_length() for serial in serials) > 150


def test_two_verifiers_take_them_for_their_purpose_only(pki: Path, tmp_path: Path) -> None:
    """OpenSSL in strict mode and cryptography: a device is a client and no server, the server the other way round."""
    board, server = device(pki), x509.load_pem_x509_certificate((pki / "server.crt").read_bytes())
    leaf = tmp_path / "device.pem"
    leaf.write_bytes(board.public_bytes(Encoding.PEM))
    assert openssl("sslclient", leaf, pki / "root.crt", pki / "ca.pem") == ""
    assert openssl("sslserver", pki / "server.crt", pki / "root.crt", pki / "server.crt") == ""
    assert "purpose" in openssl("sslserver", leaf, pki / "root.crt", pki / "ca.pem")
    assert "purpose" in openssl("sslclient", pki / "server.crt", pki / "root.crt", pki / "server.crt")
    assert "purpose" in openssl("sslclient", pki / "issuing.crt", pki / "root.crt", pki / "ca.pem")
    assert "expired" in openssl("sslclient", leaf, pki / "root.crt", pki / "ca.pem", NOW_S + 91 * DAY_S)
    assert "not yet valid" in openssl("sslclient", leaf, pki / "root.crt", pki / "ca.pem", NOW_S - DAY_S)
    store = verification.Store([x509.load_pem_x509_certificate((pki / "root.crt").read_bytes())])
    policy = verification.PolicyBuilder().store(store).time(datetime.fromtimestamp(NOW_S + 60, UTC))
    between = x509.load_pem_x509_certificates((pki / "ca.pem").read_bytes())[:1]
    assert policy.build_client_verifier().verify(board, between).chain[-1].subject == store_root(pki).subject
    assert policy.build_server_verifier(x509.DNSName("fleet.example.org")).verify(server, between)
    with pytest.raises(verification.VerificationError):
        policy.build_client_verifier().verify(server, between)
    with pytest.raises(verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere.example.org")).verify(server, between)


def store_root(pki: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki / "root.crt").read_bytes())


def test_after_two_roll_overs_of_the_root_a_board_of_the_first_day_still_verifies_the_server(pki: Path) -> None:
    """It pinned the first root and slept: the server shows the way from crossing to crossing. Both verifiers follow it."""
    first = pki.parent / "pinned.pem"
    first.write_bytes((pki / "root.crt").read_bytes())
    for _ in range(2):
        authority_rollover_x509.begin_next(pki, NOW_S, root_key=None, password=None, new_root=True)
        authority_rollover_x509.switch(pki, NOW_S)
    assert openssl("sslserver", pki / "server.crt", first, pki / "server.crt") == ""
    server, *between = x509.load_pem_x509_certificates((pki / "server.crt").read_bytes())
    store = verification.Store([x509.load_pem_x509_certificate(first.read_bytes())])
    policy = verification.PolicyBuilder().store(store).time(datetime.fromtimestamp(NOW_S + 60, UTC))
    assert len(policy.build_server_verifier(x509.DNSName("fleet.example.org")).verify(server, between)) == 5


def test_the_list_names_its_authority_grows_and_ends_in_thirty_days(pki: Path) -> None:
    """Each list is signed by its authority, carries number and key id, and a later one has the higher number."""
    authority = Authority(pki)
    lists = [x509.load_pem_x509_crl(authority.revocation_list([("ab", NOW_S)], NOW_S + at)) for at in (0, DAY_S)]
    issuing = x509.load_pem_x509_certificate((pki / "issuing.crt").read_bytes())
    for made in lists:
        assert made.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
        assert made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        assert made.get_revoked_certificate_by_serial_number(0xAB) is not None
    numbers = [made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for made in lists]
    assert numbers[0] < numbers[1]
    assert lists[0].next_update_utc == datetime.fromtimestamp(NOW_S, UTC) + timedelta(days=30)


@pytest.mark.parametrize("key", [
    rsa.generate_private_key(65537, 1024), rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP192R1()),
    ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256K1()),
], ids=["RSA-1024", "RSA-2048", "P-192", "P-384", "secp256k1"])  # fmt: skip
def test_a_key_of_another_kind_is_not_certified(key: object) -> None:
    """Weak, or merely not ours: one kind of key, so that nobody has to judge which is good enough."""
    with pytest.raises(InvalidError, match="P-256"):
        check_request(request_pem(key))


@pytest.mark.parametrize("text", [
    "", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "\ud800", "\0" * 400,
    "-----BEGIN CERTIFICATE REQUEST-----\n" + "MIIB" * 5000 + "\n-----END CERTIFICATE REQUEST-----\n",
])  # fmt: skip
def test_what_is_no_request_is_said_to_be_none(text: str) -> None:
    """Empty, broken, endless: a clear word, no stack trace."""
    with pytest.raises(InvalidError, match="not a certificate request"):
        check_request(text)


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Somebody asks for a certificate over a key that he does not hold."""
    der = x509.load_pem_x509_csr(request_pem(profiles_x509.new_key()).encode()).public_bytes(Encoding.DER)
    text = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1])).decode()  # the last byte of the signature
    with pytest.raises(InvalidError):
        check_request(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n")


def test_what_a_request_asks_for_is_not_in_the_certificate(pki: Path) -> None:
    """Another device's name, the server's names, an authority's rights: the server names the device, and that is all."""
    key = profiles_x509.new_key()
    wishes = (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("fleet.example.org")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    )
    request = check_request(request_pem(key, name="d-victim", extensions=wishes))
    made = x509.load_pem_x509_certificate(Authority(pki).issue_device(request, "d-0002", 90, NOW_S).pem.encode())
    assert [str(one.value) for one in made.subject] == ["d-0002"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [one.value for one in names] == ["urn:rookery:device:d-0002"]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_an_authority_that_has_ended_signs_nothing_and_says_what_to_do(pki: Path) -> None:
    """Ten years later nobody rolled it over."""
    with pytest.raises(SettingsError, match="has ended") as caught:
        device(pki, now_s=NOW_S + 3651 * DAY_S)
    assert "pki next" in caught.value.hint


def test_no_certificate_outlives_its_authority(pki: Path) -> None:
    """A device certificate near the end of the issuing authority ends with it."""
    issuing = x509.load_pem_x509_certificate((pki / "issuing.crt").read_bytes())
    late_s = issuing.not_valid_after_utc.timestamp() - 10 * DAY_S
    assert device(pki, now_s=late_s).not_valid_after_utc == issuing.not_valid_after_utc
