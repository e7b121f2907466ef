"""Claims, requests, certificates: one claim lets one key in, once."""

import hashlib
import threading
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet_server.audit import service as audit
from fleet_server.database import Database
from fleet_server.enrolment import certificates, service
from fleet_server.enrolment.authority_x509 import check_request
from fleet_server.enrolment.service import ClaimTerms, Issuer
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError
from fleet_server.inventory import service as inventory

NOW_S = 1_790_000_000.0


def _claim(database: Database, terms: ClaimTerms | None = None, ttl_s: float = 3600.0) -> str:
    with database.write() as session:
        return service.make_claims(
            session, count=1, terms=terms or ClaimTerms(), ttl_s=ttl_s, who="ada", now_s=NOW_S
        )[0].token  # fmt: skip


def _enrol(database: Database, board: Any, claim: str, issuer: Issuer, now_s: float = NOW_S, **facts: Any) -> service.Outcome:
    with database.write() as session:
        return service.enrol(session, board.request(claim, **facts), issuer, origin="192.0.2.7", now_s=now_s)


def _serial(pem: str) -> str:
    return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"


def test_a_claim_lets_a_board_in(database: Database, issuer: Issuer, new_board: Any) -> None:
    """A fresh board brings its claim: a client certificate with its new id as common name, and a place in the inventory."""
    outcome = _enrol(database, new_board(), _claim(database, ClaimTerms(group="yard", device_name="gate")), issuer)
    assert outcome.status == "accepted"
    certificate = x509.load_pem_x509_certificate(outcome.certificate_pem.encode())
    assert certificate.subject.rfc4514_string() == f"CN={outcome.device_id}"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with database.read() as session:
        device = inventory.get(session, "gate", NOW_S)
        assert (device.id, device.group, device.state, device.profile) == (outcome.device_id, "yard", "pending", "rpi-5")
        assert device.certificate.serial == f"{certificate.serial_number:x}"
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert device.certificate.key_sha256 == hashlib.sha256(spki).hexdigest(), "whose key it is can be judged from outside"
        assert [entry.what for entry in audit.entries(session)] == ["enrolment.accept", "claim.create"]


def test_a_lost_answer_can_be_asked_for_again(database: Database, issuer: Issuer, new_board: Any) -> None:
    """The power fails before the certificate is on the card: the same key again gets the same answer, another key nothing."""
    claim, board = _claim(database), new_board()
    first = _enrol(database, board, claim, issuer)
    assert _enrol(database, board, claim, issuer, NOW_S + 10) == first
    with pytest.raises(ForbiddenError, match="used by another board"):
        _enrol(database, new_board(), claim, issuer)
    with database.read() as session:
        assert inventory.counts(session, NOW_S).total == 1


def test_two_boards_race_for_one_claim(database: Database, issuer: Issuer, new_board: Any) -> None:
    """A copied card image holds a claim twice, a leaked one is tried by fifty: at the same moment exactly one gets in."""
    for number, boards in enumerate((2, 2, 50)):
        claim, outcomes, barrier = _claim(database), [], threading.Barrier(boards)

        def ask(board: Any, claim: str = claim, outcomes: list[str] = outcomes, barrier: Any = barrier) -> None:
            barrier.wait(60)
            try:
                outcomes.append(_enrol(database, board, claim, issuer).status)
            except ForbiddenError:
                outcomes.append("refused")

        threads = [threading.Thread(target=ask, args=(new_board(),)) for _ in range(boards)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert sorted(outcomes) == ["accepted", *["refused"] * (boards - 1)]
        with database.read() as session:
            assert inventory.counts(session, NOW_S).total == number + 1


@pytest.mark.parametrize(
    ("terms", "facts", "now_s", "words"),
    [
        (ClaimTerms(serial="other"), {}, NOW_S, "serial"),
        (ClaimTerms(profile="rpi-4"), {}, NOW_S, "profile"),
        (ClaimTerms(), {}, NOW_S + 3601, "expired"),
    ],
)
def test_a_claim_is_good_only_on_its_terms(
    database: Database, issuer: Issuer, new_board: Any, terms: ClaimTerms, facts: Any, now_s: float, words: str
) -> None:
    """A claim bound to another board, or too old: refused, in words, and nothing is used up or enrolled."""
    claim = _claim(database, terms)
    with pytest.raises(ForbiddenError, match=words):
        _enrol(database, new_board(), claim, issuer, now_s, **facts)
    with database.read() as session:
        assert inventory.counts(session, NOW_S).total == 0
        assert service.claims(session, NOW_S)[0].used_s is None


def test_the_list_of_claims_says_what_became_of_each(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Three claims were given out; one was used, one is still good, one was left lying too long."""
    used, _unused = _claim(database), _claim(database)
    outcome = _enrol(database, new_board(), used, issuer)
    with database.read() as session:
        assert sorted((one.state, one.device) for one in service.claims(session, NOW_S)) == [
            ("unused", None), ("used", outcome.device_id),
        ]  # fmt: skip
        late = service.claims(session, NOW_S + 3601)
        assert sorted((one.state, one.device) for one in late) == [("expired", None), ("used", outcome.device_id)]


def test_an_unknown_claim_is_refused(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Someone guesses."""
    with pytest.raises(ForbiddenError, match="not known"):
        _enrol(database, new_board(), "rkc_0123456789abcdef", issuer)


def test_a_person_decides_where_the_claim_says_so(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Claims printed on stickers: each board waits until a person looked at it; the refused one is told why."""
    good, bad = new_board(), new_board()
    claims = [_claim(database, ClaimTerms(accept=False)) for _ in range(2)]
    assert _enrol(database, good, claims[0], issuer).status == "pending"
    assert _enrol(database, bad, claims[1], issuer).status == "pending"
    assert _enrol(database, good, claims[0], issuer).status == "pending"
    with database.read() as session:
        by_key = {each.key_sha256: each.id for each in service.enrolments(session)}
    keys = [check_request(board.csr_pem).key_sha256 for board in (good, bad)]
    with database.write() as session:
        device_id = service.accept(session, by_key[keys[0]], issuer, who="ada", origin="", now_s=NOW_S)
        service.reject(session, by_key[keys[1]], reason="not ours", who="ada", origin="", now_s=NOW_S)
    assert _enrol(database, good, claims[0], issuer).device_id == device_id
    with pytest.raises(ForbiddenError, match="not ours") as caught:
        _enrol(database, bad, claims[1], issuer)
    assert "rookery claim create" in caught.value.hint
    assert _enrol(database, bad, _claim(database), issuer).status == "accepted", "and what the hint says helps"
    with pytest.raises(ConflictError), database.write() as session:
        service.accept(session, by_key[keys[0]], issuer, who="ada", origin="", now_s=NOW_S)


def test_a_name_that_is_taken_gets_an_ending(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Two claims were made with the same device name: both boards get in, under different names."""
    for _ in range(2):
        _enrol(database, new_board(), _claim(database, ClaimTerms(device_name="gate")), issuer)
    with database.read() as session:
        names = [device.name for device in inventory.find(session, NOW_S)]
    assert names[0] == "gate"
    assert names[1].startswith("gate-")


def test_renewal_gives_a_new_certificate_and_keeps_the_old_one(database: Database, issuer: Issuer, new_board: Any) -> None:
    """At two thirds of its life the device asks with a new key: both certificates are good, a lost answer costs nothing."""
    board, later_s = new_board(), NOW_S + 60 * 86400
    first = _enrol(database, board, _claim(database), issuer)
    assert first.device_id is not None
    fresh, presented = new_board(), _serial(first.certificate_pem)
    with database.write() as session:
        pem = service.renew(session, first.device_id, fresh.csr_pem, issuer, presented=presented, now_s=later_s)
    with database.write() as session:
        again = service.renew(session, first.device_id, fresh.csr_pem, issuer, presented=presented, now_s=later_s + 5)
        assert again == pem
        for each in (first.certificate_pem, pem):
            serial = f"{x509.load_pem_x509_certificate(each.encode()).serial_number:x}"
            assert certificates.refusal(session, serial=serial, device_id=first.device_id, now_s=later_s) == ""
        assert inventory.get(session, first.device_id, later_s).certificate.not_after_s > later_s + 80 * 86400


def test_a_stolen_key_cannot_become_another_device(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Device B sends a request with device A's key, over its own connection or with a claim of its own."""
    board = new_board()
    _enrol(database, board, _claim(database), issuer)
    second = _enrol(database, new_board(), _claim(database), issuer)
    assert second.device_id is not None
    presented = _serial(second.certificate_pem)
    with pytest.raises(ForbiddenError, match="another device"), database.write() as session:
        service.renew(session, second.device_id, board.csr_pem, issuer, presented=presented, now_s=NOW_S)
    with pytest.raises(ForbiddenError, match="certified before"):
        _enrol(database, board, _claim(database), issuer)


def test_revocation_ends_every_certificate(database: Database, issuer: Issuer, new_board: Any) -> None:
    """A camera is stolen: its certificates are refused from this moment, and stand in the next revocation list."""
    board = new_board()
    outcome = _enrol(database, board, _claim(database), issuer)
    assert outcome.device_id is not None
    serial = f"{x509.load_pem_x509_certificate(outcome.certificate_pem.encode()).serial_number:x}"
    for _ in range(2):  # twice is the same as once
        with database.write() as session:
            service.revoke(session, outcome.device_id, reason="stolen", who="ada", origin="", now_s=NOW_S + 1)
    with database.read() as session:
        assert "revoked" in certificates.refusal(session, serial=serial, device_id=outcome.device_id, now_s=NOW_S + 2)
        revoked = certificates.revoked(session, NOW_S + 2)
        assert certificates.revoked_devices(session) == [outcome.device_id]
        assert inventory.get(session, outcome.device_id, NOW_S).state == "revoked"
    listed = x509.load_pem_x509_crl(issuer.authority.revocation_list(revoked, NOW_S + 2))
    assert listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def test_a_certificate_is_refused_for_each_other_reason(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Unknown serial, another device's serial, past its end."""
    outcome = _enrol(database, new_board(), _claim(database), issuer)
    assert outcome.device_id is not None
    serial = f"{x509.load_pem_x509_certificate(outcome.certificate_pem.encode()).serial_number:x}"
    with database.read() as session:
        why = [
            certificates.refusal(session, serial="abc", device_id=outcome.device_id, now_s=NOW_S),
            certificates.refusal(session, serial=serial, device_id="d-other", now_s=NOW_S),
            certificates.refusal(session, serial=serial, device_id=outcome.device_id, now_s=NOW_S + 91 * 86400),
        ]
    assert [word in text for word, text in zip(("not issue", "another device", "expired"), why, strict=True)] == [True] * 3


def test_requests_that_are_not_ours_to_sign(new_board: Any) -> None:
    """Rubbish, an RSA key, a weak curve, a request whose signature was tampered with: each refused, naming the field."""
    name = x509.Name([])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    rsa_request = builder.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    small = builder.sign(ec.generate_private_key(ec.SECP192R1()), hashes.SHA256())
    der = bytearray(x509.load_pem_x509_csr(new_board().csr_pem.encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    tampered = x509.load_der_x509_csr(bytes(der))
    for bad in ("", "-----BEGIN CERTIFICATE REQUEST-----\nx\n", "🦜", *(
        each.public_bytes(Encoding.PEM).decode() for each in (rsa_request, small, tampered)
    )):  # fmt: skip
        with pytest.raises(InvalidError, match="csr_pem"):
            check_request(bad)


def test_the_routes_of_a_life(server: Any, issuer: Any, device_door: Any, sign_in: Any, new_board: Any) -> None:
    """Claim, enrol, renew, revoke over both doors; and who may do what."""
    operator, client = sign_in("operator"), device_door.client
    assert sign_in("viewer").post("/api/v1/claims", json={}).status_code == 403
    made = operator.post("/api/v1/claims", json={"count": 2, "device_name": "cam"}).json["items"]
    assert len(made) == 2
    assert "token" not in operator.get("/api/v1/claims").json["items"][0]
    board = new_board()

    def post(path: str, message: Any) -> Any:
        return client.post(f"/device/v1/{path}", data=msgspec.json.encode(message), content_type="application/json")

    answer = post("enrol", board.request(made[0]["token"])).json
    assert answer["status"] == "accepted"
    assert answer["chain_pem"].count("BEGIN CERTIFICATE") == 2
    renewal = {"v": 1, "csr_pem": new_board().csr_pem}
    assert post("renew", renewal).status_code == 401
    pem = answer["certificate_pem"].encode()
    device_door.certificate = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert post("renew", renewal).status_code == 200
    assert operator.get("/api/v1/devices/cam-1").json["id"] == answer["device"]
    assert operator.post("/api/v1/devices/cam-1/revoke", json={"reason": "stolen"}).status_code == 403
    assert sign_in("security").post("/api/v1/devices/cam-1/revoke", json={"reason": "stolen"}).json["state"] == "revoked"
    refused = post("renew", renewal)
    assert refused.status_code == 403
    assert "revoked" in refused.json["detail"]
    assert post("enrol", {"v": 1, "claim": "x"}).json["detail"].startswith("$")
    assert post("enrol", {"v": 2}).json["detail"] == "$.v: version 2 is not spoken here; this side speaks 1"


def test_the_time_is_signed_for_who_asks(server: Any, device_door: Any, clock: Any) -> None:
    """A board without a clock asks before anything else: the answer echoes its nonce under the assignment key."""
    from ota.trust.assignment import verify_payload
    from ota.wire.assignments import Signed

    answer = device_door.client.post("/device/v1/time", json={"v": 1, "nonce": "0123456789abcdef"})
    signed = msgspec.json.decode(answer.data, type=Signed)
    payload = msgspec.json.decode(verify_payload(signed, {signed.keyid: server.signer.public_key}))
    assert (payload["nonce"], payload["now_s"]) == ("0123456789abcdef", clock.now_s)
