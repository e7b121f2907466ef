"""What the tests of accounts share: argon2 at no cost, where something else is looked at."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from fleet_server.accounts import passwords, sign_in

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def cheap_argon2(monkeypatch: pytest.MonkeyPatch) -> Iterator[PasswordHasher]:
    """The same code with parameters that cost nothing; test_accounts.py looks at the real ones."""
    monkeypatch.setattr(passwords, "HASHER", CHEAP)
    monkeypatch.setattr(sign_in, "HASHER", CHEAP)
    passwords._nobody.cache_clear()
    yield CHEAP
    passwords._nobody.cache_clear()
