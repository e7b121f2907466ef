"""What a virtual board is and does, drawn from a seed: the same seed is the same fleet. Pure."""

import random
from dataclasses import dataclass

from device_agent.update.health import HealthWindow, Seen
from ota.wire.enrolment import Accelerator, BoardFacts
from ota.wire.heartbeat import HostHealth

LABELS = ("person", "cart", "animal")
BOARDS = (
    ("rpi-5", "Raspberry Pi 5 Model B Rev 1.0", 8 * 2**30, ""),
    ("rpi-4", "Raspberry Pi 4 Model B Rev 1.4", 4 * 2**30, ""),
    ("rpi-4-coral-usb", "Raspberry Pi 4 Model B Rev 1.4", 4 * 2**30, "edgetpu-usb"),
    ("rpi-zero-2w", "Raspberry Pi Zero 2 W Rev 1.0", 426 * 2**20, ""),
)
"""Profile, model name, memory as the kernel sees it (bytes), accelerator."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One virtual board. Rates are per second; shares 0 to 1.

    ``absent_share``: of its turns it has no network. ``fails`` is what goes wrong with a new release: nothing (empty),
    ``selftest`` (parity), ``blind`` (detects nothing in the trial) or ``crashes``.
    """

    number: int
    facts: BoardFacts
    event_rate: float
    detection_share: float
    absent_share: float
    temp_c: float
    fails: str = ""


def draw(number: int, seed: int, agent_version: str, *, failing_share: float = 0.0) -> Behaviour:
    """The behaviour of board ``number`` of the fleet ``seed``."""
    chance = random.Random(f"{seed}/{number}")
    profile, model, memory_bytes, accelerator = chance.choice(BOARDS)
    facts = BoardFacts(
        profile=profile,
        board_model=model,
        serial=f"51a{seed % 4096:03x}{number:010x}",
        machine="aarch64",
        cores=4,
        memory_bytes=memory_bytes,
        accelerators=[Accelerator(kind=accelerator, present=True, usable=True)] if accelerator else [],
        runtimes={"litert": "2.1.0"},
        python="3.11.2",
        agent_version=agent_version,
        os="simulated",
    )
    return Behaviour(
        number=number,
        facts=facts,
        event_rate=chance.uniform(0.005, 0.05),
        detection_share=chance.uniform(0.3, 0.7),
        absent_share=chance.choice((0.0, 0.0, 0.0, 0.2)),
        temp_c=chance.uniform(40, 70),
        fails=chance.choice(("selftest", "blind", "crashes")) if chance.random() < failing_share else "",
    )


def window(behaviour: Behaviour, duration_s: float, chance: random.Random, *, on_trial: bool) -> HealthWindow:
    """What its camera saw in a turn: about six motion frames a second, fewer detections where the new release is blind."""
    gated = max(1, int(6 * duration_s * chance.uniform(0.8, 1.2)))
    share = 0.02 if on_trial and behaviour.fails == "blind" else behaviour.detection_share
    found = sum(chance.random() < share for _ in range(min(gated, 400)))
    return HealthWindow(
        duration_s=duration_s,
        light={"bright": Seen(min(gated, 400), found)},
        fps=15.0,
        camera_fps=15.0,
        latency_ms=20.0,
        crashes=5 if on_trial and behaviour.fails == "crashes" else 0,
    )


def host(behaviour: Behaviour, chance: random.Random) -> HostHealth:
    """Temperature wanders a little; the rest is a healthy board."""
    return HostHealth(
        cpu_temp_c=round(behaviour.temp_c + chance.uniform(-2, 2), 1),
        load_1m=round(chance.uniform(0.3, 1.5), 2),
        memory_available_bytes=behaviour.facts.memory_bytes // 2,
        disk_free_bytes=8 * 2**30,
        throttled=0,
    )
