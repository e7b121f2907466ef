"""The device's identity: made on the board, private, and renewed without a moment in which a power cut would lose it."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.errors import (
    ClaimRefusedError,
    IdentityBrokenError,
    ServerNonsenseError,
    ServerRefusedError,
    UntrustedServerError,
)
from device_agent.link.api_http import DeviceApi
from device_agent.link.enrol import ask_renewal, enrol_once
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from ota.wire.assignments import StateRequest
from ota.wire.enrolment import EnrolAnswer, TimeRequest
from tests.fakes.device_door_fake import Authority, DeviceDoor
from tests.fakes.facts import FACTS

NONCE = "n" * 20


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        yield running


def api(door: DeviceDoor, identity: Identity | None = None, *, check_dates: bool = True) -> DeviceApi:
    return DeviceApi(door.url, context(door.ca_file, identity, check_dates=check_dates), ByteCount(), timeout_s=5)


def enrolled(door: DeviceDoor, folder: Path) -> tuple[IdentityStore, Identity]:
    store = IdentityStore(folder)
    identity = enrol_once(api(door), store, door.claim(), FACTS).identity
    assert identity is not None
    return store, identity


def test_the_key_is_private_and_the_certificate_opens_the_door(door: DeviceDoor, tmp_path: Path) -> None:
    """Enrolment, then the first poll with the new certificate."""
    store, identity = enrolled(door, tmp_path / "id")
    assert stat.S_IMODE(identity.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o700
    assert store.load() == IdentityStore(tmp_path / "id").load() == identity
    assert api(door, identity).state(StateRequest(nonce=NONCE, seq=0)).state.payload


@pytest.mark.parametrize(("state", "words"), [("used", "used already"), ("expired", "expired")])
def test_a_used_or_expired_claim_is_refused_in_clear_words(door: DeviceDoor, tmp_path: Path, state: str, words: str) -> None:
    """The claim on the card was used by another board, or lay in a drawer for a year."""
    with pytest.raises(ClaimRefusedError, match=words) as caught:
        enrol_once(api(door), IdentityStore(tmp_path / "id"), door.claim(state=state), FACTS)
    assert caught.value.exit_code == 3
    assert "new claim" in caught.value.hint


def test_a_pending_claim_is_asked_again_with_the_same_key(door: DeviceDoor, tmp_path: Path) -> None:
    """An operator has to accept first; the board restarts meanwhile; the key stays the same."""
    token = door.claim(state="pending")
    first = IdentityStore(tmp_path / "id")
    step = enrol_once(api(door), first, token, FACTS)
    assert step.identity is None
    assert step.retry_after_s > 0
    again = IdentityStore(tmp_path / "id")
    assert x509.load_pem_x509_csr(again.request("s").encode()).public_key() == x509.load_pem_x509_csr(
        first.request("s").encode()
    ).public_key()
    door.claim(state="open")
    assert enrol_once(api(door), again, token, FACTS).identity is not None


def test_an_answer_that_was_lost_costs_nothing(door: DeviceDoor, tmp_path: Path) -> None:
    """The server accepted, the power failed before the answer was written: the same key gets the same identity."""
    token = door.claim()
    store = IdentityStore(tmp_path / "id")
    csr = store.request(FACTS.serial)
    assert csr
    first = enrol_once(api(door), store, token, FACTS).identity
    (tmp_path / "id" / "current").unlink()
    second = enrol_once(api(door), IdentityStore(tmp_path / "id"), token, FACTS).identity
    assert first is not None
    assert second is not None
    assert first.device == second.device


def test_a_server_of_a_foreign_authority_is_not_talked_to(door: DeviceDoor, tmp_path: Path) -> None:
    """Somebody stands between: the certificate is not of the pinned authority; not one byte of the claim goes there."""
    (tmp_path / "other.pem").write_text(Authority("someone else").pem)
    stranger = DeviceApi(door.url, context(tmp_path / "other.pem"), ByteCount(), timeout_s=5)
    with pytest.raises(UntrustedServerError, match="pinned authority"):
        enrol_once(stranger, IdentityStore(tmp_path / "id"), door.claim(), FACTS)
    assert door.state.claims[door.claim()] == "open"


def test_a_device_certificate_of_a_foreign_authority_is_refused(door: DeviceDoor, tmp_path: Path) -> None:
    """The board was enrolled at another fleet: this server's TLS does not take its certificate."""
    with DeviceDoor(tmp_path / "elsewhere") as other:
        _, identity = enrolled(other, tmp_path / "id")
    with pytest.raises(Exception, match="connection"):
        api(door, identity).state(StateRequest(nonce=NONCE, seq=0))


def test_a_wrong_certificate_is_not_kept(door: DeviceDoor, tmp_path: Path) -> None:
    """The answer carries a certificate for somebody else's key: nothing is adopted."""
    store = IdentityStore(tmp_path / "id")
    store.request("s")
    _, other = enrolled(door, tmp_path / "other")
    answer = EnrolAnswer(
        status="accepted", device=other.device, certificate_pem=other.certificate_file.read_text(), chain_pem=other.chain_pem
    )
    with pytest.raises(ServerNonsenseError, match="not for this board's key"):
        store.keep_answer(answer)
    assert store.load() is None


def test_renewal_is_due_at_two_thirds_and_the_old_one_stays_until_the_new_one_was_used(door: DeviceDoor, tmp_path: Path) -> None:
    """A certificate comes, but is not used yet: a restart still has the old one; after its use the old one is gone."""
    store, old = enrolled(door, tmp_path / "id")
    life = old.not_after_s - old.not_before_s
    assert not old.renewal_due(old.not_before_s + 0.6 * life)
    assert old.renewal_due(old.not_before_s + 0.67 * life)
    new = ask_renewal(api(door, old), store, FACTS.serial)
    restarted = IdentityStore(tmp_path / "id")
    assert restarted.load() == old
    assert restarted.pending() == new
    assert api(door, new).state(StateRequest(nonce=NONCE, seq=0))
    assert restarted.adopt() == new
    assert IdentityStore(tmp_path / "id").load() == new
    assert not old.key_file.exists()


RENEWAL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from ota import durable_disk
from device_agent.link import identity_x509
from device_agent.link.api_http import DeviceApi
from device_agent.link.enrol import ask_renewal
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
store = identity_x509.IdentityStore(Path({folder!r}))
identity = store.load()
api = DeviceApi({url!r}, context(Path({ca!r}), identity), ByteCount(), timeout_s=5)
count, at = 0, {at}
def counted(real):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in ("fsync", "write"):
    setattr(durable_disk.os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
identity_x509.shutil.rmtree = counted(identity_x509.shutil.rmtree)
ask_renewal(api, store, "serial")
store.adopt()
"""


@pytest.mark.parametrize("at", range(1, 28, 3))
def test_power_loss_at_any_step_of_a_renewal_leaves_a_working_identity(door: DeviceDoor, tmp_path: Path, at: int) -> None:
    """Killed at the n-th file operation of a renewal: the next start has an identity that the server takes, and can finish."""
    enrolled(door, tmp_path / "id")
    code = RENEWAL.format(
        root=str(Path(__file__).parents[3]), folder=str(tmp_path / "id"), url=door.url, ca=str(door.ca_file), at=at
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    store = IdentityStore(tmp_path / "id")
    identity = store.load()
    assert identity is not None
    assert api(door, identity).state(StateRequest(nonce=NONCE, seq=0))
    renewed = ask_renewal(api(door, identity), store, "serial")
    store.adopt()
    assert IdentityStore(tmp_path / "id").load() == renewed
    assert not list((tmp_path / "id").rglob("*.part"))


def test_a_damaged_key_is_named(door: DeviceDoor, tmp_path: Path) -> None:
    """The card rots: clear words instead of a stack trace."""
    _, identity = enrolled(door, tmp_path / "id")
    identity.key_file.write_text("-----BEGIN PRIVATE KEY-----\nrot\n-----END PRIVATE KEY-----\n")
    with pytest.raises(IdentityBrokenError, match="key"):
        IdentityStore(tmp_path / "id").load()


def test_bytes_are_counted_with_tls_and_headers(door: DeviceDoor, tmp_path: Path) -> None:
    """What the heartbeat says was sent is what the kernel sent: handshake, headers and body."""
    count = ByteCount()
    client = DeviceApi(door.url, context(door.ca_file), count, timeout_s=5)
    client.time(TimeRequest(nonce=NONCE))
    first = count.sent_bytes
    assert first > 300
    client.time(TimeRequest(nonce=NONCE))
    assert 0 < count.sent_bytes - first < first
    client.close()
    assert count.received_bytes > 500


def test_a_board_whose_clock_stopped_can_ask_for_the_time(tmp_path: Path) -> None:
    """The server's certificate seems to be from the future or long expired: only the context without dates talks to it."""
    with DeviceDoor(tmp_path / "door") as door:
        key_pem = (tmp_path / "door" / "server-key.pem").read_bytes()
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        public = load_pem_private_key(key_pem, None).public_key()
        door.stop()
        (tmp_path / "door" / "server.pem").write_text(door.authority.sign(public, "localhost", days=-0.01, hosts=("127.0.0.1",)))
        door.start()
        with pytest.raises(UntrustedServerError):
            api(door).time(TimeRequest(nonce=NONCE))
        assert NONCE in api(door, check_dates=False).time(TimeRequest(nonce=NONCE)).payload


def test_refusals_carry_the_servers_words(door: DeviceDoor) -> None:
    """No certificate: 401 with the server's sentence."""
    with pytest.raises(ServerRefusedError, match="client certificate is needed"):
        api(door).state(StateRequest(nonce=NONCE, seq=0))


def test_without_dates_in_tls_the_trusted_clock_judges_the_certificate(tmp_path: Path) -> None:
    """The system clock stands in 1970, the server told the time: its certificate is good by that time, or it is not talked to."""
    with DeviceDoor(tmp_path / "door") as door:
        loose = context(door.ca_file, check_dates=False)
        now = DeviceApi(door.url, loose, ByteCount(), timeout_s=5, now_s=time.time)
        assert now.time(TimeRequest(nonce=NONCE)).payload
        later = DeviceApi(door.url, loose, ByteCount(), timeout_s=5, now_s=lambda: time.time() + 400 * 86400)
        with pytest.raises(UntrustedServerError):
            later.time(TimeRequest(nonce=NONCE))
