"""A server in the hand: a real repository of signed metadata and content on the disk, answered from there without a network."""

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import urllib3

from ota.bundle.manifest import FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.trust import roles
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.repository_disk import Repository
from ota.wire.assignments import AssignedBundle

NOW_S = 1_800_000_000.0
METADATA_URL, TARGETS_URL = "http://shop/metadata", "http://shop/targets"


class Shop:
    """The releaser's and the server's side. ``Shop.reopen`` answers from what another one has published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests: dict[str, bytes] = {}
        self.repository = Repository(folder / "tuf", folder / "keys", lambda: NOW_S)
        signers = {}
        for name in ("root", "targets", "stable"):
            generate_key(folder / f"{name}.pem", None)
            signers[name] = load_signer(folder / f"{name}.pem", None)
        online = self.repository.online_keys()
        keys = {name: [signers[name].public_key] for name in ("root", "targets")}
        keys |= {name: [online[name]] for name in ("snapshot", "timestamp")}
        root = roles.new_root(keys, {}, NOW_S + 1e6)
        channel = roles.ChannelKeys([signers["stable"].public_key])
        targets = roles.new_targets({"stable": channel}, [online["assignment"]], NOW_S + 1e6)
        roles.sign(root, signers["root"])
        roles.sign(targets, signers["targets"])
        (folder / "root.json").write_bytes(root.to_bytes())
        assert self.repository.initialise(root.to_bytes(), targets.to_bytes()) is None
        self._channel, self._signer = roles.new_channel(NOW_S + 1e6), signers["stable"]

    def put(self, data: bytes) -> FileEntry:
        """Content, by its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.repository.put_content(digest, io.BytesIO(data))
        return FileEntry(sha256=digest, length_bytes=len(data))

    def publish(self, version: str, *, counter: int) -> tuple[AssignedBundle, bytes, dict[str, bytes]]:
        """A small release of the yard model: what an assignment names, its manifest, its files."""
        files = {"model.tflite": f"model of {version} ".encode() * 9, "card.toml": f"card of {version}".encode(),
                 "golden/parity.json": f"parity of {version}".encode()}  # fmt: skip
        variant = Variant(id="cpu-int8", accelerator="cpu", runtimes=["litert"], machines=[], model="model.tflite",
                          card="card.toml", files=list(files))  # fmt: skip
        manifest = encode_manifest(
            Manifest(name="yard", version=version, channel="stable", counter=counter, min_counter=counter, created_s=1,
                     hardware=["*"], variants=[variant], files={path: self.put(data) for path, data in files.items()},
                     golden=Golden(parity="golden/parity.json"))
        )  # fmt: skip
        return self.sign(target_path("stable", "yard", version), manifest, f"yard@{version}"), manifest, files

    def sign(self, path: str, manifest: bytes, release: str) -> AssignedBundle:
        """Sign a manifest into the channel and publish it; how an assignment names it."""
        self._channel = roles.add_release(self._channel, path, manifest)
        roles.sign(self._channel, self._signer)
        published = self.repository.publish_channel("stable", self._channel.to_bytes(), [manifest])
        assert isinstance(published, list), published
        sha256 = hashlib.sha256(manifest).hexdigest()
        self.manifests[sha256] = manifest
        return AssignedBundle(path=path, sha256=sha256, length_bytes=len(manifest), channel="stable", release=release)


class Pool:
    """What ``urllib3.PoolManager`` is to the real code, over the shop's folder. Knows ranges, as the server does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tuf"

    def connection_from_url(self, url: str) -> urllib3.HTTPConnectionPool:
        """Asked for its class of connections; none of them is ever made."""
        return urllib3.connection_from_url(url)

    def request(self, method: str, url: str, headers: dict[str, str] | None = None, **_: Any) -> urllib3.HTTPResponse:
        """One answer, whole or from where the range says."""
        path = self._folder / url.removeprefix("http://shop/")
        if not path.is_file():
            return _answer(404, b"", {})
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-", (headers or {}).get("Range", ""))
        if wanted is None:
            return _answer(200, b"" if method == "HEAD" else data, {"Content-Length": str(len(data))})
        start = int(wanted[1])
        if start >= len(data):
            return _answer(416, b"", {})
        stated = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}", "Content-Length": str(len(data) - start)}
        return _answer(206, data[start:], stated)


def _answer(status: int, data: bytes, headers: dict[str, str]) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(io.BytesIO(data), headers=headers, status=status, preload_content=False)
