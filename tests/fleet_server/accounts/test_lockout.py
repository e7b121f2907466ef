"""Guessing passwords: how far a stranger gets, and that it costs nobody else anything."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from argon2 import PasswordHasher

from fleet_server.accounts import lockout, passwords, people, service, sign_in
from fleet_server.accounts.sign_in import WRONG, Credentials
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.door_limits import address_key
from fleet_server.errors import ServerError, TooManyError, UnauthenticatedError, UnavailableError

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
pytestmark = pytest.mark.usefixtures("cheap_argon2")
"""Thousands of guesses in a test: what is counted does not know of argon2's parameters."""
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database, but where rows are locked."""
    return sqlite_server


@pytest.fixture(autouse=True)
def ada(server: Context) -> None:
    """The admin whose name everybody knows."""
    with server.database.write() as session:
        service.add_operator(session, name="ada", password_hash=HASH, role="admin", now_s=NOW_S)


def attempt(here: Context, password: str, *, name: str = "ada", origin: str = HERE, cookie: str = "") -> sign_in.SignedIn:
    """One sign-in."""
    shown = Credentials(name, password, origin=origin, browser_cookie=cookie)
    return sign_in.sign_in(here, shown, kind="session", label="t", ttl_s=3600)


def outcome(here: Context, password: str, **more: str) -> str:
    """How it ended, in one word."""
    try:
        attempt(here, password, **more)
    except ServerError as error:
        return type(error).__name__
    return "in"


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which passwords were really hashed: what guessing costs the server, and all that it could ever find."""
    looked: list[str] = []
    real = passwords.password_fits

    def fits(password_hash: str | None, password: str) -> bool:
        looked.append(password)
        return real(password_hash, password)

    with monkeypatch.context() as patch:
        patch.setattr(sign_in, "password_fits", fits)
        yield looked


@pytest.mark.parametrize("guesses", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_wrong_passwords_from_one_address_find_nothing_and_keep_nobody_out(
    server: Context, monkeypatch: pytest.MonkeyPatch, guesses: int
) -> None:
    """A program tries a list of passwords (10,000 in the slow tier), the right one among them; Ada works elsewhere meanwhile."""
    known = attempt(server, PASSWORD, origin=ELSEWHERE).browser_cookie
    with counted(monkeypatch) as looked:
        for number in range(1, guesses + 1):
            guess = PASSWORD if number == guesses * 8 // 10 else f"guess number {number}"
            assert outcome(server, guess) != "in"
            if number % (guesses // 4) == 0:
                assert outcome(server, PASSWORD, origin=ELSEWHERE) == "in"
                assert outcome(server, PASSWORD, cookie=known) == "in", "even from the guesser's address"
    assert len(looked) == lockout.FREE_FAILURES + 8


@pytest.mark.parametrize("networks", [130, pytest.param(2_000, marks=pytest.mark.slow)])
def test_wrong_passwords_from_everywhere_find_little_and_keep_nobody_out(
    server: Context, monkeypatch: pytest.MonkeyPatch, networks: int
) -> None:
    """A botnet guesses one name, five times from each address (10,000 guesses in the slow tier): it gets one look from each once
    it was noticed. Ada still signs in, in her browser, and at an address where nobody guessed."""
    known = attempt(server, PASSWORD, origin=ELSEWHERE).browser_cookie
    with counted(monkeypatch) as looked:
        for number in range(networks):
            for each in range(5):
                assert outcome(server, f"guess {number}.{each}", origin=f"203.{number // 250}.{number % 250}.9") != "in"
    assert len(looked) <= lockout.UNDER_ATTACK + 1 + networks
    assert outcome(server, PASSWORD, origin="203.0.7.9", cookie=known) == "in"
    assert outcome(server, PASSWORD, origin="192.0.2.200") == "in"
    with server.database.read() as session:
        told = [entry for entry in audit.entries(session, limit=1000) if entry.what == "sign-in.failed"]
    assert 0 < len(told) < 80, "the audit tells of it, and is not flooded by it"


def test_nothing_tells_which_names_there_are(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, disabled, invited, a machine, or only a wrong password: the same words, status, lock and work."""
    with server.database.write() as session:
        actor = people.Actor("ada", "", NOW_S)
        service.add_operator(session, name="old", password_hash=HASH, role="viewer", now_s=NOW_S)
        people.disable(session, actor, "old")
        people.add_machine(session, actor, name="robot", role="viewer", groups=None)
        service.invite(session, actor, name="new", role="viewer", groups=None, ttl_s=3600)
    seen: dict[str, list[tuple[str, str, str, int]]] = {}
    for number, name in enumerate(("ada", "old", "robot", "new", "nobody-here")):
        for _ in range(lockout.FREE_FAILURES + 1):
            password = PASSWORD if name == "old" else "wrong password"
            with counted(monkeypatch) as looked, pytest.raises(ServerError) as refused:
                attempt(server, password, name=name, origin=f"192.0.2.{number}")
            error = refused.value
            seen.setdefault(name, []).append((type(error).__name__, error.detail, error.hint, len(looked)))
    assert {tuple(answers) for answers in seen.values()} == {tuple(seen["ada"])}
    assert seen["ada"][0][:2] == ("UnauthenticatedError", WRONG)
    assert seen["ada"][-1][0] == "TooManyError"
    assert [answer[3] for answer in seen["ada"]] == [1] * lockout.FREE_FAILURES + [0]


def test_guesses_at_the_same_moment_are_counted_one_by_one(settings: object, database: object, server: Context) -> None:
    """Twenty guesses arrive together, before the first slow check has ended: no more are looked at than one by one."""
    here = replace(server, database=database)  # type: ignore[arg-type]
    refused: list[str] = []
    threads = [threading.Thread(target=lambda: refused.append(outcome(here, "wrong password"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (refused.count("UnauthenticatedError"), refused.count("TooManyError")) == (lockout.FREE_FAILURES, 15)


def test_the_lock_ends_and_success_forgets_the_failures(server: Context) -> None:
    """The right person mistypes at her own desk: she waits a minute, never for good."""
    for _ in range(lockout.FREE_FAILURES):
        assert outcome(server, "wrong password") == "UnauthenticatedError"
    with pytest.raises(TooManyError) as refused:
        attempt(server, PASSWORD)
    assert 0 < refused.value.retry_after_s <= 61
    server.clock.forward(61)  # type: ignore[attr-defined]
    assert outcome(server, PASSWORD) == "in"
    assert [outcome(server, "wrong password") for _ in range(lockout.FREE_FAILURES)] == ["UnauthenticatedError"] * 5


def test_locks_grow_up_to_a_quarter_of_an_hour(server: Context) -> None:
    """Who goes on after each lock waits longer each time."""
    waits = []
    for _ in range(lockout.FREE_FAILURES - 1):
        outcome(server, "wrong password")
    for _ in range(7):
        assert outcome(server, "wrong password") == "UnauthenticatedError"
        with pytest.raises(TooManyError) as refused:
            attempt(server, PASSWORD)
        waits.append(refused.value.retry_after_s)
        server.clock.forward(refused.value.retry_after_s)  # type: ignore[attr-defined]
    assert waits == [61, 121, 241, 481, 901, 901, 901]


def test_a_browser_is_known_for_one_name_alone_and_has_its_own_count(server: Context) -> None:
    """Eve has an account, too: what her browser was given helps her with no other name, and her own browser's guesses end."""
    with server.database.write() as session:
        service.add_operator(session, name="eve", password_hash=HASH, role="viewer", now_s=NOW_S)
    hers = attempt(server, PASSWORD, name="eve").browser_cookie
    key = server.web_secret
    assert lockout.known_browser(key, hers, "eve", NOW_S) is not None
    assert lockout.known_browser(key, hers, "ada", NOW_S) is None
    assert lockout.known_browser(b"another key" * 3, hers, "eve", NOW_S) is None
    assert lockout.known_browser(key, hers, "eve", NOW_S + lockout.KNOWN_BROWSER_S) is None
    nonce, _, sign = hers.split(".")
    for broken in ("", ".", "..", "a.b.c", hers[:-1], hers + "0", "é.1.2", "1" * 400, f"{nonce}.9e9.{sign}"):
        assert lockout.known_browser(key, broken, "eve", NOW_S) is None
    for _ in range(lockout.FREE_FAILURES):
        assert outcome(server, "wrong password", name="eve", cookie=hers) == "UnauthenticatedError"
    assert outcome(server, PASSWORD, name="eve", cookie=hers) == "TooManyError"
    assert outcome(server, PASSWORD, name="eve") == "in", "what was counted there is not counted here"


@pytest.mark.parametrize(("address", "counts_as"), [
    ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("fe80::1%eth0", "fe80::/64"), ("", ""), ("nonsense", "nonsense"),
])  # fmt: skip
def test_an_address_is_what_one_household_has(address: str, counts_as: str) -> None:
    """2^64 addresses of one IPv6 line are one."""
    assert address_key(address) == counts_as


def test_an_address_that_tries_many_names_is_stopped(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One password for each of a thousand names: after fifty the address waits, whoever it tries."""
    with counted(monkeypatch) as looked:
        ends = [outcome(server, "Summer2026!!", name=f"name{number}") for number in range(200)]
    assert ends.count("UnauthenticatedError") == len(looked) == lockout.FREE_OF_ADDRESS
    assert outcome(server, PASSWORD, origin=ELSEWHERE) == "in"


def test_a_flood_is_told_to_come_back_and_strangers_fill_no_place_of_a_known_browser(server: Context) -> None:
    """All places for strangers are taken by slow checks: the next hears 503 with Retry-After and is not counted as failed;
    who is known here goes on."""
    known = attempt(server, PASSWORD, origin=ELSEWHERE).browser_cookie
    gate = passwords.Gate(strangers=1, known=1, waiting=0, patience_s=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sign_in, "GATE", gate)
        with gate.place(known=False):
            for _ in range(lockout.FREE_FAILURES + 2):
                with pytest.raises(UnavailableError) as refused:
                    attempt(server, PASSWORD)
            assert refused.value.retry_after_s > 0
            assert outcome(server, PASSWORD, cookie=known) == "in"
            answer = create_operator_app(server).test_client().post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert outcome(server, PASSWORD) == "in"


def test_strangers_of_many_networks_write_so_many_rows_an_hour(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new name from each new network would be a row: an hour has MOST_TOLD and few more, and the next one tells."""
    monkeypatch.setattr(lockout, "MOST_TOLD", 5)
    for number in range(20):
        outcome(server, "x", name=f"name{number}", origin=f"198.51.100.{number}")

    def told() -> int:
        with server.database.read() as session:
            return sum(entry.what == "sign-in.failed" for entry in audit.entries(session, limit=1000))

    assert told() == 5 + len((8, 16))
    server.clock.forward(lockout.FORGOTTEN_S + 1)  # type: ignore[attr-defined]
    outcome(server, "x", origin=ELSEWHERE)
    assert told() == 8


def test_a_flooded_door_forgets_no_failure(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who guesses fills all places now and then, because a refused sign-in might wipe his count: it takes back itself alone."""
    gate = passwords.Gate(strangers=1, known=1, waiting=0, patience_s=30)
    monkeypatch.setattr(sign_in, "GATE", gate)
    with counted(monkeypatch) as looked:
        for number in range(3 * lockout.FREE_FAILURES):
            assert outcome(server, f"guess {number}") in ("UnauthenticatedError", "TooManyError")
            with gate.place(known=False):
                assert outcome(server, "flood") in ("UnavailableError", "TooManyError")
    assert len(looked) == lockout.FREE_FAILURES


def test_one_account_has_two_places_and_no_more(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody shows one known browser's password a hundred times at once: the places of all others stay free."""
    cookies = {"ada": attempt(server, PASSWORD).browser_cookie}
    with server.database.write() as session:
        service.add_operator(session, name="ben", password_hash=HASH, role="viewer", now_s=NOW_S)
    cookies["ben"] = attempt(server, PASSWORD, name="ben").browser_cookie
    gate = passwords.Gate(strangers=1, known=passwords.MOST_OF_ONE + 1, waiting=0, patience_s=30)
    monkeypatch.setattr(sign_in, "GATE", gate)
    with gate.place_of("ada"), gate.place_of("ada"):
        assert outcome(server, PASSWORD, cookie=cookies["ada"]) == "UnavailableError"
        assert outcome(server, PASSWORD, name="ben", cookie=cookies["ben"]) == "in"
    assert outcome(server, PASSWORD, cookie=cookies["ada"]) == "in"


def test_old_counts_are_swept(server: Context) -> None:
    """A botnet's counts of yesterday are no weight on the table today."""
    for number in range(40):
        outcome(server, "x", origin=f"203.0.113.{number}", name=f"n{number}")
    server.clock.forward(3 * lockout.FORGOTTEN_S)  # type: ignore[attr-defined]
    for number in range(4):
        outcome(server, "x", origin=f"198.51.100.{number}")
    with server.database.engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM sign_in_failure").scalar()
    assert left is not None
    assert left <= 4 * 3


def test_the_words_of_a_refusal_are_one_constant() -> None:
    """Whoever adds a case takes the same words."""
    assert isinstance(UnauthenticatedError(WRONG), ServerError)
