"""A board's facts, events and crops for tests of the agent alone."""

import hashlib

from device_agent.spool.entry import Crop
from ota.wire.enrolment import BoardFacts
from ota.wire.events import Event

FACTS = BoardFacts(
    profile="rpi-4",
    board_model="Raspberry Pi 4 Model B",
    serial="10000000abcdef01",
    machine="aarch64",
    cores=4,
    memory_bytes=4 * 2**30,
    runtimes={"litert": "2.1"},
    python="3.11",
    agent_version="0.1.0",
)


def make_event(number: int, *, score: float = 0.9, revision: int = 0) -> Event:
    return Event(
        sequence=0, id=f"ev{number}", revision=revision, camera="yard", track=number, label="walker", rule="gate",
        rule_kind="zone", started_at_s=1000.0 + number, start_frame=0, end_frame=10, score=score, threshold=0.5, box=(1, 2, 3, 4),
        frame_width_px=320, frame_height_px=240, bundle_sha256="0" * 64, release="yard@1",
    )  # fmt: skip


def make_crop(number: int, *, size: int = 1000, kind: str = "first") -> Crop:
    jpeg = f"jpeg {number} ".encode().ljust(size, b".")
    return Crop(kind, hashlib.sha256(jpeg).hexdigest(), len(jpeg), 0.9, 1000.0, (1, 2, 3, 4), jpeg)
