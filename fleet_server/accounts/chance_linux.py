"""Fresh secrets, from the kernel's generator."""

import base64
import secrets

TOKEN_PREFIX = "rkt_"  # noqa: S105  the sign by which scanners of code and logs find a token that leaked
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Letters and digits that nobody mixes up when reading them from paper."""


def session_secret() -> str:
    """256 bits for a cookie."""
    return secrets.token_urlsafe(32)


def token_secret() -> str:
    """256 bits for an API token, with the sign by which it is found where it should not be."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def link_secret() -> str:
    """192 bits for a one-time link."""
    return secrets.token_urlsafe(24)


def row_id() -> str:
    """A short name for a session or token; no secret."""
    return secrets.token_hex(6)


def factor_secret() -> str:
    """A second factor's secret, base32: 160 bits, as RFC 4226 §4 (R6) recommends."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def recovery_codes(count: int = 10) -> list[str]:
    """Codes of 12 letters in three parts, 59 bits each."""
    return ["-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(3)) for _ in range(count)]


def nonce(length_bytes: int) -> bytes:
    """Bytes that come only once."""
    return secrets.token_bytes(length_bytes)
