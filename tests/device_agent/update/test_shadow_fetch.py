"""A shadow's files: verified as strictly as an installation's, and installed nowhere."""

import dataclasses
import hashlib
import io
import shutil

import msgspec
import pytest

from device_agent.update.policy import Policy
from device_agent.update.shadow_fetch_disk import ShadowFetch, ShadowFiles
from ota.bundle.manifest import FileEntry, Packed, Variant
from ota.trust.refusal import Refusal
from ota.wire.enrolment import Accelerator
from ota.zstd_frames import pack


def fetcher(world, **changed):
    bench = world.performer._bench
    facts = changed.pop("facts", bench.board.facts())
    parts = {"trust": bench.trust, "content": bench.content, "policy": Policy(), "facts": facts, "floor": lambda: 0}
    return ShadowFetch(world.folder / "shadow", **(parts | changed))


def never():
    return False


def test_model_and_card_are_fetched_verified_and_nothing_else(world):
    """A shadow of release 2: its model and card lie there; slots, deployment and the running release are as before."""
    before = sorted(path for path in (world.folder / "slots").rglob("*"))
    bundle = world.publish("2")
    found = fetcher(world).fetch(bundle, never)
    assert isinstance(found, ShadowFiles)
    assert (found.release, found.model.read_bytes(), found.card.read_bytes()) == (
        "yard@2", b"model.tflite of 2", b"card.toml of 2",
    )  # fmt: skip
    assert len(world.hands.fetched) == 2, "no golden sample, no acceptance picture: there is no self-test"
    assert sorted(path for path in (world.folder / "slots").rglob("*")) == before
    assert not (world.folder / "downloads").exists()


def test_what_is_there_is_hashed_again_and_not_fetched_again(world):
    """After a restart the files are there: none is fetched. One was damaged on the disk: it alone is fetched again."""
    bundle = world.publish("2")
    found = fetcher(world).fetch(bundle, never)
    assert fetcher(world).fetch(bundle, never) == found
    assert len(world.hands.fetched) == 2
    found.model.write_bytes(b"a worn SD card")
    assert fetcher(world).fetch(bundle, never).model.read_bytes() == b"model.tflite of 2"
    assert len(world.hands.fetched) == 3


def packed(data):
    """The entry of a file that travels packed, and the bytes that travel."""
    travels = b"".join(pack(io.BytesIO(data), len(data)))
    how = Packed(encoding="zstd", sha256=hashlib.sha256(travels).hexdigest(), length_bytes=len(travels))
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data), packed=how), travels


def test_a_packed_candidate_is_unpacked(world):
    """Bundles are packed: what travels is fetched, and what is signed lies there afterwards, and nothing else."""
    model = b"a model of many zeros" + bytes(5000)
    entry, travels = packed(model)
    world.hands.content[entry.packed.sha256] = travels
    bundle = world.publish("2", files={"model.tflite": model}, entries={"model.tflite": entry})
    del world.hands.content[entry.sha256]  # the store holds what travels
    found = fetcher(world).fetch(bundle, never)
    assert isinstance(found, ShadowFiles), found
    assert found.model.read_bytes() == model
    assert len(list((world.folder / "shadow").iterdir())) == 2
    assert fetcher(world).fetch(bundle, never) == found
    assert len(world.hands.fetched) == 2
    world.hands.content[entry.packed.sha256] = travels[:-1] + b"!"
    found.model.unlink()
    assert fetcher(world).fetch(bundle, never).code in ("hash", "format")
    assert not found.model.exists()


def test_the_shadow_before_makes_room(world):
    """Another candidate is assigned: the old one's files go, and so does what a cut download left."""
    first = fetcher(world).fetch(world.publish("2"), never)
    (world.folder / "shadow" / "abc.part").write_bytes(b"half")
    fetcher(world).fetch(world.publish("3"), never)
    assert not first.model.exists()
    assert len(list((world.folder / "shadow").iterdir())) == 2


def test_a_shadow_never_takes_the_accelerator(world):
    """A board with an Edge TPU: the shadow gets the CPU variant; a release for the Edge TPU alone is refused in words."""
    bench = world.performer._bench
    coral = Accelerator(kind="edgetpu-usb", present=True, usable=True, reason="")
    facts = msgspec.structs.replace(bench.board.facts(), accelerators=[coral])
    assert fetcher(world, facts=facts).fetch(world.publish("2"), never).model.read_bytes() == b"model.tflite of 2"
    only = Variant(id="tpu", accelerator="edgetpu", runtimes=["litert"], model="tpu.tflite", card="card.toml",
                   files=["tpu.tflite", "card.toml"])  # fmt: skip
    refused = fetcher(world, facts=facts).fetch(world.publish("3", variants=[only]), never)
    assert (refused.code, "runs on the CPU" in refused.detail) == ("variant", True)


@pytest.mark.parametrize("attack", ["channel", "hash", "hardware", "floor", "metadata", "unlisted", "other length"])
def test_a_captured_server_cannot_make_it_run_what_it_likes(world, attack):
    """Each step of the rule for installations holds for a shadow: the refusal has its code, nothing is given out."""
    bundle = world.publish("2", channel="beta" if attack == "channel" else "stable",
                           hardware=["rpi-zero-2w"] if attack == "hardware" else ["*"])  # fmt: skip
    changed = {}
    if attack == "hash":
        for sha256, data in list(world.hands.content.items()):
            world.hands.content[sha256] = data + b"!"
    elif attack == "floor":
        changed["floor"] = lambda: 9
    elif attack == "metadata":
        world.hands.refuse["refresh"] = Refusal("signature", "timestamp: not signed by the trusted key")
    elif attack == "unlisted":
        bundle = msgspec.structs.replace(bundle, path="stable/yard/7/manifest.json")
    elif attack == "other length":
        bundle = msgspec.structs.replace(bundle, length_bytes=bundle.length_bytes + 1)
    refused = fetcher(world, **changed).fetch(bundle, never)
    codes = {"metadata": "signature", "unlisted": "mismatch", "other length": "mismatch", "floor": "counter"}
    assert isinstance(refused, Refusal)
    assert refused.code == codes.get(attack, attack)
    if attack != "hash":
        assert not world.hands.fetched


def test_a_full_disk_and_a_stop_are_refusals(world, monkeypatch):
    """No room: refused before a byte is fetched. The agent ends while it fetches: no files are given out."""
    bundle = world.publish("2")
    usage = shutil.disk_usage(world.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert fetcher(world).fetch(bundle, never).code == "disk"
    assert not world.hands.fetched
    monkeypatch.undo()
    assert fetcher(world).fetch(bundle, lambda: True) == Refusal("download", "stopped")
    assert dataclasses.is_dataclass(fetcher(world).fetch(bundle, never))


def test_an_assignment_of_a_shadow_leaves_deployments_alone(world):
    """A shadow is assigned while another release is on trial: the trial goes on, nothing is installed, nothing is 'wanted'."""
    world.assign(world.publish("2"))
    world.ticks()
    assert world.updater.status.state == "trial"
    world.assign(world.publish("3"), role="shadow")
    world.ticks()
    assert world.updater.status.state == "trial"
    assert world.updater.status.wanted == ""
    assert world.updater.assignment.role == "shadow"
    world.see(30.0, bright=(60.0, 50.0))
    world.ticks()
    assert world.runs() == "yard@2"
