"""How a release's files come to the board: packed, as patches of what is there, over lines that cost money, into a full disk."""

import hashlib
import io
import os
import random
import shutil

import pytest

from device_agent.update.conditions import month_of, next_month_s
from device_agent.update.policy import Policy
from ota.bundle.manifest import Budget, Delta, FileEntry, Packed
from ota.slots.hashed_disk import Hashed
from ota.trust.refusal import Refusal
from ota.zstd_frames import make_patch, pack

BASE = random.Random(7).randbytes(36_000) + bytes(4_000)
"""A model that hardly compresses: what a delta saves is the delta's own doing."""
BETTER = BASE[:20_000] + b"one layer was trained anew" + BASE[20_050:]
WORDS = b"a file of words travels packed, and is used as it is; " * 500


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed_entry(world, data: bytes, deltas=()) -> FileEntry:
    """An entry that travels packed; its packed bytes lie in the server's store."""
    small = b"".join(pack(io.BytesIO(data), len(data)))
    world.hands.content[sha(small)] = small
    return FileEntry(
        sha256=sha(data), length_bytes=len(data), packed=Packed(sha256=sha(small), length_bytes=len(small)), deltas=list(deltas)
    )


def delta(world, base: bytes, new: bytes) -> Delta:
    patch = make_patch(base, new)
    assert patch is not None
    world.hands.content[sha(patch)] = patch
    return Delta(base_sha256=sha(base), sha256=sha(patch), length_bytes=len(patch))


def install_base(world) -> None:
    """The board runs release 2, whose model is BASE."""
    world.assign(world.publish("2", files={"model.tflite": BASE}))
    world.ticks()
    world.see(3.0, bright=(60.0, 50.0))
    world.ticks()
    assert world.runs() == "yard@2"
    world.hands.fetched.clear()
    world.hands.reports.clear()


def better(world, *deltas: Delta):
    entry = packed_entry(world, BETTER, deltas)
    return world.publish("3", counter=3, files={"model.tflite": BETTER}, entries={"model.tflite": entry}), entry


def model_of(world, sha256: str) -> bytes:
    return (world.slots.slot(sha256).path / "model.tflite").read_bytes()


def test_packed_files_travel_small_and_are_unpacked_where_they_are_installed(world) -> None:
    """What travels is hashed before it is opened, and what lies in the install place is the file that was signed."""
    entry = packed_entry(world, WORDS)
    bundle = world.publish("2", files={"model.tflite": WORDS}, entries={"model.tflite": entry})
    world.assign(bundle)
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert model_of(world, bundle.sha256) == WORDS
    assert entry.packed.sha256 in world.hands.fetched
    assert entry.sha256 not in world.hands.fetched
    assert world.hands.reports[-1].figures["fetched_bytes"] < len(WORDS)


def test_a_bomb_that_unpacks_to_more_than_was_signed_is_refused_and_leaves_nothing(world) -> None:
    """A releaser's tool was made to sign a length of 1,000 bytes for a frame that holds a gigabyte's worth."""
    bomb = b"".join(pack(io.BytesIO(bytes(30_000_000)), 30_000_000))
    world.hands.content[sha(bomb)] = bomb
    entry = FileEntry(sha256=sha(b"x"), length_bytes=1000, packed=Packed(sha256=sha(bomb), length_bytes=len(bomb)))
    world.assign(world.publish("2", entries={"model.tflite": entry}))
    world.ticks(60)
    last = world.hands.reports[-1]
    assert (last.state, world.runs()) == ("refused", "yard@1")
    assert last.reason in ("format", "hash")
    left = [path for path in world.folder.rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]
    assert left == []


def test_a_delta_is_used_where_the_base_lies_in_an_install_place(world) -> None:
    """The model that runs differs by one layer from the new one: 40 kB become a few hundred bytes."""
    install_base(world)
    one = delta(world, BASE, BETTER)
    bundle, entry = better(world, one)
    world.assign(bundle)
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert model_of(world, bundle.sha256) == BETTER
    figures = world.hands.reports[-1].figures
    assert (figures["delta_used"], figures["delta_failed"]) == (1.0, 0.0)
    assert one.sha256 in world.hands.fetched
    assert entry.packed.sha256 not in world.hands.fetched


@pytest.mark.parametrize("fault", ["damaged", "missing", "base", "wrong"])
def test_whatever_is_wrong_with_a_delta_the_whole_file_comes_once(world, fault: str) -> None:
    """The patch's bytes are not those that were signed; the store lost it; the base on this card has rotted; the patch is of
    another base. Each costs one download of the whole file and is told in the figures; none costs the install."""
    install_base(world)
    one = delta(world, BASE, BETTER) if fault != "wrong" else delta(world, BASE[7_000:] + BASE[:7_000], BETTER)
    if fault == "wrong":
        one = Delta(base_sha256=sha(BASE), sha256=one.sha256, length_bytes=one.length_bytes)
    if fault == "damaged":
        world.hands.content[one.sha256] = bytes(one.length_bytes)
    if fault == "missing":
        world.hands.refuse[one.sha256] = Refusal("download", "404")
    if fault == "base":
        running = world.slots.current().path / "model.tflite"
        running.write_bytes(BASE[:-1] + b"?")
    bundle, entry = better(world, one)
    world.assign(bundle)
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert model_of(world, bundle.sha256) == BETTER
    figures = world.hands.reports[-1].figures
    assert (figures["delta_used"], figures["delta_failed"]) == (0.0, 1.0)
    assert world.hands.fetched.count(one.sha256) == world.hands.fetched.count(entry.packed.sha256) == 1


def test_a_delta_that_failed_is_not_tried_again_when_the_line_fails_for_the_whole_file_too(world) -> None:
    """The patch is damaged, and then the line goes: the next attempts, across a restart, ask for the whole file alone."""
    install_base(world)
    one = delta(world, BASE, BETTER)
    world.hands.content[one.sha256] = bytes(one.length_bytes)
    bundle, entry = better(world, one)
    world.hands.refuse[entry.packed.sha256] = Refusal("download", "the line is dead")
    world.assign(bundle)
    world.ticks(2)
    assert world.states()[-1] == "waiting"
    world.restart()
    del world.hands.refuse[entry.packed.sha256]
    world.ticks(10, 60.0)
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert world.hands.fetched.count(one.sha256) == 1
    assert world.hands.reports[-1].figures["delta_failed"] == 1.0


def test_a_delta_of_a_kind_or_a_base_that_this_board_does_not_know_is_passed_over(world) -> None:
    """A later writer's kind of delta, and one from a release that never was here: the whole file, and no failure counted."""
    other = Delta(encoding="bsdiff", base_sha256=sha(b"model.tflite of 1"), sha256="a" * 64, length_bytes=5)
    absent = delta(world, BASE, BETTER)
    bundle, _ = better(world, other, absent)
    world.assign(bundle)
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert "delta_failed" not in world.hands.reports[-1].figures
    assert world.hands.fetched.count(absent.sha256) == 0


def test_old_releases_go_before_the_download_and_the_factorys_stays(world) -> None:
    """A lock was held for months and three releases piled up: they go before bytes are fetched, not after. What runs, what
    ran before it and the factory's stay."""
    for version, counter in (("2", 2), ("3", 3)):
        world.assign(world.publish(version, counter=counter))
        world.ticks()
        world.see(3.0, bright=(60.0, 50.0))
        world.ticks()
    stray = world.folder / "slots" / ("b" * 64)
    stray.mkdir()
    (stray / "left").write_bytes(b"x" * 100)
    (world.folder / "downloads" / "files").mkdir(parents=True, exist_ok=True)
    (world.folder / "downloads" / "files" / ("c" * 64)).write_bytes(b"of another deployment")
    seen = []
    world.hands.cut_at = lambda what: what == "fetch" and seen.append(
        (stray.exists(), (world.folder / "downloads" / "files" / ("c" * 64)).exists())
    )
    world.assign(world.publish("4", counter=4))
    world.ticks()
    assert seen[0] == (False, False)
    assert world.states()[-1] == "trial"
    assert {world.slots.current().manifest.version, world.slots.previous().manifest.version} == {"4", "3"}
    assert world.slots.factory().manifest.version == "1"


def test_on_a_full_card_what_ran_before_makes_room(world, monkeypatch) -> None:
    """The card holds three releases and no fourth. What ran before the present one would go with the switch: it goes earlier."""
    for version, counter in (("2", 2), ("3", 3)):
        world.assign(world.publish(version, counter=counter))
        world.ticks()
        world.see(3.0, bright=(60.0, 50.0))
        world.ticks()
    usage = shutil.disk_usage(world.folder)
    places = lambda: len([p for p in (world.folder / "slots").iterdir() if p.is_dir()])  # noqa: E731
    monkeypatch.setattr(
        "device_agent.update.downloads_disk.shutil.disk_usage",
        lambda path: usage._replace(free=0 if places() > 2 else 10**12),
    )
    world.assign(world.publish("4", counter=4))
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert world.slots.factory().manifest.version == "1"


def test_memory_that_is_not_there_is_waited_for_and_then_refused(world) -> None:
    """The self-test runs beside the model in use: a release whose signed budget does not fit is not even fetched."""
    world.hands.memory_bytes = 100 * 2**20
    world.assign(world.publish("2", budget=Budget(memory_bytes=200 * 2**20)))
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("waiting", "memory")
    assert world.hands.fetched == []
    world.hands.memory_bytes = 300 * 2**20
    world.ticks(3, 30.0)
    assert world.states()[-1] == "trial"


def test_a_metered_line_waits_for_next_month_when_its_budget_is_spent(world) -> None:
    """40 kB a month over a SIM card: the small release comes, the large one waits, visibly, with its end; the account
    survives a restart, and the new month lets it through."""
    world.policy = Policy(metered=True, metered_bytes_per_month=50_000)
    world.restart()
    world.assign(world.publish("2"))
    world.ticks()
    world.see(3.0, bright=(60.0, 50.0))
    world.ticks()
    assert world.runs() == "yard@2"
    world.policy = Policy(metered=True, metered_bytes_per_month=40_080)
    world.restart()
    world.assign(world.publish("3", counter=3, files={"model.tflite": BASE}))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("waiting", "metered")
    assert "40030 are needed" in last.detail
    deployment = world.updater._ledger.state.deployment
    assert deployment.until_s == next_month_s(world.hands.now_s)
    world.hands.now_s = deployment.until_s + 1.0
    world.assign(world.publish("3", counter=3, files={"model.tflite": BASE}))
    world.ticks(3)
    assert world.states()[-1] == "trial", world.hands.reports[-1]


def test_a_metered_line_without_a_budget_fetches_nothing(world) -> None:
    """The owner said that the line costs money, and no more: no byte of an update travels over it."""
    world.policy = Policy(metered=True)
    world.restart()
    world.assign(world.publish("2"))
    world.ticks(3)
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("waiting", "metered")
    assert world.hands.fetched == []


def test_months_end_in_december_too() -> None:
    """31 December, 23:59:59 UTC."""
    end_s = next_month_s(1_798_761_599.0)
    assert (month_of(1_798_761_599.0), month_of(end_s), end_s) == ("2026-12", "2027-01", 1_798_761_600.0)


def test_a_board_at_the_limit_of_its_heat_does_not_begin_and_stop_for_ever(world) -> None:
    """86, 84, 86, 84 degrees: once too hot, it must be five degrees cooler; thirty swings are one wait and no loop."""
    world.hands.temperature = 86.0
    world.assign(world.publish("2"))
    for swing in range(30):
        world.hands.temperature = 84.0 if swing % 2 else 86.0
        world.ticks()
    assert world.states() == ["offered", "waiting"]
    world.hands.temperature = 79.0
    world.ticks()
    assert world.states()[-1] == "trial"


def test_nothing_is_read_twice_by_one_process(world) -> None:
    """Ninety megabytes on a slow card: hashed as they come and as they are unpacked, and not once more on the way to the
    trial. Somebody who takes the memory of that out reads them three times again."""
    entry = packed_entry(world, WORDS)
    world.slots.hashed.read_bytes = 0
    world.assign(world.publish("2", files={"model.tflite": WORDS}, entries={"model.tflite": entry}))
    world.ticks()
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert world.slots.hashed.read_bytes == 0


def test_a_file_that_changed_under_our_hands_is_hashed_again(world) -> None:
    """While the self-test runs the card flips a bit of the staged model, of the same length and with its old time of change
    put back: the switch sees it, for the kernel's own time of change cannot be put back."""
    bundle = world.publish("2")

    def rot() -> None:
        model = world.slots.slot(bundle.sha256).path / "model.tflite"
        found = model.stat()
        while model.stat().st_ctime_ns == found.st_ctime_ns:  # the kernel's clock for it ticks every few milliseconds
            model.write_bytes(b"X" + model.read_bytes()[1:])
            os.utime(model, ns=(found.st_atime_ns, found.st_mtime_ns))

    world.hands.during_selftest = rot
    world.assign(bundle)
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("rolled_back", "hash")
    assert world.runs() == "yard@1"


def test_what_was_hashed_is_remembered_by_identity_and_not_by_name(tmp_path) -> None:
    """Another file under the same name, a longer one, and another process: each is read."""
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"one")
    hashed = Hashed()
    assert (hashed.sha256(file), hashed.sha256(file), hashed.read_bytes) == (sha(b"one"), sha(b"one"), 3)
    other.write_bytes(b"two")
    other.replace(file)
    assert (hashed.known(file), hashed.sha256(file)) == (None, sha(b"two"))
    hashed.record(file, sha(b"two"))
    file.write_bytes(b"longer")
    assert not hashed.is_whole(file, sha(b"two"), 3)
    assert hashed.is_whole(file, sha(b"longer"), 6)
    assert Hashed().known(file) is None
    assert not hashed.is_whole(tmp_path / "missing", sha(b""), 0)
