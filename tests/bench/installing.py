"""A resident agent's update machine over real metadata, content and install places, for what an installation costs."""

import hashlib
import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from device_agent.update.actions_disk import Performer
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.bundle.packing_disk import pack_release
from ota.bundle.writer_disk import file_entry
from ota.trust import roles
from ota.wire.assignments import AssignedBundle
from tests.device_agent.update.conftest import DEVICE, World
from tests.device_agent.update.test_update_real_trust import Server, board


class Resident:
    """One process, many boards in turn: each is new, the process has loaded everything."""

    def __init__(self, folder: Path, model: bytes) -> None:
        self._folder, self._number = folder, 0
        (folder / "server").mkdir(parents=True)
        (folder / "work").mkdir()
        self._server = Server(folder / "server")
        self._assigned = self._publish(model)
        self.served = folder / "server" / "tuf"

    def install(self, url: str) -> float:
        """CPU seconds of this process, all its threads, from the assignment to the trial."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            world = self._board(Path(name), url)
            world.assign(self._assigned)
            begin = time.process_time()
            for _ in range(12):
                world.updater.tick()
                if world.updater.status.state == "trial":
                    break
            spent_s = time.process_time() - begin
            if world.updater.status.state != "trial":
                raise AssertionError(world.hands.reports[-1])
            return spent_s

    def _board(self, folder: Path, url: str) -> World:
        world = World(folder)
        by_hand = world.performer._bench.selftest
        board(world, self._server, url)
        world.performer = Performer(replace(world.performer._bench, selftest=by_hand))
        world.updater = Updater(
            DEVICE, memory=StateFile(folder / "state"), actions=world.performer, trust=world.performer._bench.trust,
            clock=world.performer._bench.clock, reports=world.performer._bench.board,
            watch=TrialWatch(HistoryFile(folder / "history"), TrialLimits()),
        )  # fmt: skip
        return world

    def _publish(self, model: bytes) -> AssignedBundle:
        files = {"model.tflite": model, "card.toml": b"none"}
        variant = Variant(
            id="cpu", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml", files=list(files)
        )
        entries: dict[str, FileEntry] = {path: file_entry(data) for path, data in files.items()}
        manifest = Manifest(
            name="yard", version="2", channel="stable", counter=2, created_s=1, hardware=["*"], variants=[variant], files=entries
        )
        packed = pack_release(manifest, files, self._folder / "work")
        for sha256, source in packed.contents.items():
            data = source if isinstance(source, bytes) else Path(str(source)).read_bytes()
            self._server.repository.put_content(sha256, io.BytesIO(data))
        text = encode_manifest(packed.manifest)
        path = target_path("stable", "yard", "2")
        channel = roles.add_release(self._server.channel, path, text)
        roles.sign(channel, self._server.signers["stable"])
        published = self._server.repository.publish_channel("stable", channel.to_bytes(), [text])
        assert isinstance(published, list), published
        sha256 = hashlib.sha256(text).hexdigest()
        return AssignedBundle(path=path, sha256=sha256, length_bytes=len(text), channel="stable", release="yard@2")
