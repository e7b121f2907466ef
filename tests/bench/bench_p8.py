"""P8: verifying and installing a 20 MB bundle in a resident agent: CPU beside `sha256sum` of the same bytes, and beside RAUC.

Ours is the whole way of the real update machine from the assignment to the trial: metadata refreshed and verified, the packed
file fetched over HTTP from a server in a process of its own, hashed, unpacked, hashed, synced, switched to; only the self-test's
model runs are left out. The peers' file is there already: `rauc extract` verifies and unpacks, `mender-artifact validate` and
`swupdate -c` only verify.
"""

import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.film import material
from tests.bench.installing import Resident
from tests.bench.result import Result
from tests.bench.updaters import child_cpu_s, installed

SIZE_BYTES = 20 * 1024 * 1024
ROUNDS = 7
BARS = [2.0, 1.0]


def twenty_megabytes() -> bytes:
    """Weights of a real model, five times, each under another mask: as compressible as one, and without a byte in common."""
    base = np.frombuffer(material().model.read_bytes(), np.uint8)
    copies = [base ^ np.uint8(mask) for mask in range(1, 2 + SIZE_BYTES // len(base))]
    return np.concatenate(copies)[:SIZE_BYTES].tobytes()


@contextlib.contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Files over HTTP from a process of its own: its CPU is not ours."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        port = re.search(r"port (\d+)", process.stdout.readline())
        assert port is not None
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        process.terminate()
        process.wait(30)


def run() -> Result:
    """All sides in turn, in rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "model.bin"
        data.write_bytes(twenty_megabytes())
        (folder / "peers").mkdir()
        beside = installed(folder / "peers", data)
        figures: dict[str, list[float]] = {name: [] for name in ("ours", "sha256sum", *beside)}
        resident = Resident(folder / "ours", data.read_bytes())
        with static_server(resident.served) as url:
            resident.install(url)  # the first one loads what a resident agent has loaded
            for _ in range(ROUNDS):
                figures["ours"].append(resident.install(url))
                figures["sha256sum"].append(child_cpu_s(["sha256sum", str(data)], folder))
                for peer, measure in beside.items():
                    figures[peer].append(measure())
    hashed = [mine / theirs for mine, theirs in zip(figures["ours"], figures["sha256sum"], strict=True)]
    middle = {name: statistics.median(values) for name, values in figures.items()}
    ratio, spread, bar = [statistics.median(hashed)], [(min(hashed), max(hashed))], BARS[:1]
    if "rauc_extract" in figures:
        extracted = [mine / theirs for mine, theirs in zip(figures["ours"], figures["rauc_extract"], strict=True)]
        ratio, spread, bar = (
            [*ratio, statistics.median(extracted)], [*spread, (min(extracted), max(extracted))], BARS,
        )  # fmt: skip
    return Result(
        id="P8", ratio=ratio, spread=spread, bar=bar,
        figures={f"{name}_cpu_ms": value * 1e3 for name, value in middle.items()},
        peers={name: middle["ours"] / middle[name] for name in beside} or {"rauc_extract": None},
    )  # fmt: skip

