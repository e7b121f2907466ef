"""The authorities change while a board sleeps: whom it believes afterwards, whom never, and where it finds its server."""

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.duties.moving import ASK_EVERY_S, AWAY_S, STEP_S, Moving
from device_agent.errors import ServerUnavailableError
from device_agent.link.addresses import Addresses
from device_agent.link.addresses_disk import read_addresses, write_addresses
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.tls_x509 import context
from device_agent.link.trust_roots_x509 import believed
from fleet_server.device_tls_x509 import DeviceTls
from fleet_server.enrolment import authorities_disk, authority_rollover_x509, authority_x509, profiles_x509
from fleet_server.enrolment.authority_x509 import Authority, check_request
from ota.wire.enrolment import EnrolAnswer

HOSTS = ["localhost"]


@pytest.fixture
def now_s() -> float:
    return time.time()


@pytest.fixture
def pki(tmp_path: Path, now_s: float) -> Path:
    authority_x509.prepare(tmp_path / "pki", HOSTS, now_s)
    return tmp_path / "pki"


@pytest.fixture
def pinned(pki: Path, tmp_path: Path) -> Path:
    """The file that was copied to the board on its first day."""
    copy = tmp_path / "board-ca.pem"
    copy.write_bytes((pki / "ca.pem").read_bytes())
    return copy


def identity(pki: Path, folder: Path, now_s: float, chain_pem: str | None = None) -> Identity:
    """An identity that this board got from the server as it is today."""
    store = IdentityStore(folder)
    made = Authority(pki).issue_device(check_request(store.request("s")), "d-0001", 90, now_s)
    chain = Authority(pki).chain_pem if chain_pem is None else chain_pem
    store.keep_answer(EnrolAnswer(status="accepted", device="d-0001", certificate_pem=made.pem, chain_pem=chain))
    return store.adopt()


def roll(pki: Path, now_s: float, *, new_root: bool) -> None:
    authority_rollover_x509.begin_next(pki, now_s, root_key=None, password=None, new_root=new_root)
    (pki / "crl.pem").write_bytes(Authority(pki).revocation_list([], now_s))
    authority_rollover_x509.switch(pki, now_s)


def meets(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes | None:
    """A handshake over a pair of buffers: the client's certificate as the server took it; None where either refused."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (client.wrap_bio(to_client, to_server, server_hostname="localhost"), server.wrap_bio(to_server, to_client, True))
    for _ in range(10):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return None
    return sides[1].getpeercert(binary_form=True)


def test_a_board_that_slept_through_every_roll_over_is_let_in_and_believes_the_server(
    pki: Path, pinned: Path, tmp_path: Path, now_s: float
) -> None:
    """Two issuing authorities and two roots later it wakes with its old certificate: both sides still know each other."""
    sleeper = identity(pki, tmp_path / "id", now_s)
    for new_root in (False, True, True):
        roll(pki, now_s, new_root=new_root)
    assert meets(context(pinned, sleeper), DeviceTls(pki).context()) is not None
    authority_rollover_x509.retire(pki, now_s)
    (pki / "crl.pem").write_bytes(Authority(pki).revocation_list([], now_s))
    assert meets(context(pinned, sleeper), DeviceTls(pki).context()) is None  # its certificate is of no authority any more
    fresh = identity(pki, tmp_path / "id", now_s)
    assert meets(context(pinned, fresh), DeviceTls(pki).context()) is not None


def test_a_board_shows_its_own_way_and_no_more(pki: Path, tmp_path: Path, now_s: float) -> None:
    """Of all that it was handed it presents its certificate and the authority above: bytes of every handshake."""
    roll(pki, now_s, new_root=True)
    shown = x509.load_pem_x509_certificates(identity(pki, tmp_path / "id", now_s).certificate_file.read_bytes())
    names = [one.subject.rfc4514_string() for one in shown]
    assert names == ["CN=d-0001", "CN=Rookery issuing 2", "CN=Rookery root 2"]
    assert all(one.issuer != one.subject for one in shown)


def test_a_next_root_is_believed_where_the_old_one_has_signed_it_across(
    pki: Path, pinned: Path, tmp_path: Path, now_s: float
) -> None:
    """The board was there during the roll-over: it would believe the new root even where nobody shows the crossing."""
    roll(pki, now_s, new_root=True)
    board = identity(pki, tmp_path / "id", now_s)
    (pki / "server.crt").write_bytes(b"".join(
        one.public_bytes(Encoding.PEM) for one in x509.load_pem_x509_certificates((pki / "server.crt").read_bytes())[:2]
    ))  # fmt: skip
    assert meets(context(pinned, board), DeviceTls(pki).context()) is not None
    assert {one.subject for one in believed(pinned.read_bytes(), Authority(pki).chain_pem)} >= {
        authorities_disk.read_certificate(pki / "root-2.crt").subject
    }


def test_a_captured_server_plants_no_root(pki: Path, pinned: Path, tmp_path: Path, now_s: float) -> None:
    """Whoever has the server has its issuing key, and hands out a root of his own: it counts nothing, now or after he is gone."""
    foreign = tmp_path / "foreign"
    authority_x509.prepare(foreign, HOSTS, now_s)
    loaded, theirs = authorities_disk.load(pki), authorities_disk.load(foreign)
    own_root, captured = theirs.roots[0], loaded.signers[0]
    # He signs his root across with what he has: the issuing authority, which may sign no authority.
    across = profiles_x509.cross(own_root, captured, _date(now_s))
    copy = profiles_x509.root("Rookery root", profiles_x509.new_key(), _date(now_s))  # the right name on another key
    door = DeviceTls(foreign).context()
    door.verify_mode = ssl.CERT_NONE
    for planted in ((*theirs.roots, theirs.signers[0].certificate), (*theirs.roots, copy, across, theirs.signers[0].certificate)):
        chain = Authority(pki).chain_pem + "".join(one.public_bytes(Encoding.PEM).decode() for one in planted)
        board = identity(pki, tmp_path / f"id-{len(planted)}", now_s, chain)
        assert meets(context(pinned, board), DeviceTls(pki).context()) is not None
        assert _refuses(context(pinned, board), door)
        assert theirs.roots[0] not in believed(pinned.read_bytes(), chain)
    # Nor with his crossing in the chain that his server shows.
    (foreign / "server.crt").write_bytes((foreign / "server.crt").read_bytes() + across.public_bytes(Encoding.PEM)
                                         + captured.certificate.public_bytes(Encoding.PEM))  # fmt: skip
    door = DeviceTls(foreign).context()
    door.verify_mode = ssl.CERT_NONE
    assert _refuses(context(pinned, board), door)


def _date(now_s: float) -> datetime:
    return datetime.fromtimestamp(now_s, UTC)


def _refuses(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    other = server.wrap_bio(to_server, to_client, True)
    for _ in range(10):
        for side in (ours, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return side is ours
    return False


# -- the address ----------------------------------------------------------------------------------------------------------

OLD, NEW, THIRD = "https://old.example.org:8443", "https://new.example.org:8443", "https://third.example.org:9443"


class Board:
    """The duty with a world that the test arranges: who answers, what is reached, what time it is."""

    def __init__(self, addresses: Addresses, *, hosts: tuple[str, ...] | None = None) -> None:
        self.answering: set[str] = {OLD}
        self.asked: list[str] = []
        self.now_s = 0.0
        self.busy = self.full = False
        self.kept: list[Addresses] = []
        self.duty = Moving(
            addresses, allows=lambda host, _port: hosts is None or host in hosts, reached=lambda: self.reached, probe=self._probe,
            keep=self._keep, leave=lambda: None, busy=lambda: self.busy, steady_s=lambda: self.now_s, draw=lambda: 0.5,
        )  # fmt: skip

    @property
    def reached(self) -> bool:
        return self.duty.addresses.current in self.answering

    def _probe(self, url: str) -> None:
        self.asked.append(url)
        if url not in self.answering:
            raise ServerUnavailableError(f"{url} cannot be reached")

    def _keep(self, addresses: Addresses) -> None:
        if self.full:
            raise OSError("no space")
        self.kept.append(addresses)

    def after(self, seconds: float) -> bool:
        """Let time pass in steps; True when the agent left for another address."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += STEP_S
            if self.duty.look():
                return True
        return False


def test_it_goes_where_the_server_wants_it_once_that_place_answers() -> None:
    """The new address is told before it works: the board stays, asks once an hour, goes when it answers, and remembers."""
    board = Board(Addresses(OLD))
    board.duty.hear((NEW, OLD))
    assert not board.after(60)
    assert board.asked == [NEW]
    assert board.kept[-1] == Addresses(OLD, (NEW, OLD))
    assert not board.after(0.7 * ASK_EVERY_S)
    assert board.asked == [NEW]
    board.answering.add(NEW)
    assert board.after(2 * ASK_EVERY_S)
    assert board.kept[-1] == Addresses(OLD, (NEW, OLD), NEW)


def test_a_board_that_heard_of_it_before_it_slept_finds_the_new_address_when_the_old_one_is_dead() -> None:
    """It was told, then lay in a box for months; agent.toml still names the old server, which is gone."""
    board = Board(Addresses(OLD, (THIRD, NEW), THIRD))
    board.answering = {NEW}
    assert not board.after(AWAY_S - 2 * STEP_S)
    assert board.asked == []  # an outage of minutes moves nobody
    assert board.after(AWAY_S)
    assert board.kept[-1].current == NEW


def test_it_comes_back_home_where_all_that_it_was_told_is_dead() -> None:
    """The move was called off: what was told answers no more, the old address does."""
    board = Board(Addresses(OLD, (NEW,), NEW))
    assert board.after(3 * AWAY_S)
    assert board.kept[-1].current == OLD


def test_a_server_leads_no_board_where_its_policy_does_not_let_it() -> None:
    """A captured server names places of its own, and things that are no address: nobody asks there, nothing is kept."""
    board = Board(Addresses(OLD), hosts=("old.example.org", "new.example.org"))
    board.answering |= {THIRD, NEW}
    board.duty.hear((THIRD, "http://new.example.org:8443", "https://user@new.example.org", "https://new.example.org\\@evil"))
    assert not board.after(2 * ASK_EVERY_S)
    assert board.asked == []
    assert board.kept == []
    stricter = Addresses(OLD, (THIRD, NEW), THIRD).allowed(lambda host, _port: host == "new.example.org")
    assert (stricter.current, stricter.told) == (OLD, (NEW,))


def test_an_update_goes_first_and_a_full_disk_moves_nobody() -> None:
    """A trial is under way; then the card is full: the board stays where it is until both are over."""
    board = Board(Addresses(OLD))
    board.answering.add(NEW)
    board.busy = True
    board.duty.hear((NEW,))
    assert not board.after(60)
    board.busy, board.full = False, True
    assert not board.after(60)
    board.full = False
    assert board.after(2 * ASK_EVERY_S)


def test_what_was_told_survives_a_restart_and_nonsense_is_nothing(tmp_path: Path) -> None:
    """The agent starts anew with the address it chose; a torn or foreign file is as none."""
    file = tmp_path / "state" / "server.json"
    write_addresses(file, Addresses(OLD, (NEW, OLD), NEW))
    assert read_addresses(file, OLD) == Addresses(OLD, (NEW, OLD), NEW)
    assert read_addresses(file, THIRD).current == NEW  # agent.toml was changed since: where it is, it is reached
    for text in ("", "{", '{"told": 7}', '{"told": [], "chosen": "https://evil"}'):
        file.write_text(text)
        assert read_addresses(file, OLD) == Addresses(OLD)


def test_the_broker_goes_with_the_server() -> None:
    """It was told to be at the old address; a broker elsewhere stays elsewhere."""
    moved = Addresses(OLD, (NEW, OLD), NEW)
    assert moved.broker_at("old.example.org", 8883) == ("new.example.org", 8883)
    assert moved.broker_at("mqtt.example.org", 8883) == ("mqtt.example.org", 8883)
