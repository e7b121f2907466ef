"""The agent's memory as its C library keeps it: one heap for all threads, and what is free in it goes back to the board.

glibc gives each thread a heap of its own (up to eight a core), and each keeps what was ever free in it: frames and their scaled
copies pass through most of them. Python's lock lets one thread work at a time anyway, so one heap costs no waiting.
"""

import ctypes

M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def one_heap() -> None:
    """All threads use one heap; to be called before the first of them starts. Does nothing with a C library that has no such."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Free pages go back to the board: some milliseconds, of which the heap is locked for a part."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
