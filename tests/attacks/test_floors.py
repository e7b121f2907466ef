"""A thief with old, rightly signed releases, and a board whose card flips bits: the floor holds."""

import hashlib
from pathlib import Path

import msgspec

from device_agent.launcher_disk import Pointer, write_pointer
from device_agent.update.agent_place_disk import AgentMemory, AgentPlace
from device_agent.update.deployment import Deployment, UpdateState
from device_agent.update.state_disk import AGENT_STATE_FILE, STATE_FILE, StateFile, floor_of
from ota.bundle.manifest import Manifest, Variant, encode_manifest
from ota.bundle.writer_disk import file_entry
from ota.slots.slots_disk import Slots
from ota.wire.assignments import AssignedBundle


def damages(data: bytes) -> list[bytes]:
    """The file with one flipped bit (three of each byte: 5 becomes 4, 1 and no text), cut short, empty or gone wild."""
    flipped = [data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for at in range(len(data)) for bit in (0, 2, 7)]
    return [*flipped, b"", data[: len(data) // 2], b"[" * 100_000, b"{}", b'{"v":1}', b"\0" * len(data)]


def test_no_single_damaged_file_lowers_a_floor(tmp_path: Path) -> None:
    """Bits of the state in turn, then each bit of its copy: floor 5 and assignment 7 hold at the next start."""
    file = StateFile(tmp_path)
    file.save(UpdateState(floor=5, seen_seq=7, seen_digest="d" * 8, assignment="words"))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 2
    whole = {path: path.read_bytes() for path in paths}
    for path in paths:
        for damaged in damages(whole[path]):
            for one, data in whole.items():
                one.write_bytes(data)
            path.write_bytes(damaged)
            loaded = StateFile(tmp_path).load()
            assert loaded.floor >= 5, (path.name, damaged)
            assert loaded.seen_seq >= 7, (path.name, damaged)


def test_a_damaged_copy_bars_nothing(tmp_path: Path) -> None:
    """A flipped bit in the copy makes 5 a 7 there: its checksum tells, and a release of counter 6 is still taken."""
    StateFile(tmp_path).save(UpdateState(floor=5, seen_seq=7))
    copy = tmp_path / "update-floor.json"
    copy.write_bytes(copy.read_bytes().replace(b'"floor":5', b'"floor":7'))
    loaded = StateFile(tmp_path).load()
    assert (loaded.floor, loaded.seen_seq) == (5, 7)


def test_the_number_holds_without_the_words_of_another_one(tmp_path: Path) -> None:
    """The state is from an old image of the card: the newer number holds, and what the old one said is not taken for it."""
    file = StateFile(tmp_path)
    file.save(UpdateState(seen_seq=3, seen_digest="three", assignment="of three"))
    old = (tmp_path / STATE_FILE).read_bytes()
    file.save(UpdateState(seen_seq=7, seen_digest="seven", assignment="of seven"))
    (tmp_path / STATE_FILE).write_bytes(old)
    loaded = file.load()
    assert (loaded.seen_seq, loaded.seen_digest, loaded.assignment) == (7, "", "")
    assert "says less" in file.note


def test_the_key_travels_with_its_number(tmp_path: Path) -> None:
    """A stolen key signed number 9000: it binds as long as that key does, also from the copy. The true 8 after it replaces it."""
    file = StateFile(tmp_path)
    file.save(UpdateState(seen_seq=9000, seen_keyid="stolen"))
    (tmp_path / STATE_FILE).write_bytes(b"torn")
    assert (file.load().seen_seq, file.load().seen_keyid) == (9000, "stolen")
    file.save(UpdateState(seen_seq=8, seen_keyid="true"))
    (tmp_path / STATE_FILE).write_bytes(b"torn")
    assert (file.load().seen_seq, file.load().seen_keyid) == (8, "true")


def manifest(counter: int, min_counter: int, kind: str = "model") -> Manifest:
    return Manifest(
        name="yard", version=str(counter), channel="stable", kind=kind, counter=counter, min_counter=min_counter, created_s=1,
        hardware=["*"], labels=["person"],
        variants=[Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m", card="c", threads=1, files=["m", "c"])],
        files={"m": file_entry(b"m%d" % counter), "c": file_entry(b"c%d" % counter)},
    )  # fmt: skip


def deployment(sha256: str, state: str) -> Deployment:
    bundle = AssignedBundle(path="p", sha256=sha256, length_bytes=1, channel="stable", release="yard@2")
    return Deployment(assignment_seq=1, assignment_digest="", bundle=bundle, state=state, started_at_s=1.0, entered_at_s=1.0)


def test_what_is_installed_says_the_floor_when_all_files_are_gone(tmp_path: Path) -> None:
    """Both files are lost. The committed release 6 forbids what lies below 4; one that was only on trial forbids nothing yet."""
    slots = Slots(tmp_path / "slots")
    places = []
    for counter, least in ((6, 4), (9, 8)):
        data = encode_manifest(manifest(counter, least))
        sources = {}
        for name in ("m", "c"):
            content = b"%s%d" % (name.encode(), counter)
            sources[name] = tmp_path / f"{name}{counter}"
            (tmp_path / f"{name}{counter}").write_bytes(content)
        slots.stage(data, sources)
        places.append(hashlib.sha256(data).hexdigest())
        slots.switch(places[-1])
    file = StateFile(tmp_path / "state", installed=lambda state: floor_of(slots, state))
    file.save(UpdateState(deployment=deployment(places[1], "trial"), floor=4))
    assert file.load().floor == 4, "a release on trial raises nothing"
    file.save(UpdateState(deployment=deployment(places[1], "rolled_back"), floor=4))
    assert file.load().floor == 4, "nor does one that was taken back"
    slots.roll_back(places[1])
    for path in (tmp_path / "state").iterdir():
        path.write_bytes(b"\xff")
    assert file.load().floor == 4


def test_the_agents_own_floor_is_said_by_its_place(tmp_path: Path) -> None:
    """The agent's own state is damaged, its copy too: the agent that was committed forbids what lies below it."""
    data = encode_manifest(manifest(6, 5))
    slot = hashlib.sha256(data).hexdigest()
    place = AgentPlace(tmp_path, slot)
    place.folder(slot).mkdir(parents=True)
    (place.folder(slot) / "manifest.json").write_bytes(data)
    write_pointer(tmp_path, Pointer(current=slot, previous=None))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / AGENT_STATE_FILE).write_bytes(b"\xff")
    memory = AgentMemory(StateFile(tmp_path / "state", AGENT_STATE_FILE, place.floor), place)
    assert memory.load().floor == 5
    on_trial = UpdateState(deployment=deployment(slot, "trial"))
    assert place.floor(on_trial) == 0


def test_the_copy_that_cannot_be_written_is_written_with_the_next_state(tmp_path: Path) -> None:
    """The copy's name is taken by a folder: the state itself is saved; once the way is free the next save brings it."""
    file = StateFile(tmp_path)
    (tmp_path / "update-floor.json").mkdir()
    file.save(UpdateState(floor=5, seen_seq=1))
    (tmp_path / "update-floor.json").rmdir()
    file.save(UpdateState(floor=5, seen_seq=1))
    (tmp_path / STATE_FILE).write_bytes(b"torn")
    assert file.load().floor == 5
    assert msgspec.json.decode((tmp_path / "update-floor.json").read_bytes())["floor"] == 5
