"""A board whose key was stolen reads the device door's description and asks whatever it allows, and whatever it does not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server import device_openapi
from fleet_server.app import create_device_app, load_tables
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.settings import Settings
from ota.trust.repository_disk import Repository
from ota.wire.enrolment import EnrolRequest
from tests.fakes.seeded_fleet import facts, seed_fleet
from tests.fleet_server.conftest import Clock, make_context
from tests.fleet_server.core.door_fuzz import Findings, fuzz, operations

MESSAGES = Path(__file__).parents[2] / "fixtures" / "messages" / "valid"
EXAMPLES, LONG_EXAMPLES = 3, 100
KNOWN = {"file": ["timestamp.json", "1.root.json"], "key": ["d-00000000/crop/ev0/" + "a" * 64]}


@dataclass
class Door:
    """A device door; ``certificate`` is what TLS would have verified (None: nobody)."""

    app: Any
    context: Context
    certificate: bytes | None


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    load_tables()
    folder, clock = tmp_path_factory.mktemp("fuzz"), Clock()
    # The clock stands still: limits by the minute would soon answer everything.
    settings = Settings(data_dir=folder / "server", device_requests_per_minute=0, stranger_requests_per_minute=0)
    settings.data_dir.mkdir()
    database = Database(f"sqlite:///{folder / 'fuzz.sqlite3'}")
    database.create_all()
    authority_x509.prepare(settings.pki_dir, ["localhost"], clock())
    repository = Repository(settings.data_dir / "tuf", settings.data_dir / "keys", clock)
    context = make_context(settings, database, clock, repository)
    seed_fleet(context)
    found = Door(None, context, own_certificate(context))
    found.app = create_device_app(replace(context, certificate_of=lambda _environ: found.certificate))
    yield found
    database.dispose()


def own_certificate(context: Context) -> bytes:
    """A board gets in, rightly; its key is stolen afterwards."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    issuer = enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)
    now_s = context.clock()
    with context.database.write() as session:
        claim = enrolment.make_claims(session, count=1, terms=enrolment.ClaimTerms(), ttl_s=60, who="test", now_s=now_s)[0]
        asked = EnrolRequest(claim=claim.token, csr_pem=csr, facts=facts(20))
        outcome = enrolment.enrol(session, asked, issuer, origin="", now_s=now_s)
    return x509.load_pem_x509_certificate(outcome.certificate_pem.encode()).public_bytes(Encoding.DER)


def run(door: Door, examples: int, number: int) -> Findings:
    findings = Findings()
    for _, operation in sorted(operations(door.app, device_openapi.document()).items()):
        fuzz(operation, findings, examples=examples, number=number, headers={}, known=KNOWN)
    return findings


@pytest.mark.timeout(600)
def test_no_answer_to_a_stolen_key_is_a_fault_of_ours_or_one_that_the_description_lacks(door: Door) -> None:
    findings = run(door, EXAMPLES, number=5)
    assert not findings.wrong, findings.text()
    assert {label for label, seen in findings.statuses.items() if seen & {200, 201, 202, 204}} >= {
        "POST /device/v1/state", "POST /device/v1/heartbeats", "POST /device/v1/time"
    }, "too few requests were taken"  # fmt: skip


@pytest.mark.timeout(600)
def test_a_stranger_without_a_certificate_gets_words_too(door: Door) -> None:
    """The same without any certificate: routes of devices answer 401, whatever comes."""
    kept, door.certificate = door.certificate, None
    try:
        findings = run(door, 1, number=6)
    finally:
        door.certificate = kept
    assert not findings.wrong, findings.text()
    for route in device_openapi.ROUTES:
        if route.who == "device":
            assert findings.statuses[f"{route.method} {route.path}"] <= {401}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(3))
def test_fuzz_the_device_door_for_long(door: Door, number: int) -> None:
    findings = run(door, LONG_EXAMPLES, number=1000 + number)
    assert not findings.wrong, findings.text()


def test_every_stored_message_and_a_cut_and_a_doubled_one_is_taken_or_refused_in_words(door: Door) -> None:
    """The messages that real boards say, to their route: whole, cut off in the middle, nested and repeated."""
    routes = {route.body.__name__: route for route in device_openapi.ROUTES if route.body is not None}
    client, wrong = door.app.test_client(), []
    for path in sorted(MESSAGES.iterdir()):
        route = routes.get(path.name.partition(".")[0])
        if route is None:
            continue
        data = path.read_bytes()
        deep = b'{"v":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
        listed = json.dumps([json.loads(data)]).encode()
        for body in (data, data[: len(data) // 2], data + data, b"", deep, listed, b"\xff" + data):
            answer = client.open(route.path, method=route.method, data=body, headers={"Content-Type": "application/json"})
            told = answer.mimetype == "application/problem+json"
            if answer.status_code not in route.answers and not (400 <= answer.status_code < 500 and told):
                wrong.append(f"{path.name}: {answer.status_code} {answer.get_data()[:200]!r}")
    assert wrong == []
