"""Random names and tokens, drawn from the kernel; and what of a token is stored."""

import hashlib
import secrets


def new_id(prefix: str) -> str:
    """``c-…``: a name that nobody has."""
    return f"{prefix}-{secrets.token_hex(5)}"


def new_suffix() -> str:
    """Eight hexadecimal digits: a device id is ``d-`` and these."""
    return secrets.token_hex(4)


def new_token() -> str:
    """A claim's token: 192 random bits, printable, safe in a shell and a URL."""
    return f"rkc_{secrets.token_urlsafe(24)}"


def hash_of(token: str) -> str:
    """What is stored of a token: whoever reads the database cannot enrol with it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
