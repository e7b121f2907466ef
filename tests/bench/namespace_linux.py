"""A network namespace with one cable to this machine, whose kernel counts every byte: what contracts, section 9, asks for."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ETHERNET_BYTES = 14
"""Header of each frame on the cable, which is not IP."""


@dataclass(frozen=True, slots=True)
class Cable:
    """``host``: this side's address; ``prefix``: how a command inside begins; ``sent_bytes``: IP bytes that it has sent."""

    host: str
    prefix: tuple[str, ...]
    sent_bytes: Callable[[], int]


@contextlib.contextmanager
def cable() -> Iterator[Cable | None]:
    """A namespace of its own, removed at the end; None where none can be made (no root, no ``ip``)."""
    name, here, there = f"rookery-{os.getpid()}", f"rk{os.getpid()}a"[:15], f"rk{os.getpid()}b"[:15]
    address = f"10.213.{os.getpid() % 250}."
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name],
        ["ip", "address", "add", f"{address}1/24", "dev", here],
        ["ip", "link", "set", here, "up"],
        ["ip", "netns", "exec", name, "ip", "address", "add", f"{address}2/24", "dev", there],
        ["ip", "netns", "exec", name, "ip", "link", "set", there, "up"],
        ["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"],
    ]

    def sent_bytes() -> int:
        folder = Path("/sys/class/net") / here / "statistics"
        # What this side receives is what the namespace sends.
        return int((folder / "rx_bytes").read_text()) - ETHERNET_BYTES * int((folder / "rx_packets").read_text())

    try:
        for step in steps:
            subprocess.run(step, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        yield None
        return
    try:
        yield Cable(f"{address}1", ("ip", "netns", "exec", name), sent_bytes)
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
