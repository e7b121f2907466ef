"""The server's three online keys: snapshot, timestamp, assignment. 0600, in the clear: a server signs by itself.

The next key of a role is made beside the present one and does nothing until the root (for assignments: the targets) in force
names it. From then on the one that is named signs; the other is removed. Which file holds which key decides nothing.
"""

from collections.abc import Collection
from pathlib import Path

from ota.durable_disk import fsync_folder, make_folder
from ota.trust.errors import KeyFileError
from ota.trust.key_types import Key, Signer
from ota.trust.keys_disk import generate_key, load_signer

ONLINE_ROLES = ("snapshot", "timestamp", "assignment")


class OnlineKeys:
    """Signers by role, each ``<role>.pem``, and ``<role>.next.pem`` where a next one was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[Path, tuple[tuple[int, int], Signer]] = {}

    def signer(self, role: str) -> Signer:
        """The present signer of one role, made when there is none; raises KeyFileError when its file is damaged."""
        path = self._path(role)
        found = self._load(path)
        if found is None:
            self._make(path)
            found = self._load(path)
        assert found is not None
        return found

    def public(self, *, make: bool = True) -> dict[str, Key]:
        """Role -> public key, for the offline signer who writes them into root and targets. Without ``make`` lost ones are left
        out: a new key that nobody has signed for would help no board."""
        if make:
            return {role: self.signer(role).public_key for role in ONLINE_ROLES}
        found = {role: self._load(self._path(role)) for role in ONLINE_ROLES}
        return {role: signer.public_key for role, signer in found.items() if signer is not None}

    def prepare(self, role: str) -> Key:
        """The next key of a role, made when there is none yet."""
        path = self._path(role, following=True)
        if self._load(path) is None:
            self._make(path)
        found = self._load(path)
        assert found is not None
        return found.public_key

    def prepared(self) -> dict[str, Key]:
        """Role -> next key, of the roles for which one was made."""
        found = {role: self._load(self._path(role, following=True)) for role in ONLINE_ROLES}
        return {role: signer.public_key for role, signer in found.items() if signer is not None}

    def named(self, role: str, keyids: Collection[str]) -> Signer | None:
        """The signer whose key is among ``keyids``, the present one or the next; None when neither is (lost, or never ours)."""
        for path in (self._path(role), self._path(role, following=True)):
            signer = self._load(path)
            if signer is not None and signer.public_key.keyid in keyids:
                return signer
        return None

    def settle(self, role: str, keyids: Collection[str]) -> None:
        """Where the next key is the one that is named now and the present one is not, it takes its place; the old one is gone."""
        path, following = self._path(role), self._path(role, following=True)
        present, new = self._load(path), self._load(following)
        named_still = present is not None and present.public_key.keyid in keyids
        if new is not None and new.public_key.keyid in keyids and not named_still:
            following.replace(path)
            fsync_folder(self._folder)

    def _path(self, role: str, *, following: bool = False) -> Path:
        if role not in ONLINE_ROLES:
            raise KeyFileError(f"{role!r} is not an online role; offline keys never lie on a server")
        return self._folder / (f"{role}.next.pem" if following else f"{role}.pem")

    def _make(self, path: Path) -> None:
        make_folder(self._folder, 0o700)
        try:
            generate_key(path, None)
        except KeyFileError:
            if not path.exists():  # else another process was first, and its key is the one
                raise

    def _load(self, path: Path) -> Signer | None:
        # Another process may have made or replaced the file since: what was loaded counts only for the same file.
        try:
            stat = path.stat()
        except OSError:
            return None
        mark = (stat.st_ino, stat.st_mtime_ns)
        known = self._loaded.get(path)
        if known is None or known[0] != mark:
            known = self._loaded[path] = (mark, load_signer(path, None))
        return known[1]
