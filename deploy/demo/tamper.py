"""What an attacker with the server's disk would do: change one byte of what is published."""

from collections.abc import Callable
from pathlib import Path


def flip_byte(path: Path, inside: bytes | None = None) -> Callable[[], None]:
    """Change one byte of a file in the server's store; returns what puts it back. ``inside``: just after these bytes."""
    original = path.read_bytes()
    at = original.index(inside) + len(inside) + 2 if inside else len(original) // 2
    changed = bytearray(original)
    # A digit becomes another digit, so that the file stays readable and only its signature can tell.
    changed[at] = ord("1") if chr(changed[at]).isdigit() and changed[at] != ord("1") else changed[at] ^ 1
    path.write_bytes(bytes(changed))

    def restore() -> None:
        path.write_bytes(original)

    return restore
