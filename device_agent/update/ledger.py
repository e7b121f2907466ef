"""The update state in the hand: one owner of what was saved, one way to change it. Pure but for the memory it is given."""

import threading

import msgspec

from device_agent.update.deployment import UpdateState
from device_agent.update.ports import Memory


class Ledger:
    """What one updater remembers. ``lock`` guards it: hold it over a look and the change that follows from it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.lock = threading.RLock()
        self._state = memory.load()
        self.failing = ""
        """Why the last change could not be written down; empty while it can."""

    @property
    def state(self) -> UpdateState:
        """As it is now; at times a little newer than what lies on the disk."""
        return self._state

    @property
    def note(self) -> str:
        """What was found wrong when it was read, empty when nothing was."""
        return self._memory.note

    def keep(self, **changes: object) -> None:
        """Change it and write it down: durable when it returns; raises OSError, and nothing has changed then."""
        with self.lock:
            fresh = msgspec.structs.replace(self._state, **changes)
            try:
                self._memory.save(fresh)
            except OSError as error:
                self.failing = f"The state of updates cannot be written ({error.strerror or error}): nothing new is begun."
                raise
            self.failing = ""
            self._state = fresh

    def hold(self, **changes: object) -> None:
        """Change it in the hand only: what a power cut may take (the age of a state, a deployment that has not begun)."""
        with self.lock:
            self._state = msgspec.structs.replace(self._state, **changes)
