"""The board's facts for the wire: hardware as found below a root, runtimes as proved by building an interpreter in a child."""

import platform
import sys
from importlib import metadata
from pathlib import Path

from hardware.detect_linux import Board, detect
from models.inference.runtime_probe_linux import probe_runtimes as build_probes
from ota.wire.enrolment import Accelerator, BoardFacts

WIRE_NAMES = {"ai-edge-litert": "litert", "tflite-runtime": "tflite-runtime"}
"""Package -> the wire's word for it."""


def read_facts(root: Path) -> BoardFacts:
    """What the board is. Takes about a second: a runtime is imported in a child, because a broken one may kill its process."""
    return facts_of(detect(root), probe_runtimes()[0])


def facts_of(board: Board, runtimes: dict[str, str]) -> BoardFacts:
    """Hardware's words as the wire's."""
    return BoardFacts(
        profile=board.profile,
        board_model=board.board_model,
        serial=board.serial,
        machine=board.machine,
        word_bits=board.word_bits,
        cores=board.cores,
        memory_bytes=board.memory_bytes,
        accelerators=[
            Accelerator(kind=found.kind, present=found.present, usable=found.usable, reason=found.reason)
            for found in board.accelerators
        ],
        runtimes=runtimes,
        python=platform.python_version(),
        agent_version=agent_version(),
        os=board.os or "unknown",
        abi=f"cp{sys.version_info.major}{sys.version_info.minor}",
        libc=" ".join(platform.libc_ver())[:60].strip(),
    )


def probe_runtimes() -> tuple[dict[str, str], str]:
    """The first runtime that built an interpreter in a child (wire name -> version); or none, and why for each."""
    probes = build_probes()
    working = probes[-1].package
    if probes[-1].fault:
        return {}, "; ".join(f"{probe.package}: {probe.fault}" for probe in probes)
    try:
        version = metadata.version(working)
    except metadata.PackageNotFoundError:
        version = "unknown"  # a runtime that was put there by hand, without its package's record
    return {WIRE_NAMES.get(working, working): version}, ""


def package_of(wire_name: str) -> str:
    """The package behind the wire's word for a runtime."""
    return next((package for package, name in WIRE_NAMES.items() if name == wire_name), wire_name)


def agent_version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version("rookery")
    except metadata.PackageNotFoundError:
        return "0+source"
