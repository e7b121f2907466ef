"""Boards are recognised from laid /proc and /sys roots: what a board is must not depend on luck or on privileges."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware.detect_linux import detect, library_error
from hardware.profile import ProfileError, all_profiles, choose_profile, parse_profile

MISSING = "libedgetpu.so.1: cannot open shared object file: No such file or directory"


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pi(root: Path, model: str, memory_kb: int) -> Path:
    return lay(root, {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/serial-number": "10000000abcdef01\0",
        "proc/sys/kernel/arch": "aarch64\n",
        "proc/meminfo": f"MemTotal:       {memory_kb} kB\n",
        "proc/cpuinfo": "".join(f"processor\t: {n}\n" for n in range(4)),
    })  # fmt: skip


def plug_coral(root: Path, speed: str, vendor: str = "18d1", product: str = "9302") -> Path:
    usb = "sys/bus/usb/devices/2-1/"
    return lay(root, {usb + "idVendor": vendor + "\n", usb + "idProduct": product + "\n", usb + "speed": speed + "\n"})


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "rpi-zero-2w"),
        ("Raspberry Pi 4 Model B Rev 1.5", "rpi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "rpi-5"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "unknown"),
    ],
)
def test_a_plain_board_is_what_its_device_tree_says(tmp_path: Path, model: str, profile: str) -> None:
    board = detect(pi(tmp_path, model, 3_884_000), delegate_error=lambda _: "")
    assert (board.profile, board.board_model, board.serial) == (profile, model, "10000000abcdef01")
    assert (board.machine, board.word_bits, board.cores, board.memory_bytes) == ("aarch64", 64, 4, 3_884_000 * 1024)
    assert board.accelerators == ()


def test_a_coral_whose_delegate_is_missing_is_present_but_not_usable(tmp_path: Path) -> None:
    """The stick is in the port, the library was never installed: the inventory must show both facts."""
    root = plug_coral(pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.5", 3_884_000), "5000")
    board = detect(root, delegate_error=lambda _: MISSING)
    assert board.profile == "rpi-4-coral-usb"
    (coral,) = board.accelerators
    assert (coral.kind, coral.present, coral.usable, coral.reason) == ("edgetpu-usb", True, False, f"delegate: {MISSING}")


def test_a_cold_coral_on_a_slow_port_is_found_and_the_port_is_named(tmp_path: Path) -> None:
    root = plug_coral(pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.5", 3_884_000), "480", "1a6e", "089a")
    (coral,) = detect(root, delegate_error=lambda _: "").accelerators
    assert coral.usable
    assert "USB 2" in coral.reason


def test_an_m2_coral_is_found_by_its_driver(tmp_path: Path) -> None:
    root = lay(pi(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", 8_000_000), {"sys/class/apex/apex_0/temp": "41000\n"})
    board = detect(root, delegate_error=lambda _: "")
    assert (board.profile, board.accelerators[0].kind) == ("rpi-5-coral-m2", "edgetpu-pci")


def test_a_pc_without_a_device_tree_is_generic(tmp_path: Path) -> None:
    root = lay(tmp_path, {"proc/sys/kernel/arch": "x86_64\n", "proc/meminfo": "MemTotal: junk\n"})
    board = detect(root, delegate_error=lambda _: "")
    assert (board.profile, board.memory_bytes, board.cores) == ("generic-x86-64", 0, 1)


def test_this_machine_is_recognised_without_privileges() -> None:
    board = detect()
    assert board.memory_bytes > 0
    assert board.machine


def test_a_missing_library_is_explained_in_the_loaders_words() -> None:
    assert "librookery-does-not-exist.so" in library_error("librookery-does-not-exist.so")
    assert library_error("libc.so.6") == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(junk=st.dictionaries(st.sampled_from([
    "proc/device-tree/model", "proc/device-tree/serial-number", "proc/cpuinfo", "proc/meminfo", "etc/os-release",
    "sys/bus/usb/devices/1-1/idVendor", "sys/bus/usb/devices/1-1/idProduct", "sys/bus/usb/devices/1-1/speed",
]), st.binary(max_size=300)))  # fmt: skip
def test_nothing_in_proc_or_sys_can_make_it_fail(tmp_path_factory: pytest.TempPathFactory, junk: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("root")
    for name, data in junk.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    board = detect(root, delegate_error=lambda _: "")
    assert len(board.serial) <= 64
    assert len(board.board_model) <= 100


def test_every_delivered_profile_is_complete_and_found_by_its_own_facts() -> None:
    profiles = all_profiles()
    assert {"rpi-zero-2w", "rpi-4", "rpi-5", "rpi-zero-2w-coral-usb", "rpi-4-coral-usb", "rpi-5-coral-usb", "rpi-5-coral-m2",
            "coral-dev-board", "generic-x86-64"} <= set(profiles)  # fmt: skip
    model = {"rpi-zero-2w": "Raspberry Pi Zero 2 W Rev 1.0", "rpi-4": "Raspberry Pi 4 Model B Rev 1.4",
             "rpi-5": "Raspberry Pi 5 Model B Rev 1.1", "coral": "Freescale i.MX8MQ Phanbell", "generic": ""}  # fmt: skip
    for profile in profiles.values():
        tree = next(text for start, text in sorted(model.items(), reverse=True) if profile.id.startswith(start))
        chosen = choose_profile(tree, profile.machine, profile.accelerator)
        assert chosen is not None
        assert chosen.id == profile.id


def test_a_broken_profile_lists_all_its_faults() -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile("x", 'name = "x"\naccelerator = "gpu"\ncolour = "red"\nmatch_model = "("')
    for word in ("colour", "gpu", "missing key 'cores'", "regular expression", "power_w"):
        assert word in str(caught.value)
