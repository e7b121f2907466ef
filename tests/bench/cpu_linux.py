"""CPU seconds and memory of a whole family of processes: what a benchmark of agent and child must count."""

import os
import struct
import time
from pathlib import Path
from typing import BinaryIO

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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


def alone_bytes(pids: list[int]) -> int:
    """The PSS that these processes have together where nothing else runs, as on a board.

    The kernel's own PSS divides a library's pages by all who map them, strangers too: on a machine where a test or the benchmark
    itself has OpenCV loaded the very same agent and the very same bare process are smaller by shares that differ. Here memory of
    their own counts as the kernel counts it (strangers have no part in it), and each page of a file once, whoever else maps it.

    Checked against the kernel without strangers: a bare process and its forked child on copies of numpy and OpenCV that
    nobody else maps. Their memory and these files by the kernel's PSS and by this count differ by 0.1 % (3 % would do).
    """
    own_kb, pages = 0, set()
    for pid in pids:
        process = Path(f"/proc/{pid}")
        for line in (process / "smaps_rollup").read_text().splitlines():
            name, value = line.split()[:2]
            own_kb += int(value) if name in ("Pss_Anon:", "Pss_Shmem:") else 0
        with (process / "pagemap").open("rb") as pagemap:
            for line in (process / "maps").read_text().splitlines():
                words = line.split(None, 5)
                if len(words) == 6 and words[5].startswith("/") and not words[5].startswith("/memfd:"):
                    pages |= _file_pages(pagemap, words)
    return own_kb * 1024 + len(pages) * PAGE_BYTES


def _file_pages(pagemap: BinaryIO, words: list[str]) -> set[tuple[str, str, int]]:
    """Which pages of a file are present in one mapping: device, inode, number in the file (admin-guide/mm/pagemap)."""
    first, end = (int(address, 16) // PAGE_BYTES for address in words[0].split("-"))
    offset = int(words[2], 16) // PAGE_BYTES
    pagemap.seek(first * 8)
    data = pagemap.read((end - first) * 8)
    entries = struct.unpack(f"<{len(data) // 8}Q", data)
    # Bit 63: present; bit 61: of the file itself, not a private copy of it.
    return {(words[3], words[4], offset + place) for place, entry in enumerate(entries) if entry >> 63 and entry >> 61 & 1}
