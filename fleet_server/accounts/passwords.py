"""Passwords: what makes one good enough, argon2, and how many are checked at the same time."""

import functools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from fleet_server.errors import InvalidError, UnavailableError

MIN_PASSWORD, MAX_PASSWORD = 10, 200
HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=16, type=Type.ID)
"""RFC 9106 §4, the second recommended choice: argon2id, 3 passes, 64 MiB, 4 lanes, 128-bit salt, 256-bit tag."""
STRANGERS_AT_ONCE, KNOWN_AT_ONCE, MOST_WAITING, MOST_OF_ONE, PATIENCE_S = 2, 2, 16, 2, 10.0
"""Checks that run at the same time: 64 MiB and a processor each. Who is known here has places that strangers cannot fill;
of these one account has MOST_OF_ONE at a time, running or waiting, so that a leaked token keeps nobody else out."""
_ROWS = tuple(
    row * 3
    for forwards in ("qwertyuiop", "asdfghjkl", "zxcvbnm", "abcdefghijklmnopqrstuvwxyz", "1234567890", "qwertzuiop", "azertyuiop")
    for row in (forwards, forwards[::-1])
)
_WORDS = ("password", "passwort", "letmein", "welcome", "changeme", "default", "secret", "rookery", "administrator", "iloveyou",
          "football", "baseball", "dragon", "monkey", "sunshine", "princess", "superman", "camera", "raspberry")  # fmt: skip
"""What stands at the head of every published list of stolen passwords, and what anybody would try here."""


def password_problem(password: str, name: str = "") -> str | None:
    """Why this password is refused, or None: no rule about signs and digits, only against guesses (NIST SP 800-63B §5.1.1.2)."""
    if len(password) < MIN_PASSWORD:
        return f"the password has fewer than {MIN_PASSWORD} characters"
    if len(password) > MAX_PASSWORD:
        return f"the password has more than {MAX_PASSWORD} characters"
    if "\x00" in password:
        return "the password holds a character that no keyboard has"
    rest = password.casefold()
    if len(set(rest)) < 5:
        return "the password has too few different characters"
    for known in (*_WORDS, *([name.casefold()] if len(name) > 2 else [])):
        rest = rest.replace(known, " ")
    rest = "".join(letter for letter in rest if letter.isalnum())
    if len(rest) < 6 and sum(letter.isalpha() for letter in rest) < 4:
        return "the password is among those that are tried first: take several words that do not belong together"
    if any(part in row for part in {rest, rest.rstrip("0123456789") or rest} for row in _ROWS):
        return "the password is a row of the keyboard or of the alphabet"
    return None


def hash_password(password: str, name: str = "") -> str:
    """argon2id of a password; InvalidError says why it is refused. Slow on purpose: call it outside a transaction."""
    problem = password_problem(password, name)
    if problem is not None:
        raise InvalidError(problem)
    return HASHER.hash(password)


def password_fits(password_hash: str | None, password: str) -> bool:
    """The slow check, as slow for an account that does not exist (None). Call it outside a transaction, inside ``GATE``."""
    try:
        matches = HASHER.verify(password_hash or _nobody(), password[: MAX_PASSWORD + 1])
        return matches and bool(password_hash)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """Whether it was hashed with other parameters than today's: it is hashed anew when its owner signs in."""
    return HASHER.check_needs_rehash(password_hash)


@functools.cache
def _nobody() -> str:
    return HASHER.hash("nobody has this password, because nothing is ever compared with it")


class Gate:
    """So many checks at once and no more: a flood of wrong passwords fills neither memory nor processors."""

    def __init__(self, strangers: int, known: int, waiting: int, patience_s: float) -> None:
        self._places = {False: threading.BoundedSemaphore(strangers), True: threading.BoundedSemaphore(known)}
        self._queue = {False: threading.BoundedSemaphore(strangers + waiting), True: threading.BoundedSemaphore(known + waiting)}
        self._patience_s = patience_s
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place_of(self, account: str) -> Iterator[None]:
        """A place for who is known here: ``place(known=True)``, of which one account has but few at a time."""
        with self._lock:
            if self._held[account] >= MOST_OF_ONE:
                raise _busy()
            self._held[account] += 1
        try:
            with self.place(known=True):
                yield
        finally:
            with self._lock:
                self._held[account] -= 1
                self._held += Counter()  # keeps those above 0 alone

    @contextmanager
    def place(self, known: bool) -> Iterator[None]:
        """A place for one check; UnavailableError (503, Retry-After) when too many wait already."""
        if not self._queue[known].acquire(blocking=False):
            raise _busy()
        try:
            if not self._places[known].acquire(timeout=self._patience_s):
                raise _busy()
            try:
                yield
            finally:
                self._places[known].release()
        finally:
            self._queue[known].release()


def _busy() -> UnavailableError:
    return UnavailableError("too many people sign in at this moment", "try again in a few seconds", retry_after_s=5)


GATE = Gate(STRANGERS_AT_ONCE, KNOWN_AT_ONCE, MOST_WAITING, PATIENCE_S)
