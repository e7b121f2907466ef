"""The ladder's table and its reading of the signs, and the board's buses laid in folders: no process is started here."""

import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.vision import ladder as rows
from device_agent.vision.golden_frame import difference, drawn, kept
from device_agent.vision.ladder import Failure, Ladder, SeenAccelerator, diagnose, warnings, words
from device_agent.vision.usb_linux import reset_port, see_accelerators
from models.card import load_card
from models.inference.types import Detections

YARD = Path(__file__).resolve().parents[3] / "models" / "rendered" / "releases" / "yard-2"
READY = SeenAccelerator("usb", "/s", "/d", "ready", True, True, speed_mbit_s=5000)
COLD = SeenAccelerator("usb", "/s", "/d", "cold", True, True)


def test_every_fault_has_its_rung_with_words_and_a_next_step():
    """A fault that nobody wrote a sentence for would reach a person as a word alone."""
    assert set(rows.RUNGS) == set(get_args(rows.Fault))
    for fault, rung in rows.RUNGS.items():
        assert rung.sentence
        assert rung.next_step
        assert rung.first_wait_s > 0
        assert words(fault).startswith(f"{fault}: ")
        assert len(words(fault, "x" * 10_000)) < 1000, "it travels in a heartbeat"


TRANSFER = "F driver/usb/usb_driver.cc:857] transfer on tag 1 failed. Abort."


@pytest.mark.parametrize(
    ("failure", "seen", "fault"),
    [
        (Failure("delegate_missing", "no such file", True), [READY], "library_missing"),
        (Failure("delegate_failed", "libm.so.6 is a library, but not a TFLite delegate", True), [READY], "library_broken"),
        (Failure("delegate_failed", "lib is there, but gives no accelerator: x", True), [], "absent"),
        (Failure("delegate_failed", "lib is there, but gives no accelerator: x", True), [COLD], "cold"),
        (Failure("delegate_failed", "lib is there, but gives no accelerator: x", True), [READY], "busy"),
        (Failure("delegate_failed", "the Edge TPU did not take m.tflite: y", True), [READY], "not_mapped"),
        (Failure("delegate_failed", "m failed while running", False), [READY], "failed"),
        (Failure("needs_edgetpu", "compiled for an Edge TPU", True), [READY], "wrong_file"),
        (Failure("not_a_model", "no mark", True), [READY], "wrong_file"),
        (Failure("died", TRANSFER, False, 6), [READY], "transfer"),
        (Failure("died", TRANSFER, False, 6, rested_s=60.0), [READY], "idle_rot"),
        (Failure("died", TRANSFER, False, 0), [READY], "transfer"),
        (Failure("died", "HIB Error. hib_error_status = 0x1", False, 11), [READY], "transfer"),
        (Failure("died", "", True, 11), [READY], "library_broken"),
        (Failure("died", "", False, 11), [READY], "crashed"),
        (Failure("died", "", False, 9), [READY], "crashed"),
        (Failure("hung", "", False), [READY], "hang"),
        (Failure("hung", "", True), [COLD], "cold"),
    ],
)
def test_the_signs_are_read_as_they_are_known(failure, seen, fault):
    """Each sign that is known from libedgetpu's source and from its users' threads leads to its row."""
    assert diagnose(failure, seen) == fault


def test_the_interpreters_own_words_are_those_that_are_read():
    """The ladder reads two sentences of the runtime's door; whoever changes them there must change them here."""
    source = (Path(rows.__file__).parents[2] / "models" / "inference" / "interpreter_tflite.py").read_text()
    assert rows._NO_DEVICE_WORDS in source
    assert rows._NO_PLUGIN_WORDS in source


def test_waits_double_to_five_minutes_and_the_port_is_reset_once_after_three():
    """A cable that is broken for good: 2, 4, 8, … 300 s; one reset, not a reset a minute."""
    ladder, now_s, waits, resets = Ladder(), 0.0, [], 0
    for _ in range(12):
        ladder.fell("transfer", "", now_s)
        start_s = now_s
        while (due := ladder.due(now_s, may_reset=True)) != "probe":
            if due == "reset":
                resets += 1
                ladder.was_reset(now_s, 5.0)
            now_s += 0.5
        waits.append(now_s - start_s)
    assert waits[:2] == [2.0, 4.0]
    assert waits[2] == 8.0 + 5.0, "the reset gives it time to come back"
    assert waits[3:7] == [16.0, 32.0, 64.0, 128.0]
    assert max(waits) == waits[-1] == 300.0
    assert resets == 1
    assert Ladder().due(0.0, may_reset=True) == "nothing"


def test_one_that_came_back_and_falls_again_at_once_does_not_begin_anew():
    """A loose cable: it comes back for a minute and is lost again. Only ten good minutes make up for what was."""
    ladder = Ladder()
    ladder.fell("transfer", "", 0.0)
    ladder.came_back(3.0)
    assert not ladder.fallen
    ladder.fell("transfer", "", 60.0)
    assert ladder.due(63.9, may_reset=False) == "nothing"
    assert ladder.due(64.0, may_reset=False) == "probe"
    ladder.came_back(65.0)
    ladder.fell("transfer", "", 65.0 + 600.0)
    assert ladder.due(65.0 + 602.0, may_reset=False) == "probe", "forgotten"


@given(st.lists(st.tuples(st.sampled_from(get_args(rows.Fault)), st.floats(0, 1000), st.booleans()), max_size=40))
def test_whatever_happens_it_is_tried_again_within_five_minutes(story):
    """No order of faults, times and returns leaves an accelerator out for ever, or tries it in a busy loop."""
    ladder, now_s = Ladder(), 0.0
    for fault, passed_s, back in story:
        now_s += passed_s
        ladder.fell(fault, "why", now_s)
        assert ladder.fallen
        assert ladder.due(now_s, may_reset=False) == "nothing"
        assert ladder.due(now_s + 300.0, may_reset=False) == "probe"
        assert ladder.reason((), now_s).startswith(f"{fault}: ")
        if back:
            ladder.came_back(now_s)
            assert ladder.reason((), now_s) == ""


def lay(root, *, product="9302", vendor="18d1", speed="5000", authorized=True):
    device = root / "sys/bus/usb/devices/2-1"
    device.mkdir(parents=True)
    for name, text in {"idVendor": vendor, "idProduct": product, "speed": speed, "busnum": "2", "devnum": "7"}.items():
        (device / name).write_text(text + "\n")
    if authorized:
        (device / "authorized").write_text("1")
    node = root / "dev/bus/usb/002/007"
    node.parent.mkdir(parents=True)
    node.touch()
    return device, node


def test_a_usb_accelerator_is_read_from_the_bus(tmp_path):
    """Cold and ready ids, its speed, its device file; another device on the bus is none of ours."""
    device, node = lay(tmp_path)
    other = tmp_path / "sys/bus/usb/devices/1-1"
    other.mkdir()
    (other / "idVendor").write_text("1d6b\n")
    (seen,) = see_accelerators(tmp_path, holders=True)
    assert (seen.kind, seen.state, seen.speed_mbit_s, seen.sysfs, seen.node) == ("usb", "ready", 5000, str(device), str(node))
    assert (seen.may_open, seen.may_reset, seen.held_by) == (True, True, "")
    assert warnings([seen]) == []
    (refused,) = see_accelerators(tmp_path, accessible=lambda path: "usb" not in str(path) or path.name == "authorized")
    assert (refused.may_open, refused.may_reset) == (False, True)
    (device / "idVendor").write_text("1a6e")
    (device / "idProduct").write_text("089a")
    (device / "speed").write_text("480")
    (cold,) = see_accelerators(tmp_path)
    assert (cold.state, warnings([cold])) == ("cold", ["slow_port"])
    assert see_accelerators(tmp_path / "nowhere") == ()


def test_who_holds_the_accelerator_is_named(tmp_path):
    """Another program has the device open: its name and id are in what a person reads; our own processes are not meant."""
    _, node = lay(tmp_path)
    for pid, name in ((4711, "frigate.detector"), (os.getpid(), "rookery-agent")):
        handles = tmp_path / f"proc/{pid}/fd"
        handles.mkdir(parents=True)
        (handles / "3").symlink_to(node)
        (handles.parent / "comm").write_text(name + "\n")
    (seen,) = see_accelerators(tmp_path, holders=True)
    assert seen.held_by == "frigate.detector (4711)"


def test_the_temperature_of_a_pcie_accelerator_warns_and_ends(tmp_path):
    """Below its trip point all is well, above it is hot, and −87.9 °C means that the device is gone from the bus."""
    apex = tmp_path / "sys/class/apex/apex_0"
    apex.mkdir(parents=True)
    (apex / "trip_point0_temp").write_text("85000\n")
    for milli, expected in (("61500", []), ("85000", ["hot"]), ("-87900", ["dead"]), ("126000", ["dead"]), ("broken", [])):
        (apex / "temp").write_text(milli + "\n")
        (seen,) = see_accelerators(tmp_path)
        assert (seen.kind, seen.trip_c, warnings([seen])) == ("pci", 85.0, expected)


def test_a_port_is_reset_by_taking_its_authorisation_and_giving_it_back(tmp_path):
    """0, then 1, into `authorized`; where that may not be written the reason is told."""
    device, _ = lay(tmp_path)
    (seen,) = see_accelerators(tmp_path)
    assert reset_port(seen) == ""
    assert (device / "authorized").read_text()[0] == "1"
    (device / "authorized").unlink()
    assert "authorized" in reset_port(seen)
    (unplugged,) = see_accelerators(tmp_path)
    assert not unplugged.may_reset


def test_two_sights_of_one_picture_are_compared_by_their_best_boxes():
    """Quantisation moves boxes and scores a little; another label, another place or a missing box is another sight."""
    card = load_card((YARD / "card.toml").read_text())

    def sight(*boxes):
        return Detections.of([box[:4] for box in boxes], [box[4] for box in boxes], [box[5] for box in boxes]), card

    person = (10, 10, 30, 60, 0.9, 0)
    assert difference(sight(person), sight((11, 9, 31, 61, 0.8, 0), (100, 100, 120, 140, 0.5, 1))) == ""
    assert difference(sight(), sight((5, 5, 9, 9, 0.3, 0))) == "", "what would not be reported does not count"
    assert "the CPU alone sees person 0.90 at (10, 10)" in difference(sight(person), sight())
    assert "the CPU alone" in difference(sight(person), sight((10, 10, 30, 60, 0.9, 1)))
    assert "the CPU alone" in difference(sight(person), sight((10, 10, 30, 60, 0.6, 0)))
    assert "the accelerator alone" in difference(sight(), sight(person))


def test_the_picture_that_is_kept_is_small_and_its_own():
    """A 4K frame is not kept whole; a small one is copied, for the camera writes on."""
    assert max(kept(drawn().repeat(12, axis=0).repeat(12, axis=1)).shape) == 640
    small = drawn()
    copy = kept(small)
    small[:] = 0
    assert copy.any()
