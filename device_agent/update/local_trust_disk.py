"""What carried bundles have taught this board: the newest root and the newest versions, kept where no server is ever heard.

``state/local-trust.json`` holds the chain of roots and role -> version of the metadata that authorised local installs. Together
with the trust client's own folder it says what a stick must not fall below: a key that was revoked stays revoked, whichever way
the board heard of it. No file means nothing known; a file that cannot be read refuses, for forgetting is what a thief wants.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

import msgspec

from ota.bundle.offline import ChainError, load_role, trust_root
from ota.bundle.tuf_types import Root
from ota.durable_disk import write_whole
from ota.plain_disk import read_plain
from ota.trust.refusal import Refusal

FILE = "local-trust.json"
VERSION = 1
ONLINE_ONLY = ("snapshot", "timestamp")
"""Roles that a bundle never brings: what lies on the disk of them says nothing about a stick."""
MEND = "run `rookery-agent repair`; where the fleet was given a new root, its owner removes it by hand"


class LocalTrustError(Exception):
    """What this board knows cannot be read; carries the refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _Versioned(msgspec.Struct):
    version: int


class _Metadata(msgspec.Struct):
    signed: _Versioned


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file. Its form is read by the agent before and after this one."""

    v: int = VERSION
    versions: dict[str, int] = {}
    roots: dict[int, str] = {}


class LocalTrust:
    """``file``: see above; ``factory``: the root that the board came with; ``online``: the trust client's folder."""

    def __init__(self, file: Path, factory: Callable[[], bytes], online: Path) -> None:
        self._file, self._factory, self._online = file, factory, online

    def root(self) -> bytes:
        """The newest root that the factory's leads to, over all that server and sticks have shown. Raises LocalTrustError."""
        factory, chain = self._factory(), self._chain()
        try:
            newest = trust_root(factory, chain).signed.version
            return chain[newest] if newest != load_role(Root, factory, "root").signed.version else factory
        except ChainError as error:
            told = f"what this board knows of roots: {error.refusal.detail}; {MEND}"
            raise LocalTrustError(Refusal(error.refusal.code, told)) from None

    def versions(self) -> dict[str, int]:
        """Role -> the newest version that this board has seen. Raises LocalTrustError."""
        found = known_versions(self._online)
        for role, version in self._kept().versions.items():
            found[role] = max(version, found.get(role, 0))
        return found

    def learn(self, versions: Mapping[str, int], roots: Mapping[int, bytes]) -> Refusal | None:
        """Keep what a proved bundle showed: durable when None comes back. ``roots`` that lead nowhere are not kept."""
        try:
            factory, chain, kept = self._factory(), self._chain(), self._kept()
            newest = trust_root(factory, {**roots, **chain}).signed.version
            first = load_role(Root, factory, "root").signed.version
            known = self.versions()
            fresh = _Kept(
                versions={role: max(version, known.get(role, 0)) for role, version in {**kept.versions, **versions}.items()},
                roots={one: data.decode() for one, data in sorted({**roots, **chain}.items()) if first < one <= newest},
            )
            if fresh != kept:
                write_whole(self._file, msgspec.json.encode(fresh))  # nothing secret, and root may write what the agent reads
        except LocalTrustError as error:
            return error.refusal
        except ChainError as error:
            return error.refusal
        except (OSError, UnicodeDecodeError) as error:
            return Refusal("disk", f"what the stick teaches cannot be kept in {self._file}: {error}")
        return None

    def _kept(self) -> _Kept:
        try:
            kept = msgspec.json.decode(read_plain(self._file), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(self._file, error) from None
        if kept.v != VERSION:
            raise _unreadable(self._file, f"version {kept.v} is not known here")
        return kept

    def _chain(self) -> dict[int, bytes]:
        """Version -> root, of both; two roots of one version are a fork, and then neither is believed."""
        chain = {version: data.encode() for version, data in self._kept().roots.items()}
        for path in sorted((self._online / "root_history").glob("*.root.json")):
            number = path.name.partition(".")[0]
            if not number.isdecimal():
                continue
            try:
                data = read_plain(path)
                known = chain.setdefault(int(number), data)
                if load_role(Root, known, "root").signed_bytes != load_role(Root, data, "root").signed_bytes:
                    raise _unreadable(path, "a stick has shown another root of the same version")
            except OSError as error:
                raise _unreadable(path, error) from None
            except ChainError as error:
                raise _unreadable(path, error.refusal.detail) from None
        return chain


def known_versions(folder: Path) -> dict[str, int]:
    """Role -> version of the metadata in the trust client's folder. Raises LocalTrustError where one cannot be read."""
    found: dict[str, int] = {}
    for path in sorted(folder.glob("*.json")):
        role = unquote(path.stem)
        if role in ONLINE_ONLY:
            continue
        try:
            found[role] = msgspec.json.decode(read_plain(path), type=_Metadata).signed.version
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(path, error) from None
    return found


def _unreadable(path: Path, problem: object) -> LocalTrustError:
    return LocalTrustError(Refusal("disk", f"what this board knows of revoked keys cannot be read ({path}: {problem}): {MEND}"))
