"""The addresses of the server on disk: what was told and chosen survives the restart that follows."""

from pathlib import Path

from device_agent.link.addresses import Addresses, from_bytes, to_bytes
from ota.durable_disk import write_whole


def read_addresses(file: Path, home: str) -> Addresses:
    """What was kept in ``file``; only ``home`` where there is nothing."""
    try:
        return from_bytes(home, file.read_bytes())
    except OSError:
        return Addresses(home)


def write_addresses(file: Path, addresses: Addresses) -> None:
    """Keep them; raises OSError."""
    write_whole(file, to_bytes(addresses), 0o600)
