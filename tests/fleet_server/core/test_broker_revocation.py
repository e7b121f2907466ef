"""A revoked device, a bad certificate, a roll-over: at the broker and at the device door, with the clock in the test's hand."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server.app import create_device_app
from fleet_server.assemble import make_context, make_secrets
from fleet_server.broker_disk import find_mosquitto
from fleet_server.database import Database
from fleet_server.device_tls_x509 import DeviceTls
from fleet_server.enrolment import authorities_disk, authority_rollover_x509, authority_x509, certificates, profiles_x509
from fleet_server.enrolment.authority_x509 import CheckedRequest
from fleet_server.ingest import service as ingest
from tests.fakes.broker_world import Person, World, broker_world, until

pytestmark = [pytest.mark.system, pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")]
DAY_S = 86400.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A broker of this test."""
    with broker_world(tmp_path / "server") as made:
        yield made


class Door:
    """The device door: its own TLS over a pair of buffers, then its own app with the certificate that TLS has taken."""

    def __init__(self, world: World) -> None:
        self._world, self._tls = world, DeviceTls(world.pki)
        self._shown: bytes | None = None
        make_secrets(world.settings)
        context = replace(
            make_context(world.settings), database=world.database, clock=lambda: world.now_s,
            certificate_of=lambda _environ: self._shown,
        )  # fmt: skip
        self.client = create_device_app(context).test_client()

    def handshake(self, person: Person) -> bytes | None:
        """The certificate that the door's TLS took, DER; None where it refused."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self._tls.context().wrap_bio(to_server, to_client, server_side=True)
        client = self._world.tls(person).wrap_bio(to_client, to_server, server_hostname="localhost")
        for _ in range(10):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError:
                    return None
        return server.getpeercert(binary_form=True)

    def status(self, person: Person) -> int:
        """What a poll is answered: 0 where the handshake ends it."""
        self._shown = self.handshake(person)
        return 0 if self._shown is None else self.again()

    def again(self) -> int:
        """The next request on the connection that is open."""
        body = {"v": 1, "nonce": "0123456789abcdef", "seq": 0}
        return self.client.post("/device/v1/state", json=body).status_code


def forged(
    world: World, name: str, by: profiles_x509.Signer, *, begin_days: float = 0, days: float = 90, issuer: Any = None
) -> Person:
    """A certificate with this name that somebody made who has the key of ``by``."""
    key = profiles_x509.new_key()
    now = datetime.fromtimestamp(world.now_s + begin_days * DAY_S, UTC)
    made = profiles_x509.device(key.public_key(), name, by, now, days)
    chain = (issuer or by.certificate).public_bytes(Encoding.PEM).decode()
    return world.person(name, made.public_bytes(Encoding.PEM).decode(), key, chain)


def test_which_certificates_open_a_door(world: World) -> None:
    """The table: two good ones, and everything that is not. Both doors judge for themselves, and judge alike."""
    door, signer = Door(world), authorities_disk.load(world.pki).signers[0]
    good, revoked, retired = world.enrol(), world.enrol(), world.enrol()
    foreign = authority_x509.prepare(world.settings.data_dir / "foreign", ["localhost"], world.now_s).loaded.signers[0]
    server_key = authorities_disk.read_key(world.pki / "server.key")
    own_key = profiles_x509.new_key()
    selfmade = profiles_x509.device(own_key.public_key(), good.name, profiles_x509.Signer(signer.certificate, own_key),
                                    datetime.fromtimestamp(world.now_s, UTC), 90)  # fmt: skip
    purpose = profiles_x509.server(own_key, signer, [good.name], datetime.fromtimestamp(world.now_s, UTC))
    text = {"selfmade": selfmade, "purpose": purpose, "authority": signer.certificate}
    pems = {name: made.public_bytes(Encoding.PEM).decode() for name, made in text.items()}
    bad = {
        "expired": forged(world, good.name, signer, begin_days=-100, days=90),
        "not yet valid": forged(world, good.name, signer, begin_days=2),
        "revoked": revoked,
        "foreign authority, our names": forged(world, good.name, foreign),
        "foreign authority, our chain": forged(world, good.name, foreign, issuer=signer.certificate),
        "self-signed with the right name": world.person(good.name, pems["selfmade"], own_key),
        "a server's certificate as a client": world.person("d-purpose", pems["purpose"], own_key),
        "the server's own certificate": world.person("d-server", (world.pki / "server.crt").read_text(), server_key, ""),
        "the authority's own certificate": world.person("d-authority", pems["authority"], signer.key),
        "retired authority": retired,
    }
    assert (door.status(good), world.lets_in(good)) == (200, True)
    assert (door.status(revoked), world.lets_in(retired)) == (200, True)
    world.revoke(revoked)
    authority_rollover_x509.begin_next(world.pki, world.now_s, root_key=None, password=None, new_root=False)
    authority_rollover_x509.switch(world.pki, world.now_s)
    assert world.guard is not None
    world.guard.look(10.0, world.now_s + 10)
    new = world.enrol()
    both = [(door.status(one), _soon(world, one)) for one in (good, new)]
    assert both == [(200, True), (200, True)], "old and next authority"
    assert {name: (door.status(one), world.lets_in(one)) for name, one in bad.items() if name != "retired authority"} == {
        name: (0, False) for name in bad if name != "retired authority"
    }
    # Signed by our own authority, but never issued: the door knows what it issued (a stolen issuing key is no way in).
    assert door.status(forged(world, good.name, authorities_disk.load(world.pki).signers[0])) == 403
    held = world.client(retired)
    authority_rollover_x509.retire(world.pki, world.now_s)
    world.guard.look(20.0, world.now_s + 20)
    assert held.gone.wait(60), "who came in by it is still there"
    assert (door.status(retired), world.lets_in(retired)) == (0, False)
    assert (door.status(good), world.lets_in(good)) == (0, False)
    assert (door.status(new), _soon(world, new)) == (200, True)


def _soon(world: World, person: Person) -> bool:
    """A broker that was told to read its files does so in its own time."""
    until(lambda: world.lets_in(person), f"{person.name} at the broker")
    return True


def test_a_revoked_device_is_out_at_the_next_request_and_at_the_next_look(world: World) -> None:
    """A stolen camera. HTTPS: the next request on its open connection. Broker: all of it with the look."""
    camera_one, other_one = world.enrol(), world.enrol()
    door = Door(world)
    server = world.client(None)
    server.subscribe("fleet/v1/+/up/#")
    camera = world.client(camera_one, clean=False)
    other = world.client(other_one)
    camera.subscribe(f"fleet/v1/{camera_one.name}/down/#")
    other.subscribe(f"fleet/v1/{other_one.name}/down/#")
    assert door.status(camera_one) == 200
    guard, now_s = world.guard, world.now_s
    assert guard is not None
    poll_s = world.settings.revocation_poll_s
    guard.look(poll_s, now_s)
    world.revoke(camera_one)
    assert door.again() == 403  # on the connection that is open
    assert not guard.look(2 * poll_s - 0.1, now_s + 1)  # not yet its time
    queued = (f"fleet/v1/{camera_one.name}/up/online", b"online")
    camera.publish(*queued)
    until(lambda: queued in server.heard)
    with world.database.write() as session:  # what came before the look waits in the worker's queue: it is not ingested either
        assert ingest.store(session, [queued, (f"fleet/v1/{other_one.name}/up/online", b"online")], now_s + 1) == 1
    assert guard.look(2 * poll_s, now_s + poll_s)
    assert camera.gone.wait(60), "its open connection was ended"
    assert not world.lets_in(camera_one)
    camera.client.publish(f"fleet/v1/{camera_one.name}/up/log", b"after", 1)  # paho tries to come back meanwhile
    server.publish(f"fleet/v1/{camera_one.name}/down/wake", b"secret")
    server.publish(f"fleet/v1/{other_one.name}/down/wake", b"wake")
    other.publish(f"fleet/v1/{other_one.name}/up/log", b"end")
    until(lambda: (f"fleet/v1/{other_one.name}/up/log", b"end") in server.heard and bool(other.heard))
    assert b"after" not in {payload for _topic, payload in server.heard}
    assert camera.heard == []
    assert not other.gone.is_set()
    assert door.handshake(camera_one) is None  # a new connection ends before any request


def test_the_deny_list_silences_a_connection_that_could_not_be_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The take-over fails (the broker did not answer): on the open connection nothing comes through any more all the same."""
    camera_one, witness = world.enrol(), world.enrol()
    server, camera = world.client(None), world.client(camera_one)
    server.subscribe("fleet/v1/+/up/#")
    camera.subscribe(f"fleet/v1/{camera_one.name}/down/#")
    camera.publish(f"fleet/v1/{camera_one.name}/up/log", b"before")
    until(lambda: bool(server.heard))
    monkeypatch.setattr("fleet_server.broker_takeover_mqtt.close_sessions", lambda *_: None)
    for one in (camera_one, witness):
        world.revoke(one)
    assert world.guard is not None
    world.guard.look(10.0, world.now_s + 10)
    until(lambda: not world.lets_in(witness), "the broker has read its files")  # asking as the camera would end its session
    camera.publish(f"fleet/v1/{camera_one.name}/up/log", b"after")
    server.publish(f"fleet/v1/{camera_one.name}/down/wake", b"secret")
    server.publish(f"fleet/v1/{camera_one.name}/up/log", b"end")
    camera.publish(f"fleet/v1/{camera_one.name}/up/log", b"after")
    until(lambda: server.heard[-1][1] == b"end")
    assert [payload for _topic, payload in server.heard] == [b"before", b"end"]
    assert camera.heard == []


def _second_certificate(world: World, person: Person, now_s: float) -> tuple[str, Person]:
    """Another certificate of the same device, over a fresh key."""
    key = profiles_x509.new_key()
    made = world.authority.issue_device(CheckedRequest(key.public_key(), "f" * 64), person.name, 90, now_s)
    with world.database.write() as session:
        certificates.issued(
            session, certificates.Certificate(made.serial, person.name, made.key_sha256, made.pem, now_s, made.not_after_s, None)
        )
    return made.serial, world.person(person.name, made.pem, key)


def _listed(world: World) -> int:
    return len(list(x509.load_pem_x509_crl((world.pki / "crl.pem").read_bytes())))


def test_a_key_that_was_replaced_by_a_person_is_out_at_once_one_that_renewed_itself_with_the_daily_list(world: World) -> None:
    """A wiped board is let in again: whoever has its old key is put out, the board stays. A renewal writes no list by itself."""
    renewed, readmitted = world.enrol(), world.enrol()
    guard, now_s = world.guard, world.now_s
    assert guard is not None
    serial, _ = _second_certificate(world, renewed, now_s)
    with world.database.write() as session:
        certificates.note_use(session, serial, renewed.name, now_s - certificates.SUPERSEDED_S)
    assert not guard.look(10.0, now_s + 1)
    assert _listed(world) == 0
    thief = world.client(readmitted)
    serial, board = _second_certificate(world, readmitted, now_s)
    with world.database.write() as session:
        certificates.revoke_all(session, readmitted.name, now_s + 5, but=serial)
    assert guard.look(20.0, now_s + 5)
    assert thief.gone.wait(60)
    assert _listed(world) == 2  # the renewed one's goes along
    until(lambda: not world.lets_in(readmitted), "the old key is out")
    assert _soon(world, board)
    assert not guard.look(30.0, now_s + 15)


def test_lists_are_issued_daily_and_one_that_has_ended_is_replaced_at_the_start(world: World) -> None:
    """Nothing was revoked for a month: the list is young all the same. A server that stood still begins with a new one."""
    path, guard = world.pki / "crl.pem", world.guard
    assert guard is not None
    ends = []
    for day in range(1, 4):
        assert guard.look(day * DAY_S, world.now_s + day * DAY_S)
        assert not guard.look(day * DAY_S + 60, world.now_s + day * DAY_S + 60)
        ends.append(x509.load_pem_x509_crl(path.read_bytes()).next_update_utc)
    assert ends == sorted(set(ends))  # type: ignore[type-var]
    path.write_bytes(profiles_x509.revocation_list(authorities_disk.load(world.pki).signers[0], [], world.now_s - 40 * DAY_S))
    good = world.enrol()
    door = Door(world)
    assert door.status(good) == 200  # the trap: by such a list TLS alone would refuse everybody
    again = type(world.revocations)(world.settings)
    assert again.refresh(world.database, world.now_s)
    assert x509.load_pem_x509_crl(path.read_bytes()).next_update_utc > datetime.fromtimestamp(world.now_s, UTC)  # type: ignore[operator]


def test_a_database_that_is_away_for_a_month_ends_no_connection(world: World, tmp_path: Path) -> None:
    """The list is issued again from what was known, the revoked serials with it."""
    camera_one = world.enrol()
    world.revoke(camera_one)
    assert world.guard is not None
    world.guard.look(10.0, world.now_s + 10)
    away = Database(f"sqlite:///{tmp_path / 'nowhere' / 'database.sqlite3'}")
    month_s = world.now_s + 31 * DAY_S
    assert world.revocations.refresh(away, month_s)
    made = x509.load_pem_x509_crl((world.pki / "crl.pem").read_bytes())
    assert len(list(made)) == 1
    assert made.next_update_utc > datetime.fromtimestamp(month_s, UTC)  # type: ignore[operator]
    away.dispose()


def test_the_servers_certificate_is_renewed_while_it_runs(world: World) -> None:
    """It ends in fifty days: made anew, by the broker too, and whoever is connected stays."""
    one = world.enrol()
    camera = world.client(one)
    before = authorities_disk.read_certificate(world.pki / "server.crt").serial_number
    assert world.guard is not None
    assert world.guard.look(DAY_S, world.now_s + 350 * DAY_S)
    after = authorities_disk.read_certificate(world.pki / "server.crt").serial_number
    assert after != before
    until(lambda: _shown_by_the_broker(world, one) == after, "the broker shows the new one")
    camera.publish(f"fleet/v1/{one.name}/up/log", b"still here")
    assert not camera.gone.is_set()


def _shown_by_the_broker(world: World, person: Person) -> int:
    tls = world.tls(person)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # it begins to be valid in the clock's future
    plain = socket.create_connection(("127.0.0.1", world.settings.broker_port), timeout=60)
    with plain, tls.wrap_socket(plain) as line:
        return x509.load_der_x509_certificate(line.getpeercert(True) or b"").serial_number


