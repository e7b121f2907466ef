"""The board's own code against the server's own routes: first boot without a claim, power cuts and lost answers at every step."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.adapters_disk import ClaimFile
from device_agent.duties.linking import Linking
from device_agent.errors import ClaimRefusedError, ServerRefusedError, ServerUnavailableError
from device_agent.link import identity_x509
from device_agent.link.identity_x509 import Identity, IdentityStore, waiting_fingerprint
from fleet_server.context import Context
from fleet_server.enrolment import certificates
from fleet_server.enrolment import service as enrolment
from fleet_server.enrolment.certificates import SUPERSEDED_S
from fleet_server.inventory import service as inventory
from ota import durable_disk
from ota.wire.enrolment import BoardFacts, EnrolAnswer, EnrolRequest, RenewRequest
from tests.fakes.facts import FACTS

DAY_S = 86_400.0
NOW_S = 1_790_000_000.0


@pytest.fixture
def server(sqlite_server: Context, issuer: Any) -> Context:
    """Over SQLite, with an authority: which database it is does not matter to the board."""
    return sqlite_server


class Wire:
    """The board's way to the server: real messages, real routes; answers get lost on order (the server has done its part)."""

    def __init__(self, door: Any, lost: int = 0) -> None:
        self.door, self.lost, self.calls = door, lost, 0

    def _post(self, path: str, message: Any) -> Any:
        answer = self.door.client.post(
            f"/device/v1/{path}", data=msgspec.json.encode(message), content_type="application/json"
        )
        self.calls += 1
        if self.calls == self.lost:
            raise ServerUnavailableError("the answer was lost")
        if answer.status_code == 429:
            raise ServerUnavailableError("too many", 300.0)
        if answer.status_code >= 400:
            raise ServerRefusedError(answer.status_code, "", answer.json["detail"], answer.json.get("hint", ""))
        return answer

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        return msgspec.json.decode(self._post("enrol", request).data, type=EnrolAnswer)

    def renew(self, request: RenewRequest) -> EnrolAnswer:
        return msgspec.json.decode(self._post("renew", request).data, type=EnrolAnswer)

    def use(self, identity: Identity) -> None:
        chain = identity.certificate_file.read_bytes()
        self.door.certificate = x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)

    def confirm(self) -> None:
        """A call that only a good certificate passes."""
        self._post("uploads", {"v": 1, "sha256": "0" * 64, "length_bytes": 5, "content_type": "image/jpeg", "name": "e"})


class ShortStop:
    """A stop whose waits pass at once, on the server's clock; it ends after so many rounds."""

    def __init__(self, clock: Any, rounds: int) -> None:
        self.clock, self.rounds = clock, rounds

    def is_set(self) -> bool:
        return self.rounds <= 0

    def wait(self, timeout_s: float) -> bool:
        self.clock.forward(timeout_s)
        self.rounds -= 1
        return self.is_set()

    def on_set(self, callback: Any) -> None:
        pass


def boot(folder: Path, wire: Wire, clock: Any, claim_file: Path | None, rounds: int = 4, facts: BoardFacts = FACTS) -> Linking:
    """The agent's duty, as after power on."""
    linking = Linking(
        IdentityStore(folder), wire, ClaimFile(claim_file), lambda: facts, use=wire.use, confirm=wire.confirm,
        learn_time=lambda: None, now_s=clock, draw=lambda: 0.5,
    )  # fmt: skip
    linking.run(ShortStop(clock, rounds), lambda: None)  # type: ignore[arg-type]
    return linking


def test_first_boot_without_a_claim(
    server: Context, device_door: Any, clock: Any, tmp_path: Path, sign_in: Any
) -> None:
    """Zero touch: the image knows the server and its authority, no claim. The board waits, says by which key, and is let in."""
    wire, home = Wire(device_door), tmp_path / "identity"
    waiting = boot(home, wire, clock, None)
    assert not waiting.linked.is_set()
    assert "it has no claim" in waiting.note
    operator = sign_in("operator")
    listed = operator.get("/api/v1/enrolments").json["items"]
    assert len(listed) == 1, "asking again and again is one request"
    assert waiting_fingerprint(home) == listed[0]["fingerprint"]
    assert listed[0]["fingerprint"] in waiting.note
    accepted = operator.post(f"/api/v1/enrolments/{listed[0]['id']}/accept", json={"group": "yard", "name": "gate"})
    assert accepted.status_code == 200, accepted.json
    linked = boot(home, wire, clock, None)
    assert linked.linked.is_set()
    assert accepted.json["device"] in linked.note
    with server.database.read() as session:
        assert inventory.get(session, "gate", clock()).id == accepted.json["device"]


def test_a_board_that_is_refused_ends_with_the_servers_words(
    server: Context, device_door: Any, clock: Any, tmp_path: Path, sign_in: Any
) -> None:
    wire, home, operator = Wire(device_door), tmp_path / "identity", sign_in("operator")
    boot(home, wire, clock, None)
    enrolled = operator.get("/api/v1/enrolments").json["items"][0]["id"]
    assert operator.post(f"/api/v1/enrolments/{enrolled}/reject", json={"reason": "stolen image"}).status_code == 204
    with pytest.raises(ClaimRefusedError, match="stolen image"):
        boot(home, wire, clock, None)


class PowerCutError(BaseException):
    """The board has no power: nothing of this process happens any more."""


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Counts changes of the disk; from change ``at`` on none is made any more, as by a power cut."""

    class Power:
        at, count = 0, 0

        def __call__(self, real: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                self.count += 1
                if self.at and self.count >= self.at:
                    raise PowerCutError
                return real(*arguments, **named)

            return call

        def back(self, at: int = 0) -> None:
            self.at, self.count = at, 0

    found = Power()
    for name in ("open", "write", "fsync"):
        monkeypatch.setattr(durable_disk.os, name, found(getattr(durable_disk.os, name)))
    for name in ("replace", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, found(getattr(Path, name)))
    monkeypatch.setattr(identity_x509.shutil, "rmtree", found(identity_x509.shutil.rmtree))
    yield found
    found.back()


class Life:
    """One board from its claim to its first renewal, with a power cut at a change of its disk, and an answer that is lost."""

    def __init__(self, server: Context, door: Any, clock: Any, folder: Path, power: Any) -> None:
        self.server, self.door, self.clock, self.folder, self.power = server, door, clock, folder, power
        clock.now_s = NOW_S  # each board lives at the same time: many lives one after another would outlive the authority
        with server.database.write() as session:
            terms = enrolment.ClaimTerms()
            made = enrolment.make_claims(session, count=1, terms=terms, ttl_s=400 * DAY_S, who="t", now_s=clock())
        folder.mkdir()
        self.claim = folder / "claim"
        self.claim.write_text(made[0].token)

    def live(self, *, cut: int = 0, lost: int = 0) -> int:
        """Enrol and renew; answers how many changes of the disk it took, without a cut."""
        wire = Wire(self.door, lost)
        self.power.back(cut)
        for _ in range(3):  # power comes back after a cut; a lost answer is asked for again in the same life
            try:
                boot(self.folder / "identity", wire, self.clock, self.claim)
                identity = IdentityStore(self.folder / "identity").load()
                assert identity is not None
                due_s = identity.not_before_s + 0.67 * (identity.not_after_s - identity.not_before_s)
                self.clock.forward(0.0 if self._renewed() else max(0.0, due_s - self.clock()))
                boot(self.folder / "identity", wire, self.clock, self.claim)
            except PowerCutError:
                self.power.back()
            else:
                break
        count = self.power.count
        self.power.back()
        return int(count)

    def _renewed(self) -> bool:
        return (self.folder / "identity" / "current").read_text().startswith("b")

    def check(self) -> None:
        """The board has one identity, the server takes it, and no other certificate of the device is good."""
        boot(self.folder / "identity", wire := Wire(self.door), self.clock, self.claim)
        identity = IdentityStore(self.folder / "identity").load()
        assert identity is not None
        assert self._renewed()
        wire.use(identity)
        wire.confirm()
        self.clock.forward(SUPERSEDED_S + 1)
        wire.confirm()
        serial = x509.load_pem_x509_certificate(identity.certificate_file.read_bytes()).serial_number
        with self.server.database.read() as session:
            good = [
                one for one in certificates.of_device(session, identity.device)
                if not certificates.refusal(session, serial=one.serial, device_id=identity.device, now_s=self.clock())
            ]  # fmt: skip
            assert [one.serial for one in good] == [f"{serial:x}"]
            assert inventory.get(session, identity.device, self.clock()).certificate.serial == f"{serial:x}"
        assert not list((self.folder / "identity").rglob("*.part"))
        assert sorted(path.name for path in (self.folder / "identity").iterdir()) == ["b", "current"]


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "enrolments"])
def test_power_is_cut_at_every_change_of_the_disk(
    server: Context, device_door: Any, clock: Any, tmp_path: Path, power: Any, step: int
) -> None:
    """From the first key to the end of the first renewal, at each write, sync, rename and removal: one good identity at last."""
    whole = Life(server, device_door, clock, tmp_path / "whole", power)
    changes = whole.live()
    whole.check()
    assert changes > 40
    cuts = range(1, changes + 1, step)
    for cut in cuts:
        life = Life(server, device_door, clock, tmp_path / f"cut{cut}", power)
        life.live(cut=cut)
        life.check()
        shutil.rmtree(life.folder)
    with server.database.read() as session:
        assert inventory.counts(session, clock()).total == len(cuts) + 1, "each board is one device"


@pytest.mark.parametrize("lost", range(1, 5))
def test_every_answer_of_the_server_may_be_lost(
    server: Context, device_door: Any, clock: Any, tmp_path: Path, power: Any, lost: int
) -> None:
    """The answer to enrol, renew, or the first use of the new certificate never arrives, and at some changes power goes, too."""
    for cut in (0, 9, 21, 30, 38):
        life = Life(server, device_door, clock, tmp_path / f"cut{cut}", power)
        life.live(cut=cut, lost=lost)
        life.check()
