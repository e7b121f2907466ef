"""RAUC, mender-artifact and SWUpdate over the same bytes, where they are installed: each packs them with its own tool, once."""

import hashlib
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Measure = Callable[[], float]
"""CPU seconds of one run."""


def child_cpu_s(command: list[str], cwd: Path) -> float:
    """CPU seconds of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def installed(folder: Path, data: Path) -> dict[str, Measure]:
    """A measure for each that is here; ``folder`` is empty and holds their keys and files."""
    request = ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-subj", "/CN=bench", "-days", "30"]
    _made([*request, "-keyout", "key.pem", "-out", "cert.pem"], folder)
    makers = {
        "rauc_extract": ("rauc", _rauc),
        "mender_validate": ("mender-artifact", _mender),
        "swupdate_check": ("swupdate", _swupdate),
    }
    return {name: make(folder, data) for name, (program, make) in makers.items() if shutil.which(program)}


def _rauc(folder: Path, data: Path) -> Measure:
    (folder / "in").mkdir()
    shutil.copy(data, folder / "in" / "model.img")
    text = "[update]\ncompatible=bench\nversion=1\n[bundle]\nformat=verity\n[image.rootfs]\nfilename=model.img\n"
    (folder / "in" / "manifest.raucm").write_text(text)
    _made(["rauc", "bundle", "--cert=cert.pem", "--key=key.pem", "in", "bundle.raucb"], folder)

    def extract() -> float:
        shutil.rmtree(folder / "out", ignore_errors=True)
        return child_cpu_s(["rauc", "--keyring=cert.pem", "extract", "bundle.raucb", "out"], folder)

    return extract


def _mender(folder: Path, data: Path) -> Measure:
    _made(["openssl", "rsa", "-traditional", "-in", "key.pem", "-out", "mender.pem"], folder)
    _made(["openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"], folder)
    write = ["mender-artifact", "write", "module-image", "-t", "bench", "-T", "model", "-n", "one", "-k", "mender.pem"]
    _made([*write, "-o", "one.mender", "-f", str(data)], folder)
    return lambda: child_cpu_s(["mender-artifact", "validate", "-k", "public.pem", "one.mender"], folder)


def _swupdate(folder: Path, data: Path) -> Measure:
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    entry = f'{{ filename = "model.bin"; path = "{folder / "unused"}"; sha256 = "{digest}"; }}'
    described = folder / "sw-description"
    described.write_text(f'software = {{ version = "1"; hardware-compatibility: [ "1.0" ]; files: ( {entry} ); }}\n')
    sign = ["openssl", "cms", "-sign", "-in", "sw-description", "-out", "sw-description.sig", "-signer", "cert.pem"]
    _made([*sign, "-inkey", "key.pem", "-outform", "DER", "-nosmimecap", "-binary"], folder)
    parts = {"sw-description": described, "sw-description.sig": folder / "sw-description.sig", "model.bin": data}
    with (folder / "one.swu").open("wb") as archive:
        for number, (name, path) in enumerate({**parts, "TRAILER!!!": None}.items()):
            archive.write(_cpio(number, name, b"" if path is None else path.read_bytes()))
    return lambda: child_cpu_s(["swupdate", "-c", "-k", "cert.pem", "-H", "bench:1.0", "-i", "one.swu"], folder)


def _cpio(number: int, name: str, data: bytes) -> bytes:
    """One entry of a cpio archive with checksums ("070702"): thirteen numbers of eight hexadecimal digits, all padded to four."""
    fields = [number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF]
    head = b"070702" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def _made(command: list[str], cwd: Path) -> None:
    outcome = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if outcome.returncode:
        raise RuntimeError(f"{command[0]}: {outcome.stderr[-500:]}")
