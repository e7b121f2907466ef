"""A server with people, devices and waiting boards is updated: nobody loses what they had, and agents of before live on.

`tests/fixtures/upgrade/0003.json` holds what the server at revision 0003 (commit e6971f2) wrote itself, by its own doors: the
rows of its tables, its `pki` folder, the keys of its devices and the bytes of their talk. `wire_of_0003.json` holds the shapes of
the answers that an agent of that time understands, and the hashes of its stored messages.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.x509.oid import NameOID

from fleet_server.app import create_device_app, create_operator_app, load_tables
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.migrate import configuration, migrate, newest
from ota.trust.assignment import verify_payload
from ota.wire import codec, topics
from ota.wire.assignments import StateAnswer, StateRequest
from ota.wire.enrolment import EnrolAnswer, EnrolRequest, RenewRequest
from ota.wire.topics import STATE

UPGRADE = Path(__file__).parents[2] / "fixtures" / "upgrade"
MESSAGES = Path(__file__).parents[2] / "fixtures" / "messages" / "valid"
THEN: dict[str, Any] = json.loads((UPGRADE / "0003.json").read_text())
WIRE: dict[str, Any] = json.loads((UPGRADE / "wire_of_0003.json").read_text())
DAY_S = 86_400.0
KEPT = {name: rows for name, rows in THEN["tables"].items() if name != "sign_in_failure"}
"""Counts of failed sign-ins begin anew with the step; every other row stays."""


def _fill(database: Database) -> None:
    """The rows as they were, in a database at 0003."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(database.engine)
    with database.engine.begin() as connection:
        for table in metadata.sorted_tables:
            rows = THEN["tables"].get(table.name, [])
            if not rows:
                continue
            connection.execute(table.insert(), rows)
            if connection.dialect.name == "postgresql" and isinstance(rows[0].get("id"), int):
                connection.execute(sqlalchemy.text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {max(row['id'] for row in rows)}) "
                    f"WHERE pg_get_serial_sequence('{table.name}', 'id') IS NOT NULL"
                ))  # fmt: skip


def _kept(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of then that is there still, by the columns of then."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(database.engine)
    found = {}
    with database.engine.connect() as connection:
        for name, rows in KEPT.items():
            table = metadata.tables[name]
            columns = [table.c[column] for column in rows[0]]
            keys = [column.name for column in table.primary_key]
            there = {
                tuple(row[key] for key in keys): dict(row) for row in connection.execute(sqlalchemy.select(*columns)).mappings()
            }
            found[name] = [there.get(tuple(row[key] for key in keys), {}) for row in rows]
    return found


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of then, not yet brought to this version."""
    load_tables()
    found = Database(database_url)
    command.upgrade(configuration(found), "0003")
    _fill(found)
    yield found
    found.dispose()


class Site:
    """The server of now over the data of then, and the ones who knew the server of then."""

    def __init__(self, server: Context, clock: Any) -> None:
        server.settings.pki_dir.mkdir(mode=0o700)
        for name, data in THEN["pki"].items():
            (server.settings.pki_dir / name).write_bytes(base64.b64decode(data))
        clock.now_s = THEN["now_s"]
        self.server, self.clock = server, clock
        authority_x509.prepare(server.settings.pki_dir, ["localhost", "127.0.0.1"], clock())
        self.shown: bytes | None = None
        self.device = create_device_app(replace(server, certificate_of=lambda _environ: self.shown)).test_client()
        self.operators = create_operator_app(server)

    def ask(self, path: str, body: str | bytes, kind: str) -> dict[str, Any]:
        """The device door's answer, which an agent of then understands as ``kind``."""
        answer = self.device.post(path, data=body, content_type="application/json")
        assert answer.status_code in (200, 202), answer.data
        said = json.loads(answer.data)
        assert misunderstood(said, {"$ref": kind}) == []
        return dict(said)

    def again(self, which: str) -> dict[str, Any]:
        """The very bytes that an agent of then sent."""
        message = THEN["messages"][which]
        return self.ask(message["path"], message["sent"], message["kind"])

    def browser(self, **headers: str) -> Any:
        client = self.operators.test_client()
        client.environ_base.update({f"HTTP_{name.upper()}": value for name, value in headers.items()})
        return client

    def signed_in(self) -> Any:
        """Ada, by the password that she had."""
        client = self.browser()
        got = client.post("/api/v1/tokens", json={"name": "ada", "password": THEN["password"], "token_name": "today"})
        assert got.status_code == 201, got.data
        return self.browser(authorization=f"Bearer {got.json['token']}")

    def poll(self, certificate_pem: str, seq: int = 1) -> dict[str, Any]:
        """The signed state, as the device with this certificate reads it."""
        self.shown = x509.load_pem_x509_certificate(certificate_pem.encode()).public_bytes(Encoding.DER)
        sent = json.loads(THEN["messages"]["state"]["sent"]) | {"seq": seq}
        said = self.ask(STATE, json.dumps(sent), "StateAnswer")
        key = self.server.signer.public_key
        signed = codec.decode(StateAnswer, json.dumps(said).encode())
        state = json.loads(verify_payload(signed.state, {key.keyid: key}))
        assert misunderstood(state, {"$ref": "State"}) == []
        assert state["device"] == THEN["device_id"]
        if signed.assignment is not None:
            assert misunderstood(json.loads(verify_payload(signed.assignment, {key.keyid: key})), {"$ref": "Assignment"}) == []
        return dict(state)

    def renew(self, key: Any) -> str:
        """The next certificate, for this key, over the connection of the present one."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        body = codec.encode(RenewRequest(csr_pem=csr.public_bytes(Encoding.PEM).decode()))
        said = self.ask(topics.RENEW, body, "EnrolAnswer")
        made = x509.load_pem_x509_certificate(said["certificate_pem"].encode())
        issuing = x509.load_pem_x509_certificate(base64.b64decode(THEN["pki"]["issuing.crt"]))
        made.verify_directly_issued_by(issuing)
        return str(said["certificate_pem"])


def test_a_filled_server_is_updated_goes_back_and_is_updated_again(server: Context, clock: Any, new_board: Any) -> None:
    """Person, machine, token, session, device, waiting board, claims, audit and rollout of 0003: all go on at this version."""
    database = server.database
    assert migrate(database) == newest()
    assert _kept(database) == KEPT, "the step changes no row of then"
    site = Site(server, clock)
    for name, data in THEN["pki"].items():
        assert (server.settings.pki_dir / name).read_bytes() == base64.b64decode(data), f"{name} is the one of then"

    # Who was signed in still is; tokens open what they opened; a machine is one, a person is one.
    (cookie,) = THEN["secrets"]["session_cookie"].items()
    browser = site.browser()
    browser.set_cookie(*cookie, domain="localhost")
    assert browser.get("/api/v1/whoami").json["name"] == "ada"
    laptop = site.browser(authorization=f"Bearer {THEN['secrets']['token']}")
    machine = site.browser(authorization=f"Bearer {THEN['secrets']['machine_token']}")
    assert [one.get("/api/v1/whoami").json["role"] for one in (laptop, machine)] == ["admin", "releaser"]
    ada = site.signed_in()
    assert {one["name"]: (one["role"], one["kind"]) for one in ada.get("/api/v1/accounts").json["items"]} == {
        "ada": ("admin", "person"), "vera": ("viewer", "person"), "ci": ("releaser", "machine"),
    }  # fmt: skip
    assert site.browser().post("/api/v1/login", json={"name": "ada", "password": "wrong wrong wrong"}).status_code == 401
    assert [one["id"] for one in ada.get("/api/v1/devices").json["items"]] == [THEN["device_id"]]
    assert sorted(one["state"] for one in ada.get("/api/v1/claims").json["items"]) == ["unused", "used", "used"]
    assert [one["state"] for one in ada.get("/api/v1/rollouts").json["items"]] == ["running"]

    # The device of then: its lost answer, its poll, its next certificate.
    assert site.again("enrol")["certificate_pem"] == THEN["certificates"][0]
    clock.forward(DAY_S)
    first = site.poll(THEN["certificates"][1])
    next_board = new_board()
    renewed = site.renew(next_board.key)
    assert site.poll(renewed, first["seq"])["seq"] >= first["seq"] >= 1

    # The board that waited, by its own old request; the claim that nobody used.
    site.shown = None
    assert site.again("enrol waiting")["status"] == "pending"
    (waits,) = [one for one in ada.get("/api/v1/enrolments").json["items"] if one["state"] == "pending"]
    assert ada.post(f"/api/v1/enrolments/{waits['id']}/accept", json={}).status_code == 200
    assert site.again("enrol waiting")["status"] == "accepted"
    thief = codec.encode(new_board().request(THEN["secrets"]["waiting_claim"]))
    assert site.device.post(topics.ENROL, data=thief, content_type="application/json").status_code == 403, "used once is used"
    late = codec.encode(new_board().request(THEN["secrets"]["unused_claim"], serial="77"))
    assert site.ask(topics.ENROL, late, "EnrolAnswer")["status"] == "accepted"
    stolen = load_der_private_key(base64.b64decode(THEN["keys"]["first"]), None)
    twice = codec.encode(type(next_board)(stolen).request(""))
    refused = site.device.post(topics.ENROL, data=twice, content_type="application/json")
    assert refused.status_code == 403, "a key of then is its device's for ever"

    found = audit.checked(database)
    assert (found.faults, found.first_id) == (0, 1)
    assert found.count > len(THEN["tables"]["audit"])

    # Back, and forward once more: sessions and tokens end on that way, and nothing else does.
    command.downgrade(configuration(database), "0003")
    back = _kept(database)
    for name in ("operator", "claim", "device_certificate", "audit", "rollout", "release", "target"):
        untouched = [row for row in back[name] if row]
        assert len(untouched) == len(THEN["tables"][name]), name
    assert (back["audit"], back["operator"]) == (KEPT["audit"], KEPT["operator"])
    assert migrate(database) == newest()
    assert laptop.get("/api/v1/whoami").status_code == 401
    assert len(site.signed_in().get("/api/v1/devices").json["items"]) == 3
    assert site.poll(renewed)["device"] == THEN["device_id"]
    again_found = audit.checked(database)
    assert (again_found.faults, again_found.count > found.count) == (0, True)


def misunderstood(said: Any, shape: dict[str, Any], at: str = "$") -> list[str]:
    """What an agent of then would refuse in this answer: its types read names that they know, and pass over the others."""
    if "$ref" in shape:
        return misunderstood(said, WIRE["answers"][shape["$ref"]], at)
    if "anyOf" in shape:
        tried = [misunderstood(said, one, at) for one in shape["anyOf"]]
        return [] if [] in tried else tried[0]
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    }  # fmt: skip
    wanted = shape.get("type")
    if wanted and (not isinstance(said, kinds[wanted]) or (isinstance(said, bool) and wanted != "boolean")):
        return [f"{at}: {said!r} is no {wanted}"]
    faults = [f"{at}.{name} is missing" for name in shape.get("required", []) if name not in said]
    for name, one in shape.get("properties", {}).items():
        if name in said:
            faults += misunderstood(said[name], one, f"{at}.{name}")
    if isinstance(shape.get("additionalProperties"), dict):
        for name in set(said) - set(shape.get("properties", {})):
            faults += misunderstood(said[name], shape["additionalProperties"], f"{at}.{name}")
    if isinstance(said, list):
        for number, one in enumerate(said):
            faults += misunderstood(one, shape.get("items", {}), f"{at}[{number}]")
    if isinstance(said, str | list):
        lowest = shape.get("minLength", shape.get("minItems", 0))
        if not lowest <= len(said) <= shape.get("maxLength", shape.get("maxItems", len(said))):
            faults.append(f"{at}: {len(said)} long")
    if isinstance(said, str) and "pattern" in shape and not re.search(shape["pattern"], said):
        faults.append(f"{at}: {said!r} does not fit {shape['pattern']}")
    if isinstance(said, int | float) and not isinstance(said, bool):
        low, high, below = shape.get("minimum", said), shape.get("maximum", said), shape.get("exclusiveMaximum", said + 1)
        faults += [] if low <= said <= high and said < below else [f"{at}: {said} is out of bounds"]
    if "enum" in shape and said not in shape["enum"]:
        faults.append(f"{at}: {said!r} is none of {shape['enum']}")
    return faults


@pytest.mark.parametrize("name", sorted(WIRE["messages"]))
def test_a_message_of_then_is_stored_as_it_was(name: str) -> None:
    """Whoever edits a stored message to make a test pass breaks agents in the field: new stories are new files."""
    assert hashlib.sha256((MESSAGES / name).read_bytes()).hexdigest() == WIRE["messages"][name]


@pytest.mark.parametrize("path", sorted(MESSAGES.iterdir()), ids=lambda path: path.stem)
def test_every_answer_of_now_is_understood_by_an_agent_of_then(path: Path) -> None:
    """The stored answers of this version, with what is new in them, by the shapes of before."""
    kind = path.name.partition(".")[0]
    if kind not in WIRE["answers"]:
        return  # a device says it, or an agent of then never asks for it
    said = json.loads(path.read_text())
    assert misunderstood(said, {"$ref": kind}) == []
    assert misunderstood(said | {"a_field_of_tomorrow": {"x": 1}}, {"$ref": kind}) == []
    required = WIRE["answers"][kind]["required"]
    for name in required:
        assert misunderstood({key: value for key, value in said.items() if key != name}, {"$ref": kind}) != [], name


@pytest.mark.parametrize("which", sorted(THEN["messages"]))
def test_what_agents_and_server_of_then_said_is_understood_today(which: str) -> None:
    """An agent of today at a server of yesterday, and the other way round; nothing that was said gets lost."""
    message = THEN["messages"][which]
    asked, answered = {
        topics.ENROL: (EnrolRequest, EnrolAnswer), topics.RENEW: (RenewRequest, EnrolAnswer), STATE: (StateRequest, StateAnswer),
    }[message["path"]]  # fmt: skip
    for kind, text in ((asked, message["sent"]), (answered, message["answered"])):
        read = json.loads(codec.encode(codec.decode(kind, text.encode())))
        for name, value in json.loads(text).items():
            assert read[name] == value, name
