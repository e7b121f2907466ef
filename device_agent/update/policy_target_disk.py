"""The policy that a board follows: looked for in the signed metadata, taken when it is newer, kept across power cuts.

    data/policy/followed.json     {"v": 1, "path", "counter", "sha256", "text"}, replaced whole

Its signature is offline people's (the role ``policy``), so it may widen what this board allows: no server can make one.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec

from device_agent.update.policy import MAX_TEXT_CHARS, Policy, PolicyError, merged_policy
from ota.durable_disk import write_whole
from ota.trust.refusal import Refusal

FILE = "followed.json"
MAX_BYTES = 4 * MAX_TEXT_CHARS + 10_000
log = logging.getLogger("rookery.update")


class PolicyTarget(Protocol):
    """A signed target with what its signer wrote beside it; ``ota.trust.client_http.TargetInfo`` fits."""

    @property
    def sha256(self) -> str:
        """Lower-case hexadecimal."""
        ...

    @property
    def length_bytes(self) -> int:
        """Length of the target."""
        ...

    @property
    def custom(self) -> Mapping[str, Any]:
        """``counter`` among it."""
        ...


class PolicyTrust(Protocol):
    """Verified metadata; ``ota.trust.client_http.TrustClient`` fits."""

    def refresh(self) -> Refusal | None:
        """Fetch and verify all metadata anew."""
        ...

    def find(self, path: str) -> PolicyTarget | Refusal:
        """The signed entry of a target."""
        ...

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None) -> bytes | Refusal:
        """The bytes of a target, verified."""
        ...


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A policy target that was taken."""

    v: int = 1
    path: str
    counter: Annotated[int, msgspec.Meta(ge=1)]
    sha256: str
    text: str


def read_taken(folder: Path, path: str) -> Taken | None:
    """What was taken for the target ``path``; None where nothing was, or where it cannot be read (said in the log)."""
    file = folder / FILE
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        taken = msgspec.json.decode(file.read_bytes(), type=Taken)
        if taken.v != 1 or hashlib.sha256(taken.text.encode()).hexdigest() != taken.sha256:
            raise ValueError("it has changed since it was taken")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.DecodeError, RecursionError) as error:
        log.error("the followed policy %s cannot be read (%s): policy.toml alone holds until it is fetched again", file, error)
        return None
    return taken if taken.path == path else None


def with_followed(own: Policy, text: str, data: Path) -> Policy:
    """The board's own policy with what it follows; its own alone where nothing usable was taken."""
    taken = read_taken(data / "policy", own.follow) if own.follow else None
    if taken is None:
        return own
    try:
        return dataclasses.replace(merged_policy(text, taken.text), note=_note(taken))
    except PolicyError as error:
        log.error("%s, counter %d, cannot be used beside this board's policy.toml: %s", taken.path, taken.counter, error)
        return own


def _note(taken: Taken) -> str:
    return f"policy.toml, following {taken.path} (counter {taken.counter})"


class PolicyFollower:
    """Looks for a newer policy. ``own`` is the text of policy.toml, ``faults`` what this board's settings make of a policy."""

    def __init__(
        self, folder: Path, path: str, own: str, trust: PolicyTrust, faults: Callable[[Policy], list[str]]
    ) -> None:
        self._folder, self._path, self._own, self._trust, self._faults = folder, path, own, trust, faults
        self.refused: Refusal | None = None
        """Why the newest one was not taken; None where it was, or where there is none newer."""

    def look(self) -> bool:
        """Fetch metadata and take a newer policy; True when one was taken. What is wrong is in ``refused``. Raises OSError."""
        self.refused = self._trust.refresh()
        found = self.refused or self._trust.find(self._path)
        if isinstance(found, Refusal):
            self.refused = found
            return False
        taken = self._newer(found)
        if taken is None or isinstance(taken, Refusal):
            self.refused = taken
            return False
        write_whole(self._folder / FILE, msgspec.json.encode(taken), 0o600)
        log.warning("policy %s, counter %d, was taken", taken.path, taken.counter)
        return True

    def _newer(self, found: PolicyTarget) -> Taken | Refusal | None:
        counter = found.custom.get("counter")
        if not isinstance(counter, int) or isinstance(counter, bool) or counter < 1:
            return Refusal("policy", f"{self._path} is signed without a counter")
        present = read_taken(self._folder, self._path)
        if present is not None and counter == present.counter and found.sha256 == present.sha256:
            return None
        if present is not None and counter <= present.counter:
            return Refusal("policy", f"{self._path} has counter {counter}, this board has taken {present.counter}")
        data = self._trust.manifest(self._path, found.sha256, found.length_bytes)
        if isinstance(data, Refusal):
            return data
        try:
            text = data.decode("utf-8")
            faults = self._faults(merged_policy(self._own, text))
        except UnicodeDecodeError:
            return Refusal("policy", f"{self._path} is not text")
        except PolicyError as error:
            return Refusal("policy", f"{self._path}, counter {counter}: {'; '.join(error.faults)}")
        if faults:
            return Refusal("policy", f"{self._path}, counter {counter}, does not fit this board: {'; '.join(faults)}")
        return Taken(path=self._path, counter=counter, sha256=found.sha256, text=text)
