"""A small fleet's releases for tests of the agent: real keys, a real TUF repository, bundles of the yard's real little models."""

import hashlib
import io
import time
from pathlib import Path

from ota.bundle.manifest import Manifest, Variant, encode_manifest, target_path
from ota.bundle.tuf_types import Metadata
from ota.bundle.writer_disk import add_metadata, file_entry, write_bundle
from ota.trust import roles
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.repository_disk import Repository
from ota.wire import topics
from ota.wire.assignments import AssignedBundle
from tests.fakes.device_door_fake import DeviceDoor

DAY_S = 86_400.0
RELEASES = Path(__file__).parents[2] / "models" / "rendered" / "releases"


class ReleaseFleet:
    """People's keys and the server's repository. ``attach`` lets a door serve it; ``root_file`` is what a board starts with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "tuf", folder / "keys")
        self._signers = {}
        for name in ("root", "targets", "stable"):
            generate_key(folder / "people" / f"{name}.pem", None)
            self._signers[name] = load_signer(folder / "people" / f"{name}.pem", None)
        online = self.repository.online_keys()
        keys = {
            "root": [self._signers["root"].public_key],
            "targets": [self._signers["targets"].public_key],
            "snapshot": [online["snapshot"]],
            "timestamp": [online["timestamp"]],
        }
        now_s = time.time()
        self.root = roles.new_root(keys, {"root": 1}, now_s + 365 * DAY_S)
        channel = roles.ChannelKeys([self._signers["stable"].public_key], 1)
        self.targets = roles.new_targets({"stable": channel}, [online["assignment"]], now_s + 180 * DAY_S)
        roles.sign(self.root, self._signers["root"])
        roles.sign(self.targets, self._signers["targets"])
        assert self.repository.initialise(self.root.to_bytes(), self.targets.to_bytes()) is None
        self.root_file = folder / "root.json"
        self.root_file.write_bytes(self.root.to_bytes())

    def attach(self, door: DeviceDoor) -> None:
        door.signer = self.repository.assignment_signer()
        door.state.static_folders |= {
            topics.METADATA: self.folder / "tuf" / "metadata",
            topics.BUNDLES: self.folder / "tuf" / "targets",
        }

    def publish(
        self, version: str, *, model: str = "yard-1", counter: int = 1, runtime: str = "litert",
        other: tuple[Path, str, list[str]] | None = None,
    ) -> tuple[Path, AssignedBundle]:  # fmt: skip
        """Sign and publish a release of one of the yard's models, or of any ``other`` (file, card, labels).

        Answers the bundle file and how an assignment names it.
        """
        source = RELEASES / model
        card = source / "card.toml" if (source / "card.toml").exists() else RELEASES / "yard-1" / "card.toml"
        files = {"model.tflite": (source / "model_int8.tflite").read_bytes(), "card.toml": card.read_bytes()}
        labels = ["person", "cart", "animal"]
        if other is not None:
            files, labels = {"model.tflite": other[0].read_bytes(), "card.toml": other[1].encode()}, other[2]
        manifest = Manifest(
            name="yard",
            version=version,
            channel="stable",
            counter=counter,
            created_s=int(time.time()),
            hardware=["*"],
            labels=labels,
            variants=[
                Variant(
                    id="cpu-int8", accelerator="cpu", runtimes=[runtime], model="model.tflite", card="card.toml", threads=1,
                    files=["model.tflite", "card.toml"],
                )
            ],
            files={path: file_entry(data) for path, data in files.items()},
        )  # fmt: skip
        bundle = self.signed(manifest, files, self.folder / f"yard-{version}.rookery")
        data = encode_manifest(manifest)
        assigned = AssignedBundle(
            path=target_path("stable", "yard", version),
            sha256=hashlib.sha256(data).hexdigest(),
            length_bytes=len(data),
            channel="stable",
            release=f"yard@{version}",
        )
        return bundle, assigned

    def signed(self, manifest: Manifest, files: dict[str, bytes], bundle: Path) -> Path:
        """Sign and publish any release on the channel ``stable``, and write its bundle file."""
        data = encode_manifest(manifest)
        for content in files.values():
            self.repository.put_content(hashlib.sha256(content).hexdigest(), io.BytesIO(content))
        present = self.repository.channel_metadata("stable")
        channel = roles.new_channel(time.time() + 60 * DAY_S) if present is None else Metadata.from_bytes(present)
        channel = roles.add_release(channel, target_path("stable", manifest.name, manifest.version), data)
        roles.sign(channel, self._signers["stable"])
        published = self.repository.publish_channel("stable", channel.to_bytes(), [data])
        assert isinstance(published, list), published
        write_bundle(bundle, manifest, files)
        add_metadata(
            bundle,
            {"1.root.json": self.root.to_bytes(), "targets.json": self.targets.to_bytes(), "stable.json": channel.to_bytes()},
        )
        return bundle
