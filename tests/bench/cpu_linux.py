"""CPU seconds and memory of a whole family of processes: what a benchmark of agent and child must count."""

import os
import time
from pathlib import Path


def family(root: int | None = None) -> list[int]:
    """This process (or another) and all that descend from it, now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(words[1]), []).append(int(entry.name))
    found, queue = [], [root or os.getpid()]
    while queue:
        found.append(queue.pop())
        queue += parents.get(found[-1], [])
    return found


def cpu_s(pids: list[int]) -> float:
    """CPU seconds of living processes, all their threads: the kernel's clock of each process (clock_getcpuclockid, to the ns)."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size: pages that several processes share are divided among them."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total
