"""A heartbeat that fits the wire: what a configuration with many rules and long names makes too large is shed. Pure."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from ota.wire.codec import limit_bytes
from ota.wire.heartbeat import CameraHealth, Heartbeat, ShadowHealth

ROUNDS = 10
"""Each halves the lists: the longest that the wire has are empty after nine."""
T = TypeVar("T")


def fitting(heartbeat: Heartbeat) -> Heartbeat:
    """The same heartbeat where it fits; else with the most frequent line counts, rules and shadow pairs alone.

    ``left_out`` says how many entries went. What remains too large after that is the codec's to refuse.
    """
    limit, fitted = limit_bytes(Heartbeat), heartbeat
    for halvings in range(1, ROUNDS + 1):
        if len(msgspec.json.encode(fitted)) <= limit:
            break
        fitted = _shed(heartbeat, 2**halvings)
    return fitted


def _shed(heartbeat: Heartbeat, divisor: int) -> Heartbeat:
    cameras = [_camera(camera, divisor) for camera in heartbeat.cameras]
    shadow = heartbeat.shadow
    if shadow is not None:
        pairs = _most(shadow.pairs, [pair.both + pair.only_current + pair.only_candidate for pair in shadow.pairs], divisor)
        shadow = msgspec.structs.replace(shadow, pairs=pairs, left_out=shadow.left_out + len(shadow.pairs) - len(pairs))
    before, after = _entries(heartbeat.cameras, heartbeat.shadow), _entries(cameras, shadow)
    return msgspec.structs.replace(
        heartbeat, cameras=cameras, shadow=shadow, left_out=min(heartbeat.left_out + before - after, 2**53 - 1)
    )


def _camera(camera: CameraHealth, divisor: int) -> CameraHealth:
    crossed = _most(camera.crossed, [one.count for one in camera.crossed], divisor)
    held_back, unsure = _most_of(camera.held_back, divisor), _most_of(camera.unsure, divisor)
    return msgspec.structs.replace(camera, crossed=crossed, held_back=held_back, unsure=unsure)


def _most(entries: list[T], counts: list[int], divisor: int) -> list[T]:
    """The most frequent ones, in the order that they had."""
    kept = sorted(range(len(entries)), key=lambda n: (-counts[n], n))[: len(entries) // divisor]
    return [entries[n] for n in sorted(kept)]


def _most_of(counts: Mapping[str, int], divisor: int) -> dict[str, int]:
    names = list(counts)
    return {name: counts[name] for name in _most(names, [counts[name] for name in names], divisor)}


def _entries(cameras: Iterable[CameraHealth], shadow: ShadowHealth | None) -> int:
    counted = sum(len(camera.crossed) + len(camera.held_back) + len(camera.unsure) for camera in cameras)
    return counted + (len(shadow.pairs) if shadow else 0)
