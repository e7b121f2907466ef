"""The server's three online keys: snapshot, timestamp, assignment. Made once, 0600, in the clear: a server signs by itself."""

from pathlib import Path

from ota.durable_disk import make_folder
from ota.trust.errors import KeyFileError
from ota.trust.key_types import Key, Signer
from ota.trust.keys_disk import generate_key, load_signer

ONLINE_ROLES = ("snapshot", "timestamp", "assignment")


class OnlineKeys:
    """Signers by role; each key is generated when it is first asked for and there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signers: dict[str, Signer] = {}

    def signer(self, role: str) -> Signer:
        """The signer of one role; raises KeyFileError when its file is damaged."""
        if role not in ONLINE_ROLES:
            raise KeyFileError(f"{role!r} is not an online role; offline keys never lie on a server")
        if role not in self._signers:
            make_folder(self._folder, 0o700)
            path = self._folder / f"{role}.pem"
            if not path.exists():
                try:
                    generate_key(path, None)
                except KeyFileError:
                    if not path.exists():  # else another process was first, and its key is the one
                        raise
            self._signers[role] = load_signer(path, None)
        return self._signers[role]

    def public(self) -> dict[str, Key]:
        """Role -> public key, for the offline signer who writes them into root and targets."""
        return {role: self.signer(role).public_key for role in ONLINE_ROLES}
