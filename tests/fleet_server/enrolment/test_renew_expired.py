"""Renewal after expiry: a board that slept too long comes back by the key that never left it, and nobody else does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.duties.linking import Linking
from device_agent.duties.turn import Stop
from device_agent.errors import ServerRefusedError, ServerUnavailableError
from device_agent.link.enrol import EnrolDoor
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.late_renewal_x509 import ask_late_renewal, late_request
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import certificates, service
from ota.wire import topics
from ota.wire.codec import decode, encode
from ota.wire.enrolment import BoardFacts, EnrolAnswer, RenewRequest
from ota.wire.late_renewal import LateRenewalRequest

DAY_S = 86_400.0


class Sleeper:
    """An enrolled board with its identity on a card, and the door as it reaches it; answers can get lost."""

    def __init__(self, door: Any, clock: Any, enrolled: Any, chain_pem: str, folder: Path) -> None:
        self.door, self.clock, self.folder, self.device = door, clock, folder, enrolled.device_id
        place = folder / "a"
        place.mkdir(parents=True)
        key = enrolled.board.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate = enrolled.pem
        answer = EnrolAnswer(status="accepted", device=self.device, certificate_pem=certificate, chain_pem=chain_pem)
        (place / "key.pem").write_bytes(key)
        (place / "certificate.pem").write_text(certificate + chain_pem)
        (place / "answer.json").write_bytes(encode(answer))
        (folder / "current").write_text("a")
        self.store = IdentityStore(folder)
        self.lose = 0
        self.asked: list[LateRenewalRequest] = []

    @property
    def identity(self) -> Identity:
        found = self.store.load()
        assert found is not None
        return found

    def post(self, request: LateRenewalRequest) -> Any:
        self.door.certificate = None  # no TLS takes one that has ended
        return self.door.client.post(topics.RENEW_EXPIRED, data=encode(request), content_type="application/json")

    def ask(self, make: Callable[[float], LateRenewalRequest]) -> EnrolAnswer:
        self.asked.append(make(self.clock()))
        answer = self.post(self.asked[-1])
        if self.lose:
            self.lose -= 1
            raise ServerUnavailableError("the answer was lost")
        if answer.status_code != 200:
            raise ServerRefusedError(answer.status_code, "", answer.json["detail"], answer.json.get("hint", ""))
        return decode(EnrolAnswer, answer.data)

    def late(self) -> Identity:
        return ask_late_renewal(self.ask, self.store, self.identity, "serial")


@pytest.fixture
def sleeper(device_door: Any, clock: Any, enrolled: Any, issuer: Any, tmp_path: Path) -> Sleeper:
    pem = x509.load_der_x509_certificate(enrolled.der).public_bytes(Encoding.PEM).decode()
    board = type("Enrolled", (), {"device_id": enrolled.device_id, "board": enrolled.board, "pem": pem})
    return Sleeper(device_door, clock, board, issuer.authority.chain_pem, tmp_path / "identity")


class _Door(EnrolDoor):
    def enrol(self, request: Any) -> EnrolAnswer:
        raise AssertionError("it is enrolled")

    def renew(self, request: RenewRequest) -> EnrolAnswer:
        raise AssertionError("no TLS takes its certificate any more")


class _NoClaim:
    def read(self) -> str:
        raise AssertionError("it needs none")

    def remove(self) -> None:
        """There is none."""


def linking(sleeper: Sleeper, stop: Stop, used: list[str], confirm: Callable[[], None] = lambda: None) -> Linking:
    facts = BoardFacts(
        profile="rpi-5", board_model="m", serial="s", machine="aarch64", memory_bytes=1, python="3", agent_version="1"
    )  # fmt: skip

    def use(identity: Identity) -> None:
        used.append(str(identity.not_after_s))
        if identity.not_after_s > sleeper.clock():
            stop.set()  # awake: the story is over

    return Linking(
        sleeper.store, _Door(), _NoClaim(), lambda: facts, use=use, confirm=confirm, learn_time=lambda: None,
        now_s=sleeper.clock, draw=lambda: 0.0, renew_late=sleeper.ask,
    )  # fmt: skip


def test_a_board_that_slept_for_a_year_comes_back_by_itself(sleeper: Sleeper, device_door: Any) -> None:
    """A camera was in a drawer from spring to spring. It wakes, proves that it holds its key, and is the same device."""
    old = sleeper.identity
    sleeper.clock.forward(365 * DAY_S)
    stop, used = Stop(), []
    linking(sleeper, stop, used).run(stop, lambda: None)
    fresh = sleeper.identity
    assert (fresh.device, fresh.not_after_s > sleeper.clock()) == (old.device, True)
    assert used[-1] == str(fresh.not_after_s)
    assert not (sleeper.folder / "a").exists(), "the old key is gone from the card"


def test_a_lost_answer_is_asked_for_again_with_the_same_key(sleeper: Sleeper, server: Context) -> None:
    """The line breaks twice before the answer is on the card, then the power fails: one certificate more, not three."""
    sleeper.clock.forward(100 * DAY_S)
    sleeper.lose = 2
    for _ in range(2):
        with pytest.raises(ServerUnavailableError):
            sleeper.late()
    sleeper.store = IdentityStore(sleeper.folder)
    sleeper.clock.forward(60)
    fresh = sleeper.late()
    assert fresh.not_after_s > sleeper.clock()
    asked = [msgspec.json.decode(each.payload)["csr_pem"].encode() for each in sleeper.asked]
    keys = {x509.load_pem_x509_csr(each).public_key().public_numbers().x for each in asked}  # type: ignore[union-attr]
    assert (len(sleeper.asked), len(keys)) == (3, 1)
    with server.database.read() as session:
        newest = certificates.newest_of_device(session, sleeper.device)
        assert newest is not None
        assert newest.pem.strip() in (sleeper.folder / "b" / "certificate.pem").read_text()
    assert IdentityStore(sleeper.folder).pending() == fresh


def test_a_board_that_sleeps_again_before_it_used_the_new_one(sleeper: Sleeper) -> None:
    """It renewed, lost power before the first use, and slept through the end of the new certificate as well."""
    sleeper.clock.forward(100 * DAY_S)
    sleeper.late()
    sleeper.clock.forward(100 * DAY_S)
    stop, used = Stop(), []
    linking(sleeper, stop, used).run(stop, lambda: None)
    assert sleeper.identity.not_after_s > sleeper.clock()


def test_after_four_hundred_days_only_a_person_helps_and_it_says_so(sleeper: Sleeper) -> None:
    """A board from the attic: refused, and both the answer and the board's own note say what to do."""
    sleeper.clock.forward((90 + 401) * DAY_S)
    with pytest.raises(ServerRefusedError, match="400 days ago") as caught:
        sleeper.late()
    assert "readmit" in caught.value.hint
    stop = Stop()
    duty = linking(sleeper, stop, [])
    duty.run(stop, lambda: stop.set())
    assert "readmit" in duty.note
    assert not duty.linked.is_set(), "nothing else on the board takes it for connected"


def test_four_hundred_days_are_enough(sleeper: Sleeper) -> None:
    """One day less than the limit."""
    sleeper.clock.forward((90 + 399) * DAY_S)
    assert sleeper.late().device == sleeper.device


def test_a_revoked_board_does_not_come_back_this_way(sleeper: Sleeper, server: Context) -> None:
    """It was stolen, its certificates were revoked, and the thief waits until they have ended."""
    with server.database.write() as session:
        service.revoke(session, sleeper.device, reason="stolen", who="ada", origin="", now_s=sleeper.clock())
    sleeper.clock.forward(100 * DAY_S)
    with pytest.raises(ServerRefusedError, match="revoked"):
        sleeper.late()


def test_a_forged_proof_holds_up_no_writer(sleeper: Sleeper, new_board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures that do not hold are looked at before anything waits for the database's one writer."""
    sleeper.clock.forward(100 * DAY_S)
    good = late_request(sleeper.identity, new_board().csr_pem, sleeper.clock())
    forged = msgspec.structs.replace(good, signature="30" * 8)

    def refused(*_: Any) -> None:
        raise AssertionError("it waited for the writer")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", refused)
        assert sleeper.post(forged).status_code == 403
    assert sleeper.post(good).status_code == 200


def test_a_late_renewal_stands_in_the_audit_with_its_address(sleeper: Sleeper, server: Context) -> None:
    """Somebody has the card of a board that slept: where the certificate went to is written down."""
    sleeper.clock.forward(100 * DAY_S)
    sleeper.late()
    with server.database.read() as session:
        entry = next(one for one in audit.entries(session) if one.what == "certificate.renew_expired")
    assert (entry.who, entry.origin) == (f"device:{sleeper.device}", "127.0.0.1")


def test_what_was_heard_once_opens_nothing(sleeper: Sleeper) -> None:
    """Somebody on the way kept a copy of the request: at once it is known, later its time is over; and the clock is looked at."""
    sleeper.clock.forward(100 * DAY_S)
    sleeper.late()
    again = sleeper.post(sleeper.asked[0])
    assert (again.status_code, "came before" in again.json["detail"]) == (403, True)
    sleeper.clock.forward(301)
    later = sleeper.post(sleeper.asked[0])
    assert (later.status_code, "time" in later.json["hint"]) == (401, True)


def test_only_the_newest_certificate_renews(sleeper: Sleeper, tmp_path: Path) -> None:
    """A copy of the card from before the last renewal: its key has been replaced, and comes back no more."""
    shutil.copytree(sleeper.folder, tmp_path / "copy")
    sleeper.clock.forward(100 * DAY_S)
    sleeper.late()
    sleeper.store.adopt()
    sleeper.store = IdentityStore(tmp_path / "copy")
    sleeper.clock.forward(100 * DAY_S)
    with pytest.raises(ServerRefusedError, match=r"newer certificate|revoked"):
        sleeper.late()


def test_proofs_that_prove_nothing(sleeper: Sleeper, enrol_device: Any, new_board: Any) -> None:
    """Another's certificate, another key, a changed request, garbage: refused in words, never a 500."""
    sleeper.clock.forward(100 * DAY_S)
    good = late_request(sleeper.identity, new_board().csr_pem, sleeper.clock())
    said = msgspec.json.decode(good.payload)
    other = enrol_device()
    foreign = x509.load_der_x509_certificate(other.der).public_bytes(Encoding.PEM).decode()

    def changed(**fields: Any) -> LateRenewalRequest:
        return msgspec.structs.replace(good, payload=msgspec.json.encode({**said, **fields}).decode())

    wrong = {
        "another's certificate": changed(certificate_pem=foreign),
        "a changed request": changed(csr_pem=new_board().csr_pem),
        "no certificate": changed(certificate_pem="-----BEGIN CERTIFICATE-----"),
        "no request": changed(csr_pem="x"),
        "a payload that is none": msgspec.structs.replace(good, payload="[]"),
        "deep": msgspec.structs.replace(good, payload="[" * 40_000),
        "a signature cut short": msgspec.structs.replace(good, signature=good.signature[:-2]),
        "a signature of nothing": msgspec.structs.replace(good, signature="30" * 8),
    }
    for what, request in wrong.items():
        answer = sleeper.post(request)
        assert answer.status_code in (400, 403), (what, answer.text)
        assert answer.json["detail"], what
    assert sleeper.post(good).status_code == 200, "and what was refused has used nothing up"
