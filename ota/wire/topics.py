"""MQTT topics and HTTP paths: built and parsed here and nowhere else."""

import re
from dataclasses import dataclass

DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
"""A device id is the certificate's common name, the MQTT user name and one level of a topic."""

ROOT = "fleet/v1"
UP_CHANNELS = ("heartbeat", "online", "log")
DOWN_CHANNELS = ("wake",)

# Paths of the device door. Each stands here once; both sides take it from here.
ENROL = "/device/v1/enrol"
RENEW = "/device/v1/renew"
RENEW_EXPIRED = "/device/v1/renew-expired"
"""Without a client certificate: no TLS takes one that has ended. The proof of possession stands in the message."""
TIME = "/device/v1/time"
STATE = "/device/v1/state"
EVENTS = "/device/v1/events"
REPORTS = "/device/v1/reports"
LOGS = "/device/v1/logs"
HEARTBEATS = "/device/v1/heartbeats"
UPLOADS = "/device/v1/uploads"
METADATA = "/device/v1/metadata"
"""TUF metadata, static files: ``METADATA/2.root.json``, ``METADATA/timestamp.json``."""
BUNDLES = "/device/v1/bundles"
"""Manifests (by TUF target path, hash-prefixed) and content files (``BUNDLES/files/<sha256>``), static."""
BLOBS = "/blobs"
"""The disk blob store's signed uploads and downloads."""


class TopicError(ValueError):
    """A topic is not one of ours; the message names the wrong level."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One parsed topic: who it belongs to, its direction (``up`` or ``down``) and its channel."""

    device: str
    direction: str
    channel: str


def _device(device: str) -> str:
    if not DEVICE_ID.fullmatch(device):
        raise TopicError(f"device id {device!r} is not 3 to 63 of a-z, 0-9 and '-'")
    return device


def up(device: str, channel: str) -> str:
    """Topic that a device publishes on; raises TopicError for an unknown channel or a bad id."""
    if channel not in UP_CHANNELS:
        raise TopicError(f"up channel {channel!r} is not one of {', '.join(UP_CHANNELS)}")
    return f"{ROOT}/{_device(device)}/up/{channel}"


def down(device: str, channel: str) -> str:
    """Topic that a device listens on; raises TopicError for an unknown channel or a bad id."""
    if channel not in DOWN_CHANNELS:
        raise TopicError(f"down channel {channel!r} is not one of {', '.join(DOWN_CHANNELS)}")
    return f"{ROOT}/{_device(device)}/down/{channel}"


def every_up() -> str:
    """Filter with which the server hears all devices."""
    return f"{ROOT}/+/up/+"


def parse(topic: str) -> Topic:
    """Take a topic apart; raises TopicError that names the wrong level."""
    levels = topic.split("/")
    if len(levels) != 5:
        raise TopicError(f"{topic!r} has {len(levels)} levels, not 5")
    if "/".join(levels[:2]) != ROOT:
        raise TopicError(f"{topic!r} does not begin with {ROOT!r}")
    device, direction, channel = _device(levels[2]), levels[3], levels[4]
    known = {"up": UP_CHANNELS, "down": DOWN_CHANNELS}.get(direction)
    if known is None:
        raise TopicError(f"direction {direction!r} is neither 'up' nor 'down'")
    if channel not in known:
        raise TopicError(f"{direction} channel {channel!r} is not one of {', '.join(known)}")
    return Topic(device, direction, channel)
