"""A TUF repository in memory behind a real HTTP server: every role can be changed, signed wrongly, left out or answered badly."""

import hashlib
import http.server
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass
class Answer:
    """What is said instead of the file."""

    status: int = 200
    data: bytes = b"no"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at_bytes: int | None = None


class SimulatedRepository:
    """Roles are signed when they are asked for, so that a test only changes ``.signed`` parts; roots when they are published."""

    def __init__(
        self, *, consistent_snapshot: bool = True, make_key: Callable[[], Signer] = CryptoSigner.generate_ed25519
    ) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.expires = self.now + timedelta(days=30)
        self.make_key = make_key
        self.signers: dict[str, dict[str, Signer]] = {}
        self.root = Root(expires=self.expires, consistent_snapshot=consistent_snapshot)
        self.targets = Targets(expires=self.expires)
        self.snapshot = Snapshot(expires=self.expires)
        self.timestamp = Timestamp(expires=self.expires)
        self.delegated: dict[str, Targets] = {}
        self.roots: list[bytes] = []
        self.files: dict[str, bytes] = {}
        self.hashes_in_meta = False
        self.answers: dict[str, Answer] = {}
        """Pattern of the request's path -> what is said instead."""
        self.metadata_requests: list[tuple[str, int | None]] = []
        self.artifact_requests: list[tuple[str, str | None]] = []
        for role in TOP:
            self.add_key(role)
        self.publish_root(bump=False)

    # -- keys and roots -------------------------------------------------------------------------------------------------

    def add_key(self, role: str, delegator: Root | Targets | None = None, signer: Signer | None = None) -> Signer:
        made = signer or self.make_key()
        (delegator or self.root).add_key(made.public_key, role)
        self.signers.setdefault(role, {})[made.public_key.keyid] = made
        return made

    def rotate(self, role: str) -> None:
        """One new key in the place of all that the root names for the role."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role] = {}
        self.add_key(role)

    def publish_root(self, *, bump: bool = True, by: list[Signer] | None = None) -> None:
        """``by`` None: every key that ever stood in a published root, so that the chain holds."""
        if bump:
            self.root.version += 1
        self.old_root_signers = {**getattr(self, "old_root_signers", {}), **self.signers["root"]}
        metadata = Metadata(self.root)
        for signer in by if by is not None else self.old_root_signers.values():
            metadata.sign(signer, append=True)
        self.roots.append(metadata.to_bytes())

    # -- versions -------------------------------------------------------------------------------------------------------

    def bump(self, *roles: str) -> None:
        """New versions of these targets roles, and of snapshot and timestamp above them."""
        for role in roles:
            self.role(role).version += 1
        for role in ["targets", *self.delegated]:
            self.snapshot.meta[f"{role}.json"] = self._meta(role, self.role(role).version)
        self.snapshot.version += 1
        self.bump_timestamp()

    def bump_timestamp(self) -> None:
        self.timestamp.version += 1
        self.timestamp.snapshot_meta = self._meta("snapshot", self.snapshot.version)

    def _meta(self, role: str, version: int) -> MetaFile:
        if not self.hashes_in_meta:
            return MetaFile(version)
        data = self.bytes_of(role)
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def role(self, name: str) -> Any:
        return {"timestamp": self.timestamp, "snapshot": self.snapshot, "targets": self.targets}.get(name) or self.delegated[name]

    # -- targets --------------------------------------------------------------------------------------------------------

    def delegate(
        self, parent: str, name: str, paths: list[str], *, terminating: bool = False, signer: Signer | None = None
    ) -> Signer:
        above = self.role(parent)
        if above.delegations is None:
            above.delegations = Delegations({}, {})
        above.delegations.roles[name] = DelegatedRole(name, [], 1, terminating, paths)
        self.delegated.setdefault(name, Targets(expires=self.expires))
        self.snapshot.meta[f"{name}.json"] = MetaFile(self.delegated[name].version)
        return self.add_key(name, above, signer)

    def add_file(self, role: str, path: str, data: bytes, hashes: tuple[str, ...] = ("sha256",)) -> None:
        self.role(role).targets[path] = TargetFile.from_data(path, data, list(hashes))
        self.files[path] = data

    # -- what is served -------------------------------------------------------------------------------------------------

    def bytes_of(self, role: str, version: int | None = None) -> bytes:
        if role == "root":
            return self.roots[-1 if version is None else version - 1]
        metadata: Metadata[Any] = Metadata(self.role(role))
        for signer in self.signers[role].values():
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def answer(self, path: str) -> Answer:
        area, _, rest = path.lstrip("/").partition("/")
        said = next((answer for pattern, answer in self.answers.items() if re.search(pattern, path)), None)
        if area == "metadata":
            found = re.fullmatch(r"(?:(\d+)\.)?([^/]+)\.json", rest)
            if found is None:
                return Answer(404)
            role, version = unquote(found[2]), int(found[1]) if found[1] else None
            self.metadata_requests.append((role, version))
            return said or self._metadata(role, version)
        name = unquote(rest)
        folder, _, last = name.rpartition("/")
        prefix, _, plain = last.partition(".") if self.root.consistent_snapshot else (None, "", last)
        target = f"{folder}/{plain}" if folder else plain
        self.artifact_requests.append((target, prefix))
        if said is not None:
            return said
        data = self.files.get(target)
        known = () if data is None else (hashlib.sha256(data).hexdigest(), hashlib.sha512(data).hexdigest())
        if data is None or (prefix is not None and prefix not in known):
            return Answer(404)
        return Answer(data=data)

    def _metadata(self, role: str, version: int | None) -> Answer:
        try:
            if role == "root":
                return Answer(data=self.bytes_of("root", version)) if version and version <= len(self.roots) else Answer(404)
            versioned = role != "timestamp" and self.root.consistent_snapshot
            if versioned != (version is not None) or (versioned and version != self.role(role).version):
                return Answer(404)
            return Answer(data=self.bytes_of(role))
        except KeyError:
            return Answer(404)


class RepositoryServer:
    """Serves one ``SimulatedRepository`` on a free port, in threads."""

    def __init__(self, repository: SimulatedRepository) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # headers and body in one packet: two of them wait 40 ms for each other

            def do_GET(self) -> None:
                answer = repository.answer(self.path)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.data)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if answer.cut_at_bytes is not None:
                    self.close_connection = True
                self.wfile.write(answer.data[: answer.cut_at_bytes])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients hang up when they have heard enough

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
