"""The agents of a board, looked at by ``repair``: each slot by its list of files, and the pointer back where one is damaged.

A slot cannot be mended (wheels are not kept), so what is damaged is left: the agent before runs where it is whole, else the
factory agent (null). What is done is written down as the launcher would, so that the agent that runs next reports it.
"""

import json
import time
from pathlib import Path

from device_agent import launcher_disk
from device_agent.launcher_disk import POINTER, Pointer
from device_agent.owner_linux import as_owner
from device_agent.repair import Found
from device_agent.update.agent_place_disk import AgentPlace
from device_agent.update.state_disk import AGENT_STATE_FILE, peek


def mend_agents(data: Path, *, dry_run: bool) -> list[Found]:
    """Every slot that the pointer names, then the pointer; raises OSError."""
    torn = _is_torn(data / POINTER)
    before = Pointer(current=_last_committed(data)) if torn else launcher_disk.read_pointer(data)
    if before.python is not None:
        return [Found("agents", "ok", f"{before.python} is started, as the first agents' pointer says")]
    named = [slot for slot in (before.current, before.previous, before.trial.slot if before.trial else None) if slot]
    with as_owner(data):  # as the agent's launcher does: whose list of files is believed depends on who asks
        faults = {slot: launcher_disk.slot_fault(launcher_disk.agents_folder(data) / slot) for slot in dict.fromkeys(named)}
    after = _whole(before, faults)
    found = [Found("agents", "ok", f"{_name(data, slot)} is whole") for slot, fault in faults.items() if not fault]
    if after == before and not torn:
        return found or [Found("agents", "ok", "the factory agent runs, no other is installed")]
    if not dry_run:
        _write_down(data, before, after, faults)
        launcher_disk.write_pointer(data, after)
    damaged = [f"{_name(data, slot)}: {fault}" for slot, fault in faults.items() if fault]
    told = "; ".join([*([f"{POINTER} could not be read"] if torn else []), *damaged])
    runs = after.trial.slot if after.trial is not None else after.current
    runs_words = "the factory agent" if runs is None else _name(data, runs)
    return [*found, Found("agents", "to_mend" if dry_run else "mended", f"{told}: {runs_words} runs from the next start")]


def _whole(before: Pointer, faults: dict[str, str]) -> Pointer:
    """The same pointer without what is damaged."""

    def kept(slot: str | None) -> str | None:
        return slot if slot is not None and not faults[slot] else None

    trial = before.trial if before.trial is not None and not faults[before.trial.slot] else None
    current, previous = kept(before.current), kept(before.previous)
    if before.current is not None and current is None:
        current, previous = previous, None
    return Pointer(current=current, previous=previous, trial=trial)


def _write_down(data: Path, before: Pointer, after: Pointer, faults: dict[str, str]) -> None:
    """Before the pointer moves, so that no power cut loses the reason."""
    left = [] if before.trial is None or after.trial is not None else [(before.trial.slot, before.trial.token)]
    if before.current is not None and faults[before.current]:
        left.append((before.current, ""))
    for slot, token in left:
        done = {"slot": slot, "token": token, "reason": "hash", "detail": faults[slot], "at_s": time.time(), "to": after.current}
        launcher_disk.write_done(data, done)


def _is_torn(file: Path) -> bool:
    """Whether there is a pointer that nobody can read; raises OSError where the disk says no."""
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(launcher_disk.MAX_BYTES))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        return True
    return not isinstance(found, dict)


def _last_committed(data: Path) -> str | None:
    """The agent that was committed last, by its update state; None where that does not say."""
    state = peek(data / "state" / AGENT_STATE_FILE)
    deployment = None if isinstance(state, str) else state.deployment
    return deployment.bundle.sha256 if deployment is not None and deployment.state == "committed" else None


def _name(data: Path, slot: str) -> str:
    manifest = AgentPlace(data).manifest(slot)
    return f"agent {slot[:12]}" if manifest is None else manifest.release
