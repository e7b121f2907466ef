"""The board's files: room and health of the disk, the identity's and the policy's modes, what the board starts with."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from device_agent.doctor import Finding, bad, note, well
from device_agent.errors import AgentError, OwnerError
from device_agent.link.identity_x509 import IdentityStore, waiting_fingerprint
from device_agent.own_folder_disk import read_policy
from device_agent.settings import Settings
from device_agent.vision.zones import unknown_classes
from ota.bundle.errors import BundleError
from ota.bundle.reader_disk import open_bundle

LEAST_INODES = 2000
WORN_LIFE = 0x0A
"""eMMC life_time in tenths: 0x0a is 90 to 100 % used, 0x0b is beyond (JEDEC eMMC 5.0, EXT_CSD 268 and 269)."""
WORN_RESERVE = 0x02
"""eMMC pre_eol_info: 2 is a warning (80 % of the reserve used), 3 is urgent (EXT_CSD 267)."""
OTHERS_MAY_READ, OTHERS_MAY_WRITE = 0o077, 0o022


def look_at_disk(settings: Settings, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> list[Finding]:
    """Room, inodes, whether it may be written, and what the disk says of its own wear."""
    root, data = settings.agent.board_root, settings.agent.data_dir
    place = _nearest(data)
    found = statvfs(place)
    free, wanted = found.f_bavail * found.f_frsize, settings.spool.min_free_bytes
    findings = []
    if free <= wanted:
        advice = "free some space, or lower spool.min_free_bytes and spool.max_bytes in agent.toml"
        detail = f"{free // 2**20} MiB free for {data}, {wanted // 2**20} MiB are to stay free"
        findings.append(bad("disk", "full", detail, advice))
    if found.f_files and found.f_favail < LEAST_INODES:
        advice = "remove folders with many small files: there is room for bytes but not for names"
        findings.append(bad("disk", "inodes", f"room for {found.f_favail} more files", advice))
    findings += _writable(root, data, place)
    findings += _worn(root)
    return findings or [well("disk", f"{free // 2**20} MiB free for {data}")]


def _nearest(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _writable(root: Path, data: Path, place: Path) -> list[Finding]:
    mount = _mount_of(root, place)
    if mount is not None and "ro" in mount[1].split(","):
        advice = "look into the kernel's log: a disk that fails is made read-only; copy what matters and replace the card"
        return [bad("disk", "read_only", f"{mount[0]} is mounted read-only", advice)]
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as probe:
            probe.write(b"x")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        advice = f"let {place} belong to the agent's user (chown), or name another agent.data_dir"
        return [bad("disk", "not_writable", f"{place} cannot be written: {error.strerror}", advice)]
    if place != data and data.exists():
        advice = "remove it, or name another agent.data_dir"
        return [bad("disk", "not_a_folder", f"{data} is not a folder", advice)]
    return []


def _mount_of(root: Path, place: Path) -> tuple[str, str] | None:
    """Mount point and options of the file system that a folder lies on."""
    best: tuple[str, str] | None = None
    with contextlib.suppress(OSError):
        for line in (root / "proc/mounts").read_text(errors="replace").splitlines():
            words = line.split(" ")
            if len(words) < 4:
                continue
            point = words[1].encode().decode("unicode_escape")
            if Path(point) in (place, *place.parents) and (best is None or len(point) >= len(best[0])):
                best = (point, words[3])
    return best


def _worn(root: Path) -> list[Finding]:
    findings = []
    for disk in sorted((root / "sys/block").glob("mmcblk*")):
        life = [_hex(word) for word in _text(disk / "device/life_time").split()]
        reserve = _hex(_text(disk / "device/pre_eol_info"))
        if any(value >= WORN_LIFE for value in life) or reserve >= WORN_RESERVE:
            detail = f"{disk.name} says it is worn out (life_time {life}, pre_eol_info {reserve})"
            findings.append(bad("disk", "worn", detail, "replace the board's flash or move to another disk before it fails"))
    for system in sorted((root / "sys/fs/ext4").glob("*")):
        errors = _text(system / "errors_count")
        if errors.isdigit() and int(errors):
            advice = f"check it (fsck) from another system; if errors come back, replace the disk behind {system.name}"
            findings.append(bad("disk", "file_system", f"the file system on {system.name} has {errors} errors", advice))
    return findings


def look_at_identity(settings: Settings, now_s: float) -> list[Finding]:
    """Enrolled or with a claim; key readable by its owner alone; certificate good."""
    folder, claim = settings.agent.data_dir / "identity", settings.server.claim_file
    if not (folder / "current").exists():
        if claim is None:
            return [_waiting(folder)]
        if not claim.exists():
            return [bad("identity", "no_claim", "not enrolled yet, and there is no claim", "put a claim on the board")]
        found = [well("identity", "not enrolled yet, a claim is here")]
        return found + _open_to_others([claim])
    findings = _open_to_others(sorted(folder.glob("*/key.pem")))
    try:
        identity = IdentityStore(folder).load()
    except AgentError as error:
        return [*findings, bad("identity", "broken", error.message, error.hint)]
    except OSError as error:
        advice = f"let {folder} belong to the agent's user (chown)"
        return [*findings, bad("identity", "not_readable", f"{folder} cannot be read: {error.strerror}", advice)]
    if identity is None:
        return [*findings, bad("identity", "no_claim", "not enrolled yet", "put a claim on the board")]
    days = (identity.not_after_s - now_s) / 86400
    if days <= 0:
        advice = "start the agent: it renews by itself for 400 days; after that, enrol again with a new claim"
        findings.append(bad("identity", "expired", f"{identity.device}: the certificate ended {-days:.0f} days ago", advice))
    return findings or [well("identity", f"{identity.device}, certificate good for {days:.0f} days")]


def _waiting(folder: Path) -> Finding:
    """A board without a claim: what it waits for, and what a person compares before letting it in."""
    try:
        said = waiting_fingerprint(folder)
    except (AgentError, OSError):
        said = ""
    advice = "start the agent: it asks to be let in, and says its key's fingerprint in its log"
    if said:
        advice = f"accept it (page Enrolment, or rookery enrolment list) where the fingerprint is {said}; or give it a claim"
    return note("identity", "waits", "not enrolled yet, and no claim is named: it waits until an operator accepts it", advice)


def _open_to_others(secrets: list[Path]) -> list[Finding]:
    findings = []
    for file in secrets:
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & OTHERS_MAY_READ:
                name, advice = file.name, f"chmod 600 {file}"
                if name == "key.pem":
                    findings.append(bad("identity", "mode", f"{file} may be read by others (mode {mode:o})", advice))
                else:
                    findings.append(note("identity", "mode", f"{file} may be read by others (mode {mode:o})", advice))
    return findings


def look_at_policy(settings: Settings) -> Finding:
    """Whether the board's own word on what is allowed is there, valid, and not for everybody to change."""
    path = settings.policy
    if path is None:
        advice = 'write one and name it in agent.toml (policy = "policy.toml"), as the guide to provisioning shows'
        return note("policy", "missing", "no policy.toml: the built-in, strictest one holds", advice)
    try:
        policy = read_policy(path, settings.agent.data_dir)
    except OwnerError as error:
        return bad("policy", "invalid", error.message, "correct the file; the agent does not start with it")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS_MAY_WRITE:
        advice = f"chown root {path} and chmod 644 {path}: whoever writes it says how far a server may look"
        return bad("policy", "mode", f"{path} may be written by others (mode {mode:o})", advice)
    return well("policy", f"channels {', '.join(policy.channels)}; may leave: {', '.join(policy.upload_classes) or 'no picture'}")


def look_at_factory(settings: Settings) -> Finding:
    """Whether what the board falls back to is there."""
    for name, path in (("bundle", settings.factory.bundle), ("root", settings.factory.root)):
        if not path.is_file():
            advice = "copy it there from the provisioning kit, or correct agent.toml"
            return bad("factory", "missing", f"factory.{name}: there is no file {path}", advice)
    try:
        labels = open_bundle(settings.factory.bundle).manifest.labels
    except (BundleError, OSError) as error:
        return bad("factory", "broken", f"factory.bundle: {error}", "copy it there again from the provisioning kit")
    rules = [rule for board in settings.rules.values() for rule in board.all]
    silent = unknown_classes(rules, labels)
    if silent:
        told = f"{settings.factory.bundle.name} knows no class {', '.join(silent)}: those rules stay silent until a release does"
        return bad("factory", "unknown_class", told, f"correct the classes in agent.toml; it knows {', '.join(labels[:20])}")
    return well("factory", f"{settings.factory.bundle.name} is here")


def agent_runs(settings: Settings) -> bool:
    """Whether an agent holds this data folder: it has the cameras then."""
    try:
        with (settings.agent.data_dir / "agent.lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""
