"""Board profiles: facts about one hardware model, each with its unit and its source.

A profile is a TOML file in ``hardware/profiles/``; its file name is its id, which bundles list as the hardware they fit.
"""

import re
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

ACCELERATORS = ("none", "edgetpu-usb", "edgetpu-pci")


class ProfileError(ValueError):
    """A profile file is wrong; the message lists every fault in it."""


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """What is known of one hardware model before anything was measured on it."""

    id: str
    name: str
    match_model: str
    """Regular expression that the device tree's model must begin with; empty matches only where no device tree is."""
    machine: str
    """Processor architecture of the 64-bit operating system."""
    accelerator: str
    """One of ``ACCELERATORS``: a board with and without one are two profiles."""
    soc: str
    cores: int
    memory_bytes: tuple[int, ...]
    """Sizes that are sold, in bytes."""
    threads: int
    """Interpreter threads that leave room for camera and uplink."""
    throttle_c: float
    """SoC temperature at which the firmware begins to slow the processor, degrees Celsius."""
    power_w: tuple[float, float]
    """Idle and fully loaded, without camera, in watts."""
    variants: tuple[str, ...]
    """Variant kinds that suit the board, best first."""
    overlays: tuple[str, ...]
    """Lines for config.txt."""
    traps: tuple[str, ...]
    """What is known to go wrong."""
    sources: dict[str, str]
    """Field -> where its figure comes from."""
    run_on_hardware: bool
    """True once this project was run on the real board."""


def parse_profile(profile_id: str, text: str) -> BoardProfile:
    """TOML text as a profile; raises ProfileError with all faults."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{profile_id}: not TOML: {error}") from None
    known = {field.name for field in fields(BoardProfile)} - {"id"}
    faults = [f"unknown key {key!r}" for key in sorted(set(raw) - known)]
    faults += [f"missing key {key!r}" for key in sorted(known - set(raw))]
    if raw.get("accelerator", "none") not in ACCELERATORS:
        faults.append(f"accelerator {raw['accelerator']!r} is not one of {', '.join(ACCELERATORS)}")
    try:
        re.compile(str(raw.get("match_model", "")))
    except re.error as error:
        faults.append(f"match_model is not a regular expression: {error}")
    for key in ("soc", "cores", "memory_bytes", "throttle_c", "power_w"):
        if key not in raw.get("sources", {}):
            faults.append(f"sources says nothing of {key!r}")
    if faults:
        raise ProfileError(f"{profile_id}: " + "; ".join(faults))
    tuples = {key: tuple(raw[key]) for key in ("memory_bytes", "power_w", "variants", "overlays", "traps")}
    return BoardProfile(id=profile_id, **{**raw, **tuples})


@cache
def all_profiles() -> dict[str, BoardProfile]:
    """Every profile that is delivered with the package, by id, in alphabetical order."""
    folder = files("hardware") / "profiles"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {entry.name[:-5]: parse_profile(entry.name[:-5], entry.read_text(encoding="utf-8")) for entry in found}


def choose_profile(model: str, machine: str, accelerator: str) -> BoardProfile | None:
    """Profile of a board by its device tree model (empty on a PC), architecture and accelerator.

    The accelerator narrows the choice but never decides it alone: a Pi 4 with an accelerator that no profile names is still a
    Pi 4. None when no profile fits.
    """

    def fits(profile: BoardProfile) -> bool:
        if not profile.match_model:
            return not model and profile.machine == machine
        return bool(model) and re.match(profile.match_model, model) is not None

    candidates = [profile for profile in all_profiles().values() if fits(profile)]
    exact = [profile for profile in candidates if profile.accelerator == accelerator]
    plain = [profile for profile in candidates if profile.accelerator == "none"]
    return next(iter(exact + plain), None)
