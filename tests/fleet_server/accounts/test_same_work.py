"""Time tells a stranger which names there are, unless a name that nobody has costs the same hash of the same strength."""

from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from fleet_server.accounts import passwords

PASSWORD = "correct horse battery"


def test_a_name_that_nobody_has_costs_one_hash_of_the_same_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody measures how long a refusal takes: an account, and none; each is one check with the same parameters."""
    checked: list[Any] = []

    class Watched:
        def verify(self, known: str, password: str) -> bool:
            checked.append(extract_parameters(known))
            raise VerifyMismatchError

        def hash(self, password: str) -> str:
            return PasswordHasher.from_parameters(extract_parameters(real)).hash(password)

    real = passwords.hash_password(PASSWORD)
    monkeypatch.setattr(passwords, "HASHER", Watched())
    passwords._nobody.cache_clear()
    try:
        for known in (real, None, ""):
            assert not passwords.password_fits(known, "wrong password")
    finally:
        passwords._nobody.cache_clear()
    assert len(checked) == 3
    assert len(set(map(repr, checked))) == 1
