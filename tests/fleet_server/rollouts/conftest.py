"""Enrolled devices and published releases, by the services' own ways in."""

import hashlib
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import CertificateSummary
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import ListedChannel, ListedRelease
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.wire.enrolment import BoardFacts

FACTS = BoardFacts(
    profile="rpi-4", board_model="Raspberry Pi 4", machine="aarch64", memory_bytes=2**31,
    runtimes={"litert": "2.1"}, python="3.11",
    agent_version="0.1",
)  # fmt: skip


@pytest.fixture
def enrol() -> Callable[..., list[str]]:
    """``enrol(session, n, now_s)``: n devices, heard at ``now_s``; answers their ids."""

    def make(session: Session, count: int, now_s: float, prefix: str = "cam") -> list[str]:
        ids = [f"{prefix}-{number:03}" for number in range(count)]
        for device_id in ids:
            inventory.record_enrolled(
                session, device_id=device_id, name=f"{device_id}-name", group="yard", facts=FACTS,
                certificate=CertificateSummary("1f", now_s + 1e6, "ab" * 32), now_s=now_s,
            )  # fmt: skip
            inventory.record_seen(session, device_id, now_s)
        session.flush()
        return ids

    return make


def manifest(version: str, counter: int, **changes: object) -> Manifest:
    digest = hashlib.sha256(version.encode()).hexdigest()
    values: dict[str, object] = {
        "name": "yard", "version": version, "channel": "stable", "counter": counter, "created_s": 1_700_000_000,
        "hardware": ["*"],
        "variants": [Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m", card="c", files=["m", "c"])],
        "files": {"m": FileEntry(sha256=digest, length_bytes=10), "c": FileEntry(sha256="0" * 64, length_bytes=3)},
    }  # fmt: skip
    return Manifest(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def publish() -> Callable[..., dict[str, str]]:
    """``publish(session, "1", "2", …)``: releases yard@1, yard@2 …, as a channel that lists exactly these; name -> sha256."""

    def make(session: Session, *versions: str, now_s: float = 1.0, **changes: object) -> dict[str, str]:
        listed, found = [], {}
        for counter, version in enumerate(versions, 1):
            one = manifest(version, counter, **changes)
            data = encode_manifest(one)
            digest = hashlib.sha256(data).hexdigest()
            found[one.release] = digest
            listed.append(ListedRelease(target_path("stable", "yard", version), digest, len(data), one, data.decode(), ""))
        releases.take_over(session, [ListedChannel("stable", len(versions), listed)], now_s)
        session.flush()
        return found

    return make
