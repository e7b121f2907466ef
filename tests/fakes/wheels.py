"""Wheels made in the hand, whole and broken, and signed releases of the agent out of them."""

import base64
import hashlib
import io
import platform
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ota.bundle.agent_release import LOCK, build_lock
from ota.bundle.manifest import AGENT, Manifest, Packed, Variant, encode_manifest, target_path
from ota.bundle.tuf_types import Metadata
from ota.bundle.writer_disk import file_entry
from ota.trust import roles
from ota.wire.assignments import AssignedBundle
from ota.zstd_frames import pack
from tests.fakes.release_fleet import DAY_S, ReleaseFleet

ROOT = Path(__file__).parents[2]
ABI = f"cp{sys.version_info.major}{sys.version_info.minor}"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def make_wheel(
    name: str, version: str, files: Mapping[str, bytes], *, tag: str = "py3-none-any", record: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None, unlisted: Mapping[str, bytes] | None = None,
) -> tuple[str, bytes]:  # fmt: skip
    """File name and bytes of a wheel. ``record``: other content that RECORD speaks of; ``links``: symbolic links in the zip;
    ``unlisted``: files that RECORD does not name."""
    own = name.replace("-", "_")
    info = f"{own}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    said = {**whole, **(record or {})}
    lines = [f"{path},sha256={_digest(said[path])},{len(said[path])}" for path in whole]
    whole[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**whole, **(unlisted or {})}.items():
            entry = zipfile.ZipInfo(path, FIXED_TIME)
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
        for path, target in (links or {}).items():
            entry = zipfile.ZipInfo(path, FIXED_TIME)
            entry.external_attr, entry.create_system = 0o120777 << 16, 3
            archive.writestr(entry, target)
    return f"{own}-{version}-{tag}.whl", out.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def thin_agent(version: str, fault: str = "") -> dict[str, bytes]:
    """The one small wheel of an agent whose code is this checkout's: only in tests does a slot fall through to what lies outside.

    ``fault``: Python that is run in the agent's own process as it starts (not in its self-test).
    """
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    files = {"zz_base.pth": f"{ROOT}\n{packages}\n".encode(), "rookery_hand/__init__.py": b'"""A thin agent."""\n'}
    if fault:
        files["zz_fault.pth"] = b"import rookery_fault\n"
        files["rookery_fault.py"] = f"import sys\nif 'run' in sys.orig_argv:\n    import os\n{_indented(fault)}".encode()
    return dict([make_wheel("rookery", version, files)])


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


def publish_agent(
    fleet: ReleaseFleet, version: str, wheels: Mapping[str, bytes], *, counter: int, abi: str = ABI,
    machines: list[str] | None = None, lock_abi: str | None = None,
) -> AssignedBundle:  # fmt: skip
    """Sign and publish a release of kind ``agent``; answers how an assignment names it."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in wheels.items()}
    files = {LOCK: build_lock(digests, lock_abi or abi)} | {f"wheels/{name}": data for name, data in wheels.items()}
    packed = b"".join(pack(io.BytesIO(files[LOCK]), len(files[LOCK])))  # the lock travels packed, wheels are packed already
    entries = {path: file_entry(data) for path, data in files.items()}
    form = Packed(sha256=hashlib.sha256(packed).hexdigest(), length_bytes=len(packed))
    entries[LOCK] = msgspec.structs.replace(entries[LOCK], packed=form)
    manifest = Manifest(
        kind=AGENT, name="rookery-agent", version=version, channel="stable", counter=counter, created_s=int(time.time()),
        hardware=["*"], variants=[Variant(id=abi, abi=abi, machines=machines or [platform.machine()], files=sorted(files))],
        files=entries,
    )  # fmt: skip
    data = encode_manifest(manifest)
    for content in (packed, *(files[path] for path in files if path != LOCK)):
        fleet.repository.put_content(hashlib.sha256(content).hexdigest(), io.BytesIO(content))
    path = target_path("stable", "rookery-agent", version)
    present = fleet.repository.channel_metadata("stable")
    channel = roles.new_channel(time.time() + 60 * DAY_S) if present is None else Metadata.from_bytes(present)
    channel = roles.add_release(channel, path, data)
    roles.sign(channel, fleet._signers["stable"])
    published = fleet.repository.publish_channel("stable", channel.to_bytes(), [data])
    assert isinstance(published, list), published
    return AssignedBundle(
        path=path, sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data), channel="stable",
        release=f"rookery-agent@{version}",
    )  # fmt: skip
