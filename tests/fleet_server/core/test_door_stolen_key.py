"""A stolen device key: every route of the device door with device A's key against device B's things."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from fleet_server import device_openapi
from fleet_server.app import create_device_app
from fleet_server.context import Context
from ota.wire import topics
from ota.wire.codec import encode
from ota.wire.late_renewal import LateRenewal, LateRenewalRequest, signed_bytes

PICTURE = b"\xff\xd8 what B's camera saw"
SHA = hashlib.sha256(PICTURE).hexdigest()


@dataclass
class Crime:
    """A thief with A's key; B's things are there: an event with its picture, a report, log lines, a heartbeat, an assignment."""

    door: Any
    server: Context
    a: Any
    b: Any
    key_of_b: str
    url_of_b: str

    def post(self, path: str, body: Any, who: Any = None) -> Any:
        self.door.certificate = (who or self.a).der
        return self.door.client.post(path, data=body if isinstance(body, bytes) else json.dumps(body).encode(),
                                     content_type="application/json")  # fmt: skip


def event(name: str, key: str | None = None, sequence: int = 1) -> dict[str, Any]:
    crop = {"kind": "best", "key": key, "sha256": SHA, "length_bytes": len(PICTURE), "score": 1, "at_s": 1, "box": [0, 0, 1, 1]}
    return {
        "sequence": sequence, "id": name, "camera": "gate", "track": 1, "label": "person", "rule": "r", "rule_kind": "zone",
        "started_at_s": 1, "start_frame": 1, "end_frame": 2, "score": 1, "threshold": 0, "box": [0, 0, 1, 1],
        "frame_width_px": 10, "frame_height_px": 10, "bundle_sha256": "0" * 64, "release": "x@1", "crops": [crop] if key else [],
    }  # fmt: skip


def slot(name: str) -> dict[str, Any]:
    return {"v": 1, "sha256": SHA, "length_bytes": len(PICTURE), "content_type": "image/jpeg", "name": name}


def lines(text: str, session: str | None = None) -> dict[str, Any]:
    line = {"sequence": 1, "at_s": 1, "level": "info", "logger": "l", "text": text, "session": session}
    return {"v": 1, "boot_id": "b", "lines": [line]}


def beat(text: str) -> dict[str, Any]:
    return {"v": 1, "sequence": 7, "boot_id": text, "at_s": 0, "uptime_s": 1, "window_s": 1, "state": "idle", "cameras": []}


def report(text: str) -> dict[str, Any]:
    one = {"sequence": 1, "at_s": 0, "assignment_seq": 1, "target_sha256": "0" * 64, "target": "x@1", "state": "idle"}
    one["detail"] = text
    return {"v": 1, "boot_id": "b", "counter": 1, "highest_seq": 1, "reports": [one]}


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


@pytest.fixture
def crime(server: Context, device_door: Any, enrol_device: Callable[..., Any]) -> Crime:
    a, b = enrol_device(serial="a"), enrol_device(serial="b")
    found = Crime(device_door, server, a, b, "", "")
    given = found.post(topics.UPLOADS, slot("of-b"), b).json
    found.key_of_b, found.url_of_b = given["key"], given["url"]
    assert device_door.client.put(given["url"], data=PICTURE, headers=given["headers"]).status_code == 201
    for path, body in ((topics.EVENTS, {"v": 1, "boot_id": "b", "events": [event("of-b", found.key_of_b)]}),
                       (topics.LOGS, lines("said by b")), (topics.REPORTS, report("of b")), (topics.HEARTBEATS, beat("boot-b")),
                       (topics.STATE, {"v": 1, "nonce": "n" * 16, "seq": 0})):  # fmt: skip
        assert found.post(path, body, b).status_code in (200, 204), path
    return found


def things(crime: Crime, sign_in: Any, device: str) -> dict[str, Any]:
    """All that an operator sees of a device."""
    client = sign_in("admin")
    paths = [f"/devices/{device}{end}" for end in ("", "/reports", "/logs", "/heartbeats")] + [f"/detections?device={device}"]
    found = {path: client.get(f"/api/v1{path}").json for path in paths}
    found["blobs"] = [(one.key, one.sha256) for one in crime.server.blobs.list(f"{device}/")]
    return found


def _csr(key: Any, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def steal_enrol(crime: Crime) -> None:
    """B's name in the request of a claim that was guessed."""
    body = {"v": 1, "claim": "rkc_" + "x" * 32, "csr_pem": _csr(ec.generate_private_key(ec.SECP256R1()), crime.b.device_id),
            "facts": {"profile": "rpi-5", "board_model": "m", "serial": "b", "machine": "x", "memory_bytes": 1, "python": "3",
                      "agent_version": "1"}}  # fmt: skip
    assert crime.post(topics.ENROL, body).status_code == 403


def steal_renew(crime: Crime) -> None:
    """A renewal with B's name in the request, and one for B's own key: the thief stays A, and B's key stays B's."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = crime.post(topics.RENEW, {"v": 1, "csr_pem": _csr(key, crime.b.device_id)})
    assert made.status_code == 200
    certificate = x509.load_pem_x509_certificate(made.json["certificate_pem"].encode())
    assert certificate.subject.rfc4514_string() == f"CN={crime.a.device_id}"
    assert crime.post(topics.RENEW, {"v": 1, "csr_pem": crime.b.board.csr_pem}).status_code in (403, 409)


def steal_renew_expired(crime: Crime) -> None:
    """B's certificate, which is no secret, with A's signature under it."""
    pem = x509.load_der_x509_certificate(crime.b.der).public_bytes(Encoding.PEM).decode()
    said = LateRenewal(
        certificate_pem=pem, csr_pem=_csr(ec.generate_private_key(ec.SECP256R1()), "x"), created_s=crime.server.clock(),
        nonce="n" * 32,
    )  # fmt: skip
    payload = encode(said).decode()
    signature = crime.a.board.key.sign(signed_bytes(payload), ec.ECDSA(hashes.SHA256())).hex()
    request = LateRenewalRequest(payload=payload, signature=signature)
    assert crime.post(topics.RENEW_EXPIRED, encode(request)).status_code == 403


def steal_time(crime: Crime) -> None:
    """The time is for everybody."""
    assert crime.post(topics.TIME, {"v": 1, "nonce": "n" * 16}).status_code == 200


def steal_state(crime: Crime) -> None:
    """The poll answers for whom the certificate is, whatever stands in the body."""
    for more in ({}, {"device": crime.b.device_id}):
        answer = crime.post(topics.STATE, {"v": 1, "nonce": "n" * 16, "seq": 0, **more})
        assert answer.status_code == 200
        for signed in (answer.json["state"], answer.json["assignment"]):
            assert signed is None or msgspec.json.decode(signed["payload"])["device"] == crime.a.device_id


def steal_events(crime: Crime) -> None:
    """B's event id, B's picture under an event of A, a key that climbs: stored as A's own at most, and never with B's picture."""
    foreign = [event("of-b", crime.key_of_b), event("of-a", crime.key_of_b, 2), event("up", f"{crime.a.device_id}/../x", 3)]
    for one in foreign:
        answer = crime.post(topics.EVENTS, {"v": 1, "boot_id": "b", "device": crime.b.device_id, "events": [one]})
        assert answer.status_code in (200, 400)


def steal_reports(crime: Crime) -> None:
    """A report in B's name."""
    assert crime.post(topics.REPORTS, {**report("forged"), "device": crime.b.device_id}).status_code == 200


def steal_logs(crime: Crime) -> None:
    """Lines in B's name, and in a debug session that is not A's."""
    assert crime.post(topics.LOGS, {**lines("forged", "s-of-b"), "device": crime.b.device_id}).status_code == 200


def steal_heartbeats(crime: Crime) -> None:
    """A heartbeat in B's name."""
    assert crime.post(topics.HEARTBEATS, {**beat("forged"), "device": crime.b.device_id}).status_code == 204


def steal_uploads(crime: Crime) -> None:
    """A place under B's prefix: the name climbs, and the prefix is A's in the end, or nothing."""
    for name in ("of-b", f"../{crime.b.device_id}/crop/x", crime.b.device_id, "a/b"):
        answer = crime.post(topics.UPLOADS, slot(name))
        assert answer.status_code in (200, 400), name
        if answer.status_code == 200:
            assert answer.json["key"].startswith(f"{crime.a.device_id}/")
            assert answer.json["present"] is False, "that B has the same picture is not A's to know"


def _moved(crime: Crime, url: str, key: str, **fields: str) -> str:
    parts = urlsplit(url)
    query = dict(pair.split("=", 1) for pair in parts.query.split("&"))
    return f"{topics.BLOBS}/{key}?" + urlencode({**query, **fields})


def steal_put_blobs(crime: Crime) -> None:
    """A's slot with B's key in its place; a signature of its own making; B's slot with other bytes."""
    mine = crime.post(topics.UPLOADS, slot("mine")).json
    guess = base64.urlsafe_b64encode(hashlib.sha256(b"guess").digest()).rstrip(b"=").decode()
    other = crime.key_of_b.rpartition("/")[0] + "/" + "0" * 64
    for url in (_moved(crime, mine["url"], other), _moved(crime, mine["url"], crime.key_of_b),
                _moved(crime, crime.url_of_b, crime.key_of_b, signature=guess)):  # fmt: skip
        assert crime.door.client.put(url, data=b"y" * len(PICTURE), headers=mine["headers"]).status_code == 403
    spoilt = crime.door.client.put(crime.url_of_b, data=b"y" * len(PICTURE), headers=mine["headers"])
    assert spoilt.status_code in (200, 400, 409), "even with B's own URL what is there stays"


def steal_get_blobs(crime: Crime) -> None:
    """B's picture, by its key, with A's certificate, with the signature of an upload."""
    for url in (f"{topics.BLOBS}/{crime.key_of_b}", crime.url_of_b):
        answer = crime.door.client.get(url)
        assert answer.status_code in (403, 404)
        assert PICTURE not in answer.data


def steal_metadata(crime: Crime) -> None:
    """Signed metadata are for everybody; the folders around them are not."""
    for path in ("../../keys/assignment", "..%2f..%2fkeys", "%2e%2e/%2e%2e/database.sqlite3", "/etc/passwd"):
        assert crime.door.client.get(f"{topics.METADATA}/{path}", follow_redirects=True).status_code == 404


def steal_bundles(crime: Crime) -> None:
    """So are bundles."""
    for path in ("../metadata/../../keys/web-secret", "files/../../../pki/issuing.key", "..", "%00"):
        assert crime.door.client.get(f"{topics.BUNDLES}/{path}", follow_redirects=True).status_code == 404


CRIMES: dict[tuple[str, str], Callable[[Crime], None]] = {
    ("POST", topics.ENROL): steal_enrol, ("POST", topics.RENEW): steal_renew, ("POST", topics.RENEW_EXPIRED): steal_renew_expired,
    ("POST", topics.TIME): steal_time, ("POST", topics.STATE): steal_state, ("POST", topics.EVENTS): steal_events,
    ("POST", topics.REPORTS): steal_reports, ("POST", topics.LOGS): steal_logs, ("POST", topics.HEARTBEATS): steal_heartbeats,
    ("POST", topics.UPLOADS): steal_uploads, ("PUT", f"{topics.BLOBS}/{{key}}"): steal_put_blobs,
    ("GET", f"{topics.BLOBS}/{{key}}"): steal_get_blobs, ("GET", f"{topics.METADATA}/{{file}}"): steal_metadata,
    ("GET", f"{topics.BUNDLES}/{{file}}"): steal_bundles,
}  # fmt: skip
"""Route -> what a thief with another device's key tries there."""


def test_a_thief_with_one_key_has_one_device(crime: Crime, sign_in: Any) -> None:
    """He tries every route. Afterwards all that anybody sees of B is what it was, to the last letter."""
    before = things(crime, sign_in, crime.b.device_id)
    assert "said by b" in json.dumps(before)
    for steal in CRIMES.values():
        steal(crime)
    after = things(crime, sign_in, crime.b.device_id)
    assert after == before
    mine = json.dumps(things(crime, sign_in, crime.a.device_id))
    assert mine.count("forged") >= 3, "what he sent stands under his own name"
    assert crime.key_of_b not in mine, "and B's picture is no picture of his"


def routes_of(server: Context) -> set[tuple[str, str]]:
    rules = create_device_app(server).url_map.iter_rules()
    found = set()
    for rule in rules:
        path = rule.rule.replace("<path:", "{").replace("<", "{").replace(">", "}")
        found |= {(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return found


def test_every_route_of_the_device_door_has_its_thief_and_its_description(server: Context) -> None:
    """A route that is new stands in neither table: this test names it."""
    routes = routes_of(server)
    assert routes == set(CRIMES)
    assert device_openapi.missing(routes) == set()


def test_a_route_for_devices_wants_a_device(server: Context, device_door: Any) -> None:
    """Without a certificate, each of them: 401 as a problem, before a body is looked at; headers of a proxy change nothing."""
    spoof = {"X-Client-Verify": "SUCCESS", "X-Client-Cert": "x", "X-Rookery-Proxy": "x", "X-Client-Address": "127.0.0.1"}
    for route in device_openapi.ROUTES:
        if route.who == "device":
            for headers in ({}, spoof):
                answer = device_door.client.open(route.path, method=route.method, data=b"{", headers=headers)
                assert (answer.status_code, answer.content_type) == (401, "application/problem+json"), route.path


def test_a_stolen_issuing_key_makes_no_device(device_door: Any, enrolled: Any, new_board: Any, settings: Any) -> None:
    """Its thief signs a certificate with a device's id and even its number: TLS takes it, the door knows what it has issued."""
    ours = x509.load_der_x509_certificate(enrolled.der)
    key = load_pem_private_key((settings.pki_dir / "issuing.key").read_bytes(), None)
    builder = x509.CertificateBuilder().subject_name(ours.subject).issuer_name(ours.issuer).serial_number(ours.serial_number)
    builder = builder.public_key(new_board().key.public_key()).not_valid_before(ours.not_valid_before_utc)
    forged = builder.not_valid_after(ours.not_valid_after_utc).sign(key, hashes.SHA256())  # type: ignore[arg-type]
    for der, status in ((enrolled.der, 200), (forged.public_bytes(Encoding.DER), 403), (enrolled.der, 200)):
        device_door.certificate = der
        answer = device_door.client.post(topics.STATE, json={"v": 1, "nonce": "n" * 16, "seq": 0})
        assert answer.status_code == status, answer.text
