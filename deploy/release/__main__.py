"""``./run release [FOLDER]``: wheel, bill of materials and their checksums, the same bytes from the same tree each time."""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from sbom import bill

ROOT = Path(__file__).resolve().parents[2]
VENDORED = ROOT / "fleet_server" / "dashboard" / "static" / "vendor" / "VENDOR.json"
LOCK = ROOT / "requirements" / "test.txt"
"""Holds every extra that is delivered; the bill leaves out what only tests ask for."""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="./run release", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="where to (dist)")
    parser.add_argument("--sbom-only", action="store_true", help="the bill of materials of a wheel that is there")
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    at_s = released_s()
    if not given.sbom_only:
        # hatchling takes each file's time from SOURCE_DATE_EPOCH; its own version is in the lock.
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=False,
            capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(at_s)},
        )  # fmt: skip
        if done.returncode != 0:
            print(f"the wheel could not be built:\n{done.stderr[-2000:]}", file=sys.stderr)
            return 1
    wheels = sorted(folder.glob("rookery-*.whl"))
    if len(wheels) != 1:
        print(f"{folder} holds {len(wheels)} wheels, not one: give an empty folder", file=sys.stderr)
        return 2
    wheel = wheels[0]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    text = bill(
        (ROOT / "pyproject.toml").read_text(), LOCK.read_text(), VENDORED.read_text(), wheel_sha256=digest, at_s=at_s
    )  # fmt: skip
    bom = folder / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
    bom.write_bytes(text)
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (wheel, bom))
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    return 0


def released_s() -> int:
    """The release's time: SOURCE_DATE_EPOCH, else that of the last commit, else the wheel format's first day."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdigit():
        return int(given)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=False, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 315_532_800


if __name__ == "__main__":
    sys.exit(main())
