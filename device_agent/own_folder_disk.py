"""The agent's settings, its own folder and the board's own policy: read, made, locked, with words for what is wrong."""

import fcntl
from contextlib import ExitStack
from pathlib import Path

from device_agent.errors import BoardError, OwnerError, SettingsError
from device_agent.settings import Settings, parse
from device_agent.update.policy import Policy, PolicyError, load_policy, missing_policy
from device_agent.update.policy_target_disk import with_followed

FOLDERS = ("identity", "state", "slots", "downloads", "spool", "logs", "tuf", "history", "policy")


def open_folder(data: Path, stack: ExitStack) -> None:
    """Make the data folder and lock it until ``stack`` ends: two agents in one would use the same numbers twice.

    Raises BoardError where it cannot be made, OwnerError where another agent runs in it.
    """
    try:
        for name in FOLDERS:
            (data / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        file = stack.enter_context((data / "agent.lock").open("w"))
    except OSError as error:
        raise BoardError(f"agent.data_dir {data} cannot be used: {error.strerror}", "check the path and its owner") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        hint = "stop it first, or give this one its own agent.data_dir"
        raise OwnerError(f"another agent is running in {data}", hint) from None


def read_policy(path: Path | None, data: Path | None = None) -> Policy:
    """The board's own policy, with what it follows (as it was taken into ``data``); raises SettingsError with all its faults."""
    if path is None:
        return missing_policy()
    try:
        text = path.read_text(encoding="utf-8")
        own = load_policy(text)
        return own if data is None else with_followed(own, text, data)
    except OSError as error:
        raise SettingsError(str(path), [f"policy cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError(str(path), [f"policy is not text: {error}"]) from None
    except PolicyError as error:
        raise SettingsError(str(path), list(error.faults)) from None


def read_root(path: Path) -> bytes:
    """The TUF root that this board trusts first; raises SettingsError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError("agent.toml", [f"factory.root: {path} cannot be read: {error.strerror}"]) from None


def read_settings(path: Path) -> Settings:
    """The settings of a file; raises SettingsError with all its faults."""
    try:
        return parse(path.read_text(encoding="utf-8"), path.absolute())
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError(str(path), [f"is not text: {error}"]) from None
