"""``policy.toml``: what is allowed on this board. Written at provisioning, changed only locally; no server can widen it. Pure."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from ota.wire.polygons import Point, points_of, polygon_faults

Polygon = tuple[Point, ...]
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_NAME = re.compile(r"[A-Za-z0-9 _.-]{1,60}")
_TARGET = re.compile(r"policy/[a-z0-9][a-z0-9._-]{0,59}\.toml")
MAX_TEXT_CHARS = 100_000
MAX_MASKS = 50
UPLOAD_CLASSES = ("crop", "burst", "recall", "debug")
"""Kinds of pictures that a board may send: of an event (``crop``), around a trigger (``burst``), without a detection
(``recall``), in a debug session (``debug``)."""
DEFAULT_CLASSES = ("crop",)
"""What may leave unless the owner says more: the other classes show whole frames, and a server could ask for them at any time."""
ANY_CAMERA = "*"
OWN_KEYS = ("follow", "server_hosts")
"""Keys that no followed policy changes: who may change the rules, and who the server is, is decided on the board."""


class PolicyError(ValueError):
    """A policy that cannot be used; ``faults`` holds one sentence for each thing that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("policy.toml cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Policy:
    """What this board allows; the defaults are the safest that still let it be updated and send its crops.

    ``channels``: release lines that may be installed. ``local_install``: a USB stick may install without an assignment.
    ``window_utc``: minutes since midnight UTC between which an update may begin (over midnight too), None is any time.
    ``max_temp_c``: no update begins above it. ``debug_sessions``, ``diagnostics``: a server may ask for logs, for diagnostics.
    ``live_view``: a debug session may ask for pictures. ``masks``: by camera ("*": every camera), polygons that are black in
    every picture. ``blur``: labels made unrecognisable in every picture; ``blur_by``: the models trusted to find them, empty is
    any that knows them. ``blur_model``, ``blur_card``: paths of a model of the board's own for labels that the release's model
    does not know, and of its card. ``upload_classes``: kinds of pictures that may leave the board.
    ``upload_hosts``: object stores that pictures may be put to besides the server itself; ``server_hosts``: where server and
    broker may be; ``local_output_hosts``: where local MQTT and webhook may be. Entries are ``host`` or ``host:port``; None: any.
    ``content_hosts``: stores that the server may send us on to for content of releases; none unless the owner names them.
    ``metered``: the line costs money, so updates fetch at most ``metered_bytes_per_month`` over it, and nothing where that is
    None. ``max_download_bytes_per_s``: of updates, None is as fast as it goes. ``follow``: a policy target
    (``policy/shops.toml``) that this board takes its rules from; empty: this file alone.
    """

    channels: tuple[str, ...] = ("stable",)
    local_install: bool = False
    window_utc: tuple[int, int] | None = None
    max_temp_c: float = 85.0
    debug_sessions: bool = True
    diagnostics: bool = False
    live_view: bool = False
    masks: Mapping[str, tuple[Polygon, ...]] = field(default_factory=dict)
    blur: tuple[str, ...] = ()
    blur_by: tuple[str, ...] = ()
    blur_model: str = ""
    blur_card: str = ""
    upload_classes: tuple[str, ...] = DEFAULT_CLASSES
    upload_hosts: tuple[str, ...] | None = None
    server_hosts: tuple[str, ...] | None = None
    local_output_hosts: tuple[str, ...] | None = None
    content_hosts: tuple[str, ...] = ()
    metered: bool = False
    metered_bytes_per_month: int | None = None
    max_download_bytes_per_s: int | None = None
    follow: str = ""
    note: str = ""
    """Where it came from, for people."""


def missing_policy() -> Policy:
    """What holds where there is no file."""
    return Policy(note="no policy.toml on this board: only the channel stable, crops of events and no other picture")


def load_policy(text: str) -> Policy:
    """The policy that a TOML text describes; raises PolicyError with ALL faults at once, unknown keys among them."""
    return _policy_of(_parsed(text))


def merged_policy(own: str, followed: str) -> Policy:
    """The board's own text with what a followed policy names in its place; raises PolicyError, naming faults of either.

    Two keys stay the board's own: whom it follows, and where its server may be. Masks are taken by camera.
    """
    load_policy(followed)  # by itself it must be one, too
    base, over = _parsed(own), _parsed(followed)
    both = {**base, **{key: value for key, value in over.items() if key not in OWN_KEYS}}
    if isinstance(base.get("masks"), dict) and isinstance(over.get("masks"), dict):
        both["masks"] = {**base["masks"], **over["masks"]}
    return _policy_of(both)


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT_CHARS:
        raise PolicyError([f"the text is longer than {MAX_TEXT_CHARS} characters"])
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError([f"not TOML: {error}"]) from None


def _policy_of(raw: dict[str, Any]) -> Policy:
    known = {field.name for field in fields(Policy)} - {"note"}
    faults = [f"unknown key {key!r} (known: {', '.join(sorted(known))})" for key in sorted(set(raw) - known)]
    values: dict[str, Any] = {}
    for key in sorted(set(raw) & known):
        before = len(faults)
        value = _READERS.get(key, _switch)(key, raw[key], faults)
        if len(faults) == before:
            values[key] = value
    if bool(values.get("blur_model")) != bool(values.get("blur_card")):
        faults.append("blur_model and blur_card are given together: a model cannot be run without its card")
    if faults:
        raise PolicyError(faults)
    return Policy(**values, note="policy.toml")


def policy_faults(policy: Policy, cameras: Iterable[str], server_url: str, local_hosts: Iterable[str] = ()) -> list[str]:
    """What of this board's settings its policy does not allow: one sentence each. ``local_hosts``: host:port of local output.

    A mask for a camera that does not exist is a fault too: a slip of the pen must not leave a camera without its mask.
    """
    names = sorted(cameras)
    faults = [
        f"policy.toml masks a camera {name!r} that agent.toml does not have (it has {', '.join(names) or 'none'})"
        for name in sorted(policy.masks)
        if name != ANY_CAMERA and name not in names
    ]
    parts = urlsplit(server_url)
    if not allows_host(policy.server_hosts, parts.hostname or "", parts.port or 443):
        allowed = ", ".join(policy.server_hosts or ()) or "no place"
        faults.append(f"policy.toml allows the server at {allowed} only, agent.toml says {server_url}")
    for place in local_hosts:
        host, _, port = place.rpartition(":")
        if not allows_host(policy.local_output_hosts, host.strip("[]"), int(port)):
            allowed = ", ".join(policy.local_output_hosts or ()) or "nowhere"
            faults.append(f"policy.toml allows local output to {allowed} only, agent.toml says {place}")
    return faults


def allows_host(hosts: tuple[str, ...] | None, host: str, port: int) -> bool:
    """Whether a list of ``host`` and ``host:port`` names this place; None names every place. Names compare without case."""
    if hosts is None:
        return True
    bare = host.strip("[]").lower().rstrip(".")
    for entry in hosts:
        name, given = _host_and_port(entry)
        if name == bare and given in (None, port):
            return True
    return False


def _host_and_port(entry: str) -> tuple[str, int | None]:
    name, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        name, port = entry, ""
    return name.strip("[]").lower().rstrip("."), int(port) if port else None


def _port(entry: str) -> int:
    port = _host_and_port(entry)[1]
    return 1 if port is None else port


def _switch(key: str, found: object, faults: list[str]) -> object:
    if not isinstance(found, bool):
        faults.append(f"{key} must be true or false")
    return found


def _channels(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, list) and found and all(isinstance(one, str) and _CHANNEL.fullmatch(one) for one in found):
        return tuple(dict.fromkeys(found))
    faults.append(f"{key} must be a list of at least one channel name (a-z, 0-9 and '-')")
    return None


def _window(key: str, found: object, faults: list[str]) -> object:
    matches = [_TIME.fullmatch(one) if isinstance(one, str) else None for one in found] if isinstance(found, list) else []
    minutes = [int(one[1]) * 60 + int(one[2]) for one in matches if one]
    if len(matches) == len(minutes) == 2 and minutes[0] != minutes[1]:
        return (minutes[0], minutes[1])
    faults.append(f'{key} must be two different times like ["22:00", "04:30"]')
    return None


def _temperature(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found <= 120:
        return float(found)
    faults.append(f"{key} must be a number above 0 and at most 120")
    return None


def _labels(key: str, found: object, faults: list[str]) -> object:
    good = isinstance(found, list) and len(found) <= 100 and all(isinstance(one, str) and 0 < len(one) <= 200 for one in found)
    if isinstance(found, list) and good:
        return tuple(dict.fromkeys(found))
    faults.append(f'{key} must be a list of names like ["person"]')
    return None


def _classes(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, list) and all(one in UPLOAD_CLASSES for one in found):
        return tuple(dict.fromkeys(found))
    faults.append(f"{key} must be a list of {', '.join(UPLOAD_CLASSES)}; an empty one means that no picture leaves the board")
    return None


def _hosts(key: str, found: object, faults: list[str]) -> object:
    written = isinstance(found, list) and all(isinstance(one, str) and _HOST.fullmatch(one) for one in found)
    if isinstance(found, list) and written and all(0 < _port(one) < 65536 for one in found):
        return tuple(dict.fromkeys(found))
    faults.append(f'{key} must be a list of hosts like ["store.example", "192.168.1.5:9000"], without https://')
    return None


def _path(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, str) and found.startswith("/") and len(found) <= 1000 and found.isprintable():
        return found
    faults.append(f"{key} must be a whole path on this board, beginning with /")
    return None


def _masks(key: str, found: object, faults: list[str]) -> object:
    if not isinstance(found, dict):
        faults.append(f'{key} must be a table of cameras: [{key}] and below it yard = [[[0.0, 0.0], [0.3, 0.0], [0.0, 0.4]]]')
        return None
    made: dict[str, tuple[Polygon, ...]] = {}
    for camera, polygons in found.items():
        if camera != ANY_CAMERA and not _NAME.fullmatch(camera):
            faults.append(f"{key}.{camera[:60]!r} is not the name of a camera")
        elif not isinstance(polygons, list) or len(polygons) > MAX_MASKS:
            faults.append(f"{key}.{camera} must be a list of at most {MAX_MASKS} polygons, each a list of points [x, y]")
        else:
            wrong = [f for n, one in enumerate(polygons, 1) for f in polygon_faults(one, f"{key}.{camera}[{n}]")]
            faults += wrong
            made[camera] = () if wrong else tuple(points_of(one) for one in polygons)
    return made


def _bytes(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found < 2**53:
        return found
    faults.append(f"{key} must be a whole number of bytes, 1 or more")
    return None


def _follow(key: str, found: object, faults: list[str]) -> object:
    if isinstance(found, str) and _TARGET.fullmatch(found):
        return found
    faults.append(f'{key} must name a policy target like "policy/shops.toml"')
    return None


_READERS: dict[str, Callable[[str, object, list[str]], object]] = {
    "channels": _channels, "window_utc": _window, "max_temp_c": _temperature, "masks": _masks, "blur": _labels,
    "metered_bytes_per_month": _bytes, "max_download_bytes_per_s": _bytes, "follow": _follow, "blur_by": _labels,
    "blur_model": _path, "blur_card": _path,
    "upload_classes": _classes, "upload_hosts": _hosts, "server_hosts": _hosts, "local_output_hosts": _hosts,
    "content_hosts": _hosts,
}  # fmt: skip
