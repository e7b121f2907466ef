"""Signed requests (RFC 9421) at the door: the agent's own signer on one side, everything that can be forged on the other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, HMAC_SHA256
from sqlalchemy import func, select

from device_agent.errors import ServerNonsenseError
from device_agent.link.identity_x509 import Identity
from device_agent.link.request_signer_x509 import RequestSigner
from fleet_server.app import create_device_app
from fleet_server.context import Context
from fleet_server.enrolment import service
from fleet_server.enrolment.door_tables import RequestNonceRow
from ota.trust.assignment import sign_payload
from ota.trust.key_types import CryptoSigner
from ota.wire import topics
from ota.wire.assignments import Signed
from ota.wire.enrolment import TimeAnswer
from ota.wire.request_signatures import SKEW_S, TAG, UNSIGNED, content_digest

BODY = b'{"v":1,"nonce":"0123456789abcdef","seq":0}'


class Door:
    """The device door with signed requests; ``certificate`` as TLS would have shown it."""

    def __init__(self, server: Context, **limits: int) -> None:
        self.certificate: bytes | None = None
        settings = replace(server.settings, signed_requests=True, **limits)  # type: ignore[arg-type]
        self.app = create_device_app(replace(server, settings=settings, certificate_of=lambda _environ: self.certificate))
        self.client = self.app.test_client()

    def post(self, headers: Any, body: bytes = BODY, path: str = topics.STATE, method: str = "POST") -> Any:
        return self.client.open(path, method=method, data=body, headers=headers, content_type="application/json")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough here; nonces on both are told apart in a test of their own."""
    return sqlite_server


@pytest.fixture
def door(server: Context, issuer: Any) -> Door:
    assert issuer
    return Door(server)


@pytest.fixture
def signer_of(tmp_path: Path, clock: Any, server: Context) -> Callable[..., RequestSigner]:
    def make(enrolled: Any, offset_s: float = 0.0) -> RequestSigner:
        folder = tmp_path / enrolled.device_id
        folder.mkdir(exist_ok=True)
        key = enrolled.board.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(key)
        (folder / "certificate.pem").write_bytes(x509.load_der_x509_certificate(enrolled.der).public_bytes(Encoding.PEM))
        identity = Identity(enrolled.device_id, folder / "key.pem", folder / "certificate.pem", "", 0, 0, None)
        keys = {server.signer.public_key.keyid: server.signer.public_key}
        return RequestSigner(identity, lambda: clock() + offset_s, lambda: keys)

    return make


def forge(key: Any, serial: str, clock: Any, body: bytes = BODY, **changed: Any) -> dict[str, str]:
    """Headers as somebody writes them who holds ``key`` and knows the library."""
    message = type("M", (), {"method": "POST", "url": "https://device" + topics.STATE, "headers": {}})()
    message.headers["Content-Digest"] = content_digest(body)
    resolver = MappingKeyResolver(public_keys={}, private_keys={serial: key})
    arguments: dict[str, Any] = {
        "key_id": serial, "created": datetime.fromtimestamp(clock(), UTC), "nonce": "n" * 32, "label": "rookery", "tag": TAG,
        "covered_component_ids": ("@method", "@path", "@query", "content-digest"), "use_existing_digest": True, **changed,
    }  # fmt: skip
    HTTPMessageSigner(signature_algorithm=arguments.pop("algorithm", ECDSA_P256_SHA256), key_resolver=resolver).sign(
        message, **arguments
    )
    return dict(message.headers)


def serial_of(enrolled: Any) -> str:
    return f"{x509.load_der_x509_certificate(enrolled.der).serial_number:x}"


def test_the_agents_signature_opens_the_door(door: Door, enrolled: Any, signer_of: Any) -> None:
    """TLS ends at somebody else's proxy: the key of the same certificate says whose the request is, and whose the answer."""
    signed = signer_of(enrolled).sign("POST", topics.STATE, BODY)
    answer = door.post(signed.headers)
    assert answer.status_code == 200, answer.text
    state = msgspec.json.decode(msgspec.json.decode(answer.data)["state"]["payload"])
    assert state["device"] == enrolled.device_id
    assert sum(len(name) + len(value) for name, value in signed.headers.items()) < 700


def test_the_same_request_twice_is_refused(door: Door, enrolled: Any, signer_of: Any, server: Context, clock: Any) -> None:
    """The proxy kept a copy and sends it again: at once, and after its time. What is too old to be taken is forgotten."""
    signed = signer_of(enrolled).sign("POST", topics.STATE, BODY)
    assert door.post(signed.headers).status_code == 200
    again = door.post(signed.headers)
    assert (again.status_code, "came before" in again.json["detail"]) == (401, True)
    clock.forward(2 * SKEW_S + 1)
    assert door.post(signed.headers).status_code == 401
    assert door.post(signer_of(enrolled).sign("POST", topics.STATE, BODY).headers).status_code == 200
    with server.database.read() as session:
        assert session.scalar(select(func.count()).select_from(RequestNonceRow)) == 1


def test_what_was_signed_is_what_is_done(door: Door, enrolled: Any, signer_of: Any) -> None:
    """The proxy changes body, path, query, method or digest of a request that it saw: none of them passes."""
    sign = signer_of(enrolled).sign
    other = BODY.replace(b'"seq":0', b'"seq":1')
    wrong = {
        "body": door.post(sign("POST", topics.STATE, BODY).headers, other),
        "no body": door.post(sign("POST", topics.STATE, BODY).headers, b""),
        "path": door.post(sign("POST", topics.STATE, BODY).headers, path=topics.HEARTBEATS),
        "query": door.post(sign("POST", topics.STATE, BODY).headers, path=topics.STATE + "?a=b"),
        "method": door.post(sign("PUT", topics.STATE, BODY).headers),
        "digest": door.post({**sign("POST", topics.STATE, BODY).headers, "Content-Digest": content_digest(other)}, other),
    }
    assert {what: answer.status_code for what, answer in wrong.items()} == dict.fromkeys(wrong, 401)


def test_all_of_it_must_be_signed(door: Door, enrolled: Any, clock: Any) -> None:
    """A thief of one signature that covers less would be free to choose the rest."""
    for components in (
        ("@method", "@path", "@query"), ("@method", "@path", "content-digest"), ("@path", "@query", "content-digest"),
        ("@method",), ("@method", "@path", "@query", "content-digest", "@authority"),
    ):  # fmt: skip
        answer = door.post(forge(enrolled.board.key, serial_of(enrolled), clock, covered_component_ids=components))
        assert answer.status_code == 401, (components, answer.text)


def test_other_terms_are_not_ours(door: Door, enrolled: Any, clock: Any) -> None:
    """Another purpose, no nonce, another algorithm, a key that nobody knows."""
    secret = {"algorithm": HMAC_SHA256, "key": b"k" * 32}
    wrong: list[dict[str, Any]] = [
        {"tag": "somebody-elses"}, {"tag": None}, {"nonce": None}, {"nonce": "short"}, {"nonce": "with blanks in it, long"},
        secret, {**secret, "include_alg": False}, {"serial": "deadbeef"}, {"serial": "../../x"}, {"serial": "DEADBEEF"},
    ]  # fmt: skip
    for terms in wrong:
        changed = dict(terms)
        key, serial = changed.pop("key", enrolled.board.key), changed.pop("serial", serial_of(enrolled))
        assert door.post(forge(key, serial, clock, **changed)).status_code == 401, terms


def test_a_key_is_no_other_devices(door: Door, enrol_device: Any, clock: Any) -> None:
    """Device A signs in the name of device B's certificate; and with a fresh key of nobody."""
    a, b = enrol_device(), enrol_device()
    assert door.post(forge(a.board.key, serial_of(b), clock)).status_code == 401
    assert door.post(forge(ec.generate_private_key(ec.SECP256R1()), serial_of(b), clock)).status_code == 401
    assert door.post(forge(b.board.key, serial_of(b), clock)).status_code == 200


def test_a_signature_does_not_outvote_a_certificate(door: Door, enrol_device: Any, clock: Any) -> None:
    """Both are there and differ: refused, whichever came from whom. Where they agree, the signature must hold all the same."""
    a, b = enrol_device(), enrol_device()
    door.certificate = a.der
    refused = door.post(forge(b.board.key, serial_of(b), clock))
    assert (refused.status_code, "another device" in refused.json["detail"]) == (403, True)
    assert door.post(forge(a.board.key, serial_of(a), clock)).status_code == 200
    assert door.post(forge(b.board.key, serial_of(a), clock, nonce="m" * 32)).status_code == 401


def test_status_counts_here_too(door: Door, enrolled: Any, signer_of: Any, server: Context, clock: Any) -> None:
    """Revoked at the next request; and a certificate that has ended signs nothing any more."""
    signer = signer_of(enrolled)
    assert door.post(signer.sign("POST", topics.STATE, BODY).headers).status_code == 200
    clock.forward(91 * 86_400)
    ended = door.post(signer.sign("POST", topics.STATE, BODY).headers)
    assert (ended.status_code, "expired" in ended.json["detail"]) == (403, True)
    clock.forward(-91 * 86_400)
    with server.database.write() as session:
        service.revoke(session, enrolled.device_id, reason="stolen", who="ada", origin="", now_s=clock())
    assert door.post(signer.sign("POST", topics.STATE, BODY).headers).status_code == 403


def test_a_wrong_clock_is_told_the_time_and_goes_by_it(door: Door, enrolled: Any, signer_of: Any) -> None:
    """A Pi without a clock, behind or ahead: the refusal carries the signed time for this very nonce; the next try passes."""
    for offset_s in (-100_000.0, -301.0, 301.0, 100_000.0):
        signer = signer_of(enrolled, offset_s)
        signed = signer.sign("POST", topics.STATE, BODY)
        refused = door.post(signed.headers)
        assert refused.status_code == 401, offset_s
        told = msgspec.convert(refused.json["time"], Signed)
        with pytest.raises(ServerNonsenseError, match="old answer"):
            signer.heed(told, "x" * 32)
        signer.heed(told, signed.nonce)
        assert door.post(signer.sign("POST", topics.STATE, BODY).headers).status_code == 200, offset_s


def test_a_time_that_the_server_did_not_sign_moves_nothing(signer_of: Any, enrolled: Any, door: Door) -> None:
    """The proxy makes up a time in 2099."""
    assert door
    signer = signer_of(enrolled)
    forged = sign_payload(TimeAnswer(nonce="x" * 32, now_s=4e9), CryptoSigner.generate_ecdsa())
    with pytest.raises(ServerNonsenseError, match="not believed"):
        signer.heed(forged, "x" * 32)


def test_headers_that_nobody_writes(door: Door, enrolled: Any, signer_of: Any) -> None:
    """Twice, huge, cut short, of another kind, with letters from elsewhere: a 401 in words each, and the door goes on."""
    good = signer_of(enrolled).sign("POST", topics.STATE, BODY).headers
    name = good["Signature-Input"]
    odd: list[Any] = [
        {**good, "Signature": good["Signature"] + ", " + good["Signature"]},
        {**good, "Signature-Input": name + ", " + name.replace("rookery=", "second=")},
        [*good.items(), ("Signature-Input", name)],
        [*good.items(), ("Signature", good["Signature"])],
        [*good.items(), ("Content-Digest", good["Content-Digest"])],
        {**good, "Signature-Input": "rookery=(" + '"@method" ' * 5000 + ")"},
        {**good, "Signature": "rookery=:" + "A" * 7000 + ":"},
        {**good, "Signature": "rookery=::"}, {**good, "Signature": "rookery=7"}, {**good, "Signature": ""},
        {**good, "Signature-Input": name[:-5]}, {**good, "Signature-Input": "("}, {**good, "Signature-Input": "rookery=1"},
        {**good, "Signature-Input": name.replace("created=", "created=1.")},
        {**good, "Signature-Input": name.replace("created=", 'created="x";y=')},
        {**good, "Signature-Input": name + ";odd=1"}, {**good, "Content-Digest": ""},
        {**good, "Content-Digest": "sha-512=:AAAA:"}, {**good, "Signature-Input": "\xe9" + name},
    ]  # fmt: skip
    for each in odd:
        answer = door.post(each)
        assert (answer.status_code, answer.content_type) == (401, "application/problem+json"), (each, answer.text)
    assert door.post(good).status_code == 200


def test_a_fleet_behind_one_address_is_not_one_stranger(server: Context, issuer: Any, enrol_device: Any, clock: Any) -> None:
    """Somebody else's box ends TLS: all have its address. Who signs has a share of its own; who forges shares the stranger's."""
    assert issuer
    a, b = enrol_device(), enrol_device()
    door, nonces = Door(server, stranger_requests_per_minute=5, device_requests_per_minute=40), iter(range(10_000))

    def ask(signed_by: Any, in_the_name_of: Any) -> int:
        nonce = f"{next(nonces):032}"
        return int(door.post(forge(signed_by.board.key, serial_of(in_the_name_of), clock, nonce=nonce)).status_code)

    assert [ask(a, a) for _ in range(20)] == [200] * 20
    assert [ask(a, b) for _ in range(7)] == [401] * 5 + [429] * 2, "a forger has what a stranger has"
    unsigned = {"v": 1, "nonce": "0" * 16}
    headers = forge(a.board.key, serial_of(a), clock)
    assert door.client.post(topics.TIME, json=unsigned, headers=headers).status_code == 429, "no way round by a header"
    assert door.post({"Signature-Input": "x"}, method="PUT", path=f"{topics.BLOBS}/x").status_code == 429
    assert [ask(a, a) for _ in range(21)] == [200] * 20 + [429], "and each device its own, whatever the forger does"
    assert ask(b, b) == 200
    assert {ask(a, b) for _ in range(50)} == {429}
    assert ask(b, b) == 429, "what forging costs the server is bounded, too"
    clock.forward(60)
    assert ask(b, b) == 200


def test_it_is_off_unless_it_is_switched_on(server: Context, issuer: Any, enrolled: Any, signer_of: Any) -> None:
    """A door with TLS of its own believes certificates and nothing else, and says why."""
    assert issuer
    app = create_device_app(replace(server, certificate_of=lambda _environ: None))
    headers = signer_of(enrolled).sign("POST", topics.STATE, BODY).headers
    answer = app.test_client().post(topics.STATE, data=BODY, headers=headers, content_type="application/json")
    assert (answer.status_code, "ROOKERY_SIGNED_REQUESTS" in answer.json["hint"]) == (401, True)


def test_the_routes_that_need_no_signature_are_those_for_strangers() -> None:
    """Both sides know them from one list."""
    assert {topics.ENROL, topics.TIME, topics.RENEW_EXPIRED} == UNSIGNED
