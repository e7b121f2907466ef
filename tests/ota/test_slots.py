"""Install places: whole or not at all, one rename to switch, and a power cut at every single file operation."""

import hashlib
import json
import shutil

import pytest

from ota.bundle.manifest import encode_manifest
from ota.slots.errors import SlotError
from ota.slots.files_disk import Files
from ota.slots.slots_disk import Slots


class PowerCutError(Exception):
    """Not an OSError: nothing may handle it."""


class FilesUntilTheCut(Files):
    """Real file operations until operation number `cut_at`, which ends in a power cut.

    `before`: the operation did not happen. `torn`: it happened by half (a write, a removal) or wholly (a rename). `lost`: as
    `before`, and renames that no fsync of their folder had made durable are gone too.
    """

    def __init__(self, cut_at=None, how="before"):
        self.cut_at, self.how, self.done = cut_at, how, 0
        self.undo = []

    def step(self, torn):
        self.done += 1
        if self.cut_at is None or self.done <= self.cut_at:
            return
        if self.how == "torn":
            torn()
        if self.how == "lost":
            for _, back in reversed(self.undo):
                back()
        raise PowerCutError

    def make_folder(self, folder):
        self.step(lambda: None)
        super().make_folder(folder)

    def write_new(self, path, data):
        self.step(lambda: path.write_bytes(data[: len(data) // 2]))
        super().write_new(path, data)

    def copy_new(self, source, path):
        self.step(lambda: path.write_bytes(source.read_bytes()[:3]))
        return super().copy_new(source, path)

    def replace(self, source, target):
        self.step(lambda: Files.replace(self, source, target))
        old, new = (target.read_bytes() if target.exists() else None), source.read_bytes()
        super().replace(source, target)

        def back():
            source.write_bytes(new)
            target.unlink() if old is None else target.write_bytes(old)

        self.undo.append((target.parent, back))

    def rename_folder(self, source, target):
        self.step(lambda: Files.rename_folder(self, source, target))
        super().rename_folder(source, target)
        self.undo.append((target.parent, lambda: target.rename(source)))

    def fsync_folder(self, folder):
        self.step(lambda: None)
        super().fsync_folder(folder)
        self.undo = [one for one in self.undo if one[0] != folder]

    def remove_tree(self, folder):
        def half():
            if folder.exists():
                next(path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()).unlink()

        self.step(half)
        super().remove_tree(folder)


@pytest.fixture
def place(tmp_path, make_manifest):
    """A function that makes release `version` and its verified downloads; and the folder of the slots."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()

    def release(version, variant=1):
        contents = {
            "model-a.tflite": f"tpu {version}".encode(),
            "models/b/model.tflite": f"cpu {version}".encode(),
            "card.toml": f"card {version}".encode(),
        }
        whole = make_manifest(version=version, contents={**contents, "model-b.tflite": contents["models/b/model.tflite"]})
        data = json.loads(encode_manifest(whole))
        data["variants"][1].update(model="models/b/model.tflite", files=["models/b/model.tflite", "card.toml"])
        del data["files"]["model-b.tflite"]
        manifest = json.dumps(data).encode()
        files = {}
        for path in data["variants"][variant]["files"]:
            files[path] = downloads / hashlib.sha256(contents[path]).hexdigest()
            files[path].write_bytes(contents[path])
        return manifest, files, hashlib.sha256(manifest).hexdigest()

    return release, tmp_path / "slots"


def test_the_life_of_a_board(place):
    release, folder = place
    slots = Slots(folder)
    assert (slots.current(), slots.previous(), slots.factory()) == (None, None, None)
    manifests = {}
    for version in ("0", "1", "2"):
        manifest, files, digest = release(version)
        manifests[version] = digest
        assert slots.stage(manifest, files) == folder / digest
        if version == "0":
            slots.set_factory(digest)
        else:
            slots.switch(digest)
    assert slots.current().sha256 == manifests["2"]
    assert slots.previous().sha256 == manifests["1"]
    assert slots.factory().sha256 == manifests["0"]
    assert slots.current().manifest.release == "yard@2"
    assert set(slots.current().files()) == {"models/b/model.tflite", "card.toml"}

    assert slots.roll_back(manifests["2"]).sha256 == manifests["1"]
    assert slots.roll_back(manifests["2"]).sha256 == manifests["1"]  # said twice, done once
    assert slots.collect_garbage(keep=[manifests["2"]]) == []
    assert slots.collect_garbage() == [manifests["2"]]
    assert slots.roll_back().sha256 == manifests["0"]
    with pytest.raises(SlotError, match="no other release"):
        slots.roll_back()
    assert slots.collect_garbage() == [manifests["1"]]
    assert slots.factory().sha256 == manifests["0"]


def test_whole_set_or_nothing(place):
    release, folder = place
    slots = Slots(folder)
    manifest, files, _digest = release("1")
    with pytest.raises(SlotError, match="not all of any variant"):
        slots.stage(manifest, {"card.toml": files["card.toml"]})
    with pytest.raises(SlotError, match="not listed"):
        slots.stage(manifest, {**files, "extra": files["card.toml"]})
    with pytest.raises(SlotError) as caught:
        slots.stage(b"{}", files)
    assert caught.value.code == "format"
    files["card.toml"].write_bytes(b"changed after it was verified")
    with pytest.raises(SlotError) as caught:
        slots.stage(manifest, files)
    assert caught.value.code == "hash"
    assert list(folder.iterdir()) == []
    files["card.toml"].unlink()
    with pytest.raises(SlotError) as caught:
        slots.stage(manifest, files)
    assert caught.value.code == "disk"


def test_a_damaged_place_is_not_switched_to_and_is_repaired(place):
    """A card's cells rot between staging and the switch."""
    release, folder = place
    slots = Slots(folder)
    manifest, files, digest = release("1")
    slots.stage(manifest, files)
    (folder / digest / "card.toml").write_bytes(b"rot")
    assert slots.verify(digest) == ["card.toml is damaged", "no variant is whole"]
    with pytest.raises(SlotError) as caught:
        slots.switch(digest)
    assert caught.value.code == "hash"
    assert slots.current() is None
    slots.stage(manifest, files)
    assert slots.verify(digest) == []
    (folder / digest / "manifest.json").write_bytes(b"rot")
    assert slots.slot(digest) is None
    slots.stage(manifest, files)
    slots.switch(digest)
    with pytest.raises(SlotError):
        slots.switch("ab" * 32)
    assert slots.current().sha256 == digest


def test_another_variant_of_the_running_release_is_added_beside(place):
    """The accelerator was plugged in: the Edge TPU files come into the place that runs, which never disappears."""
    release, folder = place
    slots = Slots(folder)
    manifest, files, digest = release("1")
    slots.stage(manifest, files)
    slots.switch(digest)
    _, more, _ = release("1", variant=0)
    slots.stage(manifest, more)
    assert set(slots.current().files()) == {"model-a.tflite", "models/b/model.tflite", "card.toml"}
    assert slots.verify(digest) == []


def test_changing_a_download_later_does_not_reach_into_the_place(place):
    release, folder = place
    manifest, files, digest = release("1")
    slots = Slots(folder)
    slots.stage(manifest, files)
    with files["card.toml"].open("r+b") as file:
        file.write(b"XX")
    assert slots.verify(digest) == []


@pytest.mark.parametrize("pointers", [b"", b"nonsense", b"[]", b'{"v": 99}', b'{"v": 1, "current": 5}'])
def test_lost_pointers_remove_nothing(place, pointers):
    """The card lost the pointer file: which place is the factory's is not known, so none is removed."""
    release, folder = place
    slots = Slots(folder)
    manifest, files, digest = release("0")
    slots.stage(manifest, files)
    slots.set_factory(digest)
    (folder / "pointers.json").write_bytes(pointers)
    assert slots.current() is None
    assert slots.collect_garbage() == []
    assert slots.verify(digest) == []


def state(slots):
    return tuple(one.sha256 if one else None for one in (slots.current(), slots.previous(), slots.factory()))


def test_a_power_cut_at_every_file_operation(place, tmp_path):
    """Factory, two updates, a roll-back, a repair and a clearing; the power goes at each operation, in three ways.

    After each cut the board starts again: its pointers are those before or those after, what they point to is whole, and
    doing the same thing again ends where it would have ended without the cut.
    """
    release, folder = place
    releases = {version: release(version) for version in ("0", "1", "2")}
    digest = {version: one[2] for version, one in releases.items()}

    def spoil(slots):
        (folder / digest["1"] / "card.toml").write_bytes(b"rot")

    story = [
        ("stage factory", lambda slots: slots.stage(*releases["0"][:2])),
        ("set factory", lambda slots: slots.set_factory(digest["0"])),
        ("stage 1", lambda slots: slots.stage(*releases["1"][:2])),
        ("switch 1", lambda slots: slots.switch(digest["1"])),
        ("stage 2", lambda slots: slots.stage(*releases["2"][:2])),
        ("switch 2", lambda slots: slots.switch(digest["2"])),
        ("roll back", lambda slots: slots.roll_back(digest["2"])),
        ("rot", spoil),
        ("repair", lambda slots: slots.stage(*releases["1"][:2])),
        ("clear", lambda slots: slots.collect_garbage()),
    ]
    cuts = 0
    for name, act in story:
        saved = tmp_path / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(folder, saved) if folder.exists() else saved.mkdir()
        before = state(Slots(folder))
        counting = FilesUntilTheCut()
        act(Slots(folder, counting))
        after = state(Slots(folder))
        for cut_at in range(counting.done):
            for how in ("before", "torn", "lost"):
                shutil.rmtree(folder)
                shutil.copytree(saved, folder)
                with pytest.raises(PowerCutError):
                    act(Slots(folder, FilesUntilTheCut(cut_at, how)))
                cuts += 1
                started = Slots(folder)
                story_so_far = (name, cut_at, how)
                assert state(started) in (before, after), story_so_far
                if name != "repair":  # the rot itself is what repair is about
                    assert all(started.verify(one) == [] for one in state(started) if one), story_so_far
                act(started)
                assert state(started) == after, story_so_far
                assert all(started.verify(one) == [] for one in state(started) if one), story_so_far
    assert cuts > 100
    Slots(folder).collect_garbage()
    assert {path.name for path in folder.iterdir()} <= {digest["0"], digest["1"], "pointers.json", ".new-pointers.json"}
