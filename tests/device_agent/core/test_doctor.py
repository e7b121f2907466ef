"""The doctor: each fault is laid, must be found by its name, and must come with what to do. A healthy board is told to be one."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.__main__ import main
from device_agent.doctor import Finding, exit_code, report
from device_agent.doctor_board_linux import (
    look_at_accelerators,
    look_at_board,
    look_at_clock,
    look_at_heat,
    look_at_memory,
    look_at_power,
)
from device_agent.doctor_disk import agent_runs, look_at_disk, look_at_factory, look_at_identity, look_at_policy
from device_agent.doctor_link_http import look_at_link
from device_agent.doctor_linux import examine, look_at_camera, look_at_cameras, look_at_runtime
from device_agent.link.identity_x509 import IdentityStore
from device_agent.own_folder_disk import open_folder, read_settings
from device_agent.settings import CameraSection, ServerSection
from ota.bundle.manifest import Manifest, Variant
from ota.bundle.writer_disk import file_entry, write_bundle
from ota.wire.enrolment import EnrolAnswer
from tests.fakes.device_door_fake import Authority, DeviceDoor

DEADLINE_S = 60.0


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Board:
    """A healthy board: a tree with /proc, /sys, /run, /dev of a Pi 5, and its agent.toml. Each test breaks one thing."""

    def __init__(self, folder, url="https://127.0.0.1:1", ca_file="ca.pem"):
        self.folder, self.root = folder, folder / "board"
        write(self.root / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        memory = "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\nCmaTotal: 262144 kB\nCmaFree: 200000 kB\n"
        write(self.root / "proc/meminfo", memory)
        write(self.root / "proc/mounts", "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n")
        write(self.root / "proc/sys/kernel/arch", "aarch64\n")
        write(self.root / "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
        write(self.root / "sys/class/thermal/thermal_zone0/temp", "52000\n")
        write(self.root / "sys/class/hwmon/hwmon0/name", "rpi_volt\n")
        write(self.root / "sys/class/hwmon/hwmon0/in0_lcrit_alarm", "0\n")
        self.throttled(0)
        write(self.root / "run/systemd/timesync/synchronized", "")
        (self.root / "run/systemd/system").mkdir(parents=True)
        write(self.root / "sys/block/mmcblk0/device/life_time", "0x01 0x02\n")
        write(self.root / "sys/block/mmcblk0/device/pre_eol_info", "0x01\n")
        write(self.root / "sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
        write_factory(folder / "bundle.rookery")
        write(folder / "root.json", "{}")
        claim = write(folder / "claim", "claim-token-0123456789abcdef")
        claim.chmod(0o600)
        self.policy = write(folder / "policy.toml", 'channels = ["stable"]\n')
        self.policy.chmod(0o644)
        (folder / "data").mkdir()
        self.lines = {
            "agent": f'data_dir = "data"\nboard_root = "{self.root}"',
            "server": f'url = "{url}"\nca_file = "{ca_file}"\nclaim_file = "claim"',
            "factory": 'bundle = "bundle.rookery"\nroot = "root.json"',
            "[camera]": 'name = "yard"\nsource = "rendered:7:day"',
        }

    @property
    def config(self):
        text = 'policy = "policy.toml"\n' + "".join(f"[{name}]\n{body}\n" for name, body in self.lines.items())
        return write(self.folder / "agent.toml", text)

    @property
    def settings(self):
        return read_settings(self.config)

    def throttled(self, bits):
        write(self.root / "sys/devices/platform/soc/soc:firmware/get_throttled", f"{bits:x}\n")

    def usb(self, vendor="18d1", product="9302", speed="5000", authorized="1", node=True):
        device = self.root / "sys/bus/usb/devices/2-1"
        for name, value in (("idVendor", vendor), ("idProduct", product), ("speed", speed), ("authorized", authorized),
                            ("busnum", "2"), ("devnum", "3")):  # fmt: skip
            write(device / name, value + "\n")
        if node:
            write(self.root / "dev/bus/usb/002/003", "")

    def apex(self, temp="45000", node=True):
        write(self.root / "sys/class/apex/apex_0/temp", temp + "\n")
        write(self.root / "sys/class/apex/apex_0/trip_point0_temp", "85000\n")
        if node:
            write(self.root / "dev/apex_0", "")


def write_factory(path):
    files = {"model.tflite": b"model", "card.toml": b"card"}
    variant = Variant(
        id="cpu", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml", threads=1, files=list(files)
    )
    manifest = Manifest(
        name="yard", version="1", channel="stable", counter=1, created_s=1, hardware=["*"], labels=["person", "cart"],
        variants=[variant], files={name: file_entry(data) for name, data in files.items()},
    )  # fmt: skip
    write_bundle(path, manifest, files)


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def is_well(finding):
    return finding.state == "ok" and not finding.code


def is_told(finding, code, *advice, state="bad"):
    """The fault has its name, words of what was found, and one sentence of what to do."""
    assert (finding.code, finding.state) == (code, state), finding
    assert finding.detail
    assert len(finding.advice) > 10
    assert "\n" not in finding.advice
    for words in advice:
        assert words in finding.advice
    return True


# -- accelerator ---------------------------------------------------------------------------------------------------------


def here(library):
    return ""


def test_a_board_without_an_accelerator_and_one_with_a_good_one(board):
    """None is no fault; one on USB 3 is ready; one that never worked since the start has its firmware still to come."""
    assert is_well(look_at_accelerators(board.root, here)[0])
    board.usb()
    (found,) = look_at_accelerators(board.root, here)
    assert is_well(found)
    assert "ready" in found.detail
    board.usb("1a6e", "089a")
    assert "first use" in look_at_accelerators(board.root, here)[0].detail


def test_a_usb_accelerator_on_a_slow_port(board):
    """USB 2: three times slower, and nothing says so."""
    board.usb(speed="480")
    assert is_told(look_at_accelerators(board.root, here)[0], "usb2", "USB 3")


def test_a_usb_accelerator_that_may_not_be_opened_or_is_switched_off(board):
    """No udev rule; and a port that somebody switched off."""
    board.usb()
    assert is_told(look_at_accelerators(board.root, here, lambda path: False)[0], "permission", "plugdev", "udev")
    board.usb(node=False)
    (board.root / "dev/bus/usb/002/003").unlink()
    assert is_told(look_at_accelerators(board.root, here)[0], "permission")
    board.usb(authorized="0")
    assert is_told(look_at_accelerators(board.root, here)[0], "not_authorized", "authorized")


def test_the_accelerators_library_is_missing(board):
    """The stick is there and nobody installed libedgetpu."""
    board.usb()
    findings = look_at_accelerators(board.root, lambda library: f"{library}: cannot open shared object file")
    assert is_well(findings[0])
    assert is_told(findings[1], "library_missing", "libedgetpu")


def test_an_accelerator_in_the_slot(board):
    """Good; too hot; dead (it reads -87.9 °C); not to be opened; without a driver after a kernel update."""
    board.apex()
    assert is_well(look_at_accelerators(board.root, here)[0])
    board.apex("91000")
    assert is_told(look_at_accelerators(board.root, here)[0], "hot", "heat sink")
    board.apex("-87900")
    assert is_told(look_at_accelerators(board.root, here)[0], "dead", "seat")
    board.apex()
    (board.root / "dev/apex_0").unlink()
    assert is_told(look_at_accelerators(board.root, here)[0], "permission", "apex")


def test_a_driver_that_a_kernel_update_broke(board):
    """The module is in the slot, and the kernel has no driver for it any more."""
    write(board.root / "sys/bus/pci/devices/0000:01:00.0/vendor", "0x1ac1\n")
    write(board.root / "sys/bus/pci/devices/0000:01:00.0/device", "0x089a\n")
    assert is_told(look_at_accelerators(board.root, here)[0], "driver_missing", "gasket-dkms")


# -- power, heat, memory, clock ------------------------------------------------------------------------------------------


def test_power(board):
    """Under-voltage now, since boot, by the monitor alone; slowed now; slowed before; a board that does not say."""
    assert is_well(look_at_power(board.root))
    for bits, code, state in (
        (0x1, "under_voltage", "bad"), (0x50005, "under_voltage", "bad"), (0x10000, "under_voltage_before", "bad"),
        (0x4, "throttled", "bad"), (0x2, "throttled", "bad"), (0x40000, "throttled_before", "note"),
    ):  # fmt: skip
        board.throttled(bits)
        assert is_told(look_at_power(board.root), code, state=state)
    board.throttled(0)
    write(board.root / "sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n")
    assert is_told(look_at_power(board.root), "under_voltage", "power supply")
    assert is_well(look_at_power(board.folder / "nothing"))


def test_heat(board):
    """85 °C in a closed box in the sun."""
    assert is_well(look_at_heat(board.root))
    write(board.root / "sys/class/thermal/thermal_zone0/temp", "85000\n")
    assert is_told(look_at_heat(board.root), "hot", "fan")
    assert is_well(look_at_heat(board.folder / "nothing"))


def test_memory_and_the_cameras_own(board):
    """40 MiB left; and a sensor whose buffers find no contiguous memory after many restarts. Without one that is nobody's."""
    assert all(map(is_well, look_at_memory(board.root, sensor=True)))
    write(board.root / "proc/meminfo", "MemTotal: 400000 kB\nMemAvailable: 40000 kB\nCmaTotal: 65536 kB\nCmaFree: 1000 kB\n")
    memory, cma = look_at_memory(board.root, sensor=True)
    assert is_told(memory, "memory", "detector.child")
    assert is_told(cma, "cma", "cma-256")
    assert len(look_at_memory(board.root, sensor=False)) == 1


def test_the_clock(board):
    """A Pi that woke in 1970; one that no time server has set; one set by chrony; one without systemd."""
    data, now_s = board.folder / "data", 1_800_000_000.0
    assert is_well(look_at_clock(board.root, data, now_s))
    write(data / "state/clock", f"{now_s + 90 * 86400:.0f}\n")
    found = look_at_clock(board.root, data, now_s)
    assert is_told(found, "clock_behind", "time server")
    assert "90.0 days" in found.detail
    write(data / "state/clock", f"{now_s - 60:.0f}\n")
    (board.root / "run/systemd/timesync/synchronized").unlink()
    assert is_told(look_at_clock(board.root, data, now_s), "not_synchronised", "set-ntp", state="note")
    write(board.root / "run/chrony/chronyd.pid", "7\n")
    assert is_well(look_at_clock(board.root, data, now_s))


def test_an_unknown_board_runs_all_the_same(board):
    """A board that no profile describes: worth knowing, no fault."""
    assert is_well(look_at_board(board.root))
    write(board.root / "proc/device-tree/model", "Frobnicator 9000\0")
    assert is_told(look_at_board(board.root), "unknown_board", state="note")


# -- disk, identity, policy ----------------------------------------------------------------------------------------------


def codes(findings):
    return {finding.code for finding in findings}


def test_a_full_disk(board):
    """More is to stay free than there is."""
    assert all(map(is_well, look_at_disk(board.settings)))
    board.lines["spool"] = f"min_free_bytes = {2**40}"
    (found,) = look_at_disk(board.settings)
    assert is_told(found, "full", "free some space")


def test_no_room_for_names(board):
    """Plenty of bytes, no inodes."""
    real = os.statvfs(board.folder)
    fields = list(real)
    fields[7] = 12  # f_favail
    (found,) = look_at_disk(board.settings, lambda path: os.statvfs_result(fields))
    assert is_told(found, "inodes", "small files")


def test_a_disk_that_the_kernel_made_read_only(board):
    """An SD card that fails: the kernel mounts it read-only and the board goes on as if nothing were."""
    write(board.root / "proc/mounts", f"/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/sda1 {board.folder} ext4 ro,relatime 0 0\n")
    assert is_told(look_at_disk(board.settings)[0], "read_only", "replace")


def test_a_folder_that_cannot_be_written(board):
    """A place where even root cannot make a file; and a data folder that is a file."""
    board.lines["agent"] = f'data_dir = "/proc/rookery"\nboard_root = "{board.root}"'
    assert "not_writable" in codes(look_at_disk(board.settings))
    write(board.folder / "file", "")
    board.lines["agent"] = f'data_dir = "file"\nboard_root = "{board.root}"'
    assert is_told(look_at_disk(board.settings)[0], "not_a_folder")


def test_a_worn_disk_and_a_broken_file_system(board):
    """Flash at the end of its life, its reserve used up, and errors that the kernel counted."""
    write(board.root / "sys/block/mmcblk0/device/life_time", "0x0b 0x01\n")
    assert is_told(look_at_disk(board.settings)[0], "worn", "replace")
    write(board.root / "sys/block/mmcblk0/device/life_time", "0x01 0x01\n")
    write(board.root / "sys/block/mmcblk0/device/pre_eol_info", "0x03\n")
    assert codes(look_at_disk(board.settings)) == {"worn"}
    write(board.root / "sys/block/mmcblk0/device/pre_eol_info", "0x01\n")
    write(board.root / "sys/fs/ext4/mmcblk0p2/errors_count", "3\n")
    assert is_told(look_at_disk(board.settings)[0], "file_system", "fsck")


def enrolled(board, days=90.0):
    authority = Authority()
    store = IdentityStore(board.folder / "data" / "identity")
    store.request("serial")
    key = serialization.load_pem_private_key((board.folder / "data/identity/a/key.pem").read_bytes(), None)
    answer = EnrolAnswer(status="accepted", device="cam-7", certificate_pem=authority.sign(key.public_key(), "cam-7", days=days),
                         chain_pem=authority.pem)  # fmt: skip
    store.keep_answer(answer)
    store.adopt()
    return board.folder / "data/identity/a"


def test_an_identity_and_what_can_be_wrong_with_it(board):
    """No claim; a claim that everybody may read; enrolled; a key that others may read; a certificate that ended; a cut key."""
    now_s = time.time()
    assert all(map(is_well, look_at_identity(board.settings, now_s)))
    (board.folder / "claim").chmod(0o644)
    assert is_told(look_at_identity(board.settings, now_s)[1], "mode", "chmod 600", state="note")
    (board.folder / "claim").unlink()
    assert is_told(look_at_identity(board.settings, now_s)[0], "no_claim", "claim")
    place = enrolled(board)
    assert all(map(is_well, look_at_identity(board.settings, now_s)))
    (place / "key.pem").chmod(0o640)
    assert is_told(look_at_identity(board.settings, now_s)[0], "mode", "chmod 600")
    (place / "key.pem").chmod(0o600)
    assert is_told(look_at_identity(board.settings, now_s + 100 * 86400)[0], "expired", "start the agent")
    (place / "key.pem").write_text("half a k")
    assert is_told(look_at_identity(board.settings, now_s)[0], "broken", "enrol again")


def test_the_policy(board):
    """Valid; missing; with an unknown key; one that everybody may write."""
    assert is_well(look_at_policy(board.settings))
    board.policy.chmod(0o666)
    assert is_told(look_at_policy(board.settings), "mode", "chmod 644")
    board.policy.chmod(0o644)
    board.policy.write_text("live_veiw = true\n")
    found = look_at_policy(board.settings)
    assert is_told(found, "invalid", "correct")
    assert "live_veiw" in found.detail
    board.policy.unlink()
    assert look_at_policy(board.settings).code == "invalid"
    config = board.config
    config.write_text(config.read_text().replace('policy = "policy.toml"\n', ""))
    assert is_told(look_at_policy(read_settings(config)), "missing", state="note")


def test_what_the_board_falls_back_to(board):
    """The factory bundle was not copied."""
    assert is_well(look_at_factory(board.settings))
    (board.folder / "bundle.rookery").unlink()
    assert is_told(look_at_factory(board.settings), "missing", "provisioning")
    write(board.folder / "bundle.rookery", "half a bun")
    assert is_told(look_at_factory(board.settings), "broken", "again")


def test_a_rule_for_a_class_that_no_release_knows_is_told(board):
    """A slip of the pen, "persn": the zone would be silent for ever, and nobody would know."""
    board.lines["[zone]"] = 'camera = "yard"\nname = "till"\nclasses = ["persn"]'
    assert is_told(look_at_factory(board.settings), "unknown_class", "person")


# -- link ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls_server(authority, folder, *, days=90.0, hosts=("127.0.0.1",)):
    """A real TLS server that shakes hands and hangs up."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(folder / "server.key", pem.decode())
    write(folder / "server.pem", authority.sign(key.public_key(), "server", days=days, hosts=hosts))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with answering(lambda client: context.wrap_socket(client, server_side=True).close()) as port:
        yield port


@contextlib.contextmanager
def answering(what):
    """A server on a free port that does something with each connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(DEADLINE_S)
                what(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(DEADLINE_S)


def server(url, ca_file):
    return ServerSection(url=url, ca_file=ca_file)


def test_a_server_that_is_well_and_one_whose_clock_is_another(tmp_path):
    """The real device door answers; then its clock is an hour ahead of the board's."""
    with DeviceDoor(tmp_path / "door") as door:
        found = look_at_link(server(door.url, door.ca_file))
        assert is_well(found), found
        door.state.clock = lambda: time.time() + 3600
        found = look_at_link(server(door.url, door.ca_file))
        assert is_told(found, "clock_skew", "time server")
        assert "behind" in found.detail
        door.state.away = True
        assert is_told(look_at_link(server(door.url, door.ca_file)), "no_answer")


def test_certificates_that_are_not_the_servers(tmp_path):
    """Another authority's (somebody stands between), one that ended, one for another address."""
    ours, theirs = Authority("ours"), Authority("theirs")
    ca_file = write(tmp_path / "ca.pem", ours.pem)
    for authority, how, code, words in (
        (theirs, {}, "certificate", "stands between"),
        (ours, {"days": -0.02}, "certificate_dates", "clock"),
        (ours, {"hosts": ("10.9.8.7",)}, "certificate_name", "server.url"),
    ):
        with tls_server(authority, tmp_path, **how) as port:
            assert is_told(look_at_link(server(f"https://127.0.0.1:{port}", ca_file)), code, words)


def test_no_tls_no_port_no_name_no_authority(tmp_path):
    """Plain HTTP behind the port; nobody behind it; a name that nobody knows; a pinned file that is missing."""
    ca_file = write(tmp_path / "ca.pem", Authority().pem)
    with answering(lambda client: (client.recv(10), client.sendall(b"HTTP/1.0 400 No\r\n\r\n"))) as port:
        assert is_told(look_at_link(server(f"https://127.0.0.1:{port}", ca_file)), "tls", "TLS")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it, and nobody answers
        assert is_told(look_at_link(server(f"https://127.0.0.1:{free.getsockname()[1]}", ca_file)), "tcp", "port")
    assert is_told(look_at_link(server("https://rookery.invalid:8443", ca_file)), "dns", "DNS")
    assert is_told(look_at_link(server("https://127.0.0.1:1", tmp_path / "none.pem")), "ca_file", "authority")


# -- runtime and cameras -------------------------------------------------------------------------------------------------


def test_a_runtime_that_imports_and_does_not_build(tmp_path, monkeypatch):
    """numpy 2 beside tflite-runtime: the import works, the interpreter does not. And the runtime of this environment does."""
    for package in ("ai_edge_litert", "tflite_runtime"):
        write(tmp_path / package / "__init__.py", "")
        broken = "class Interpreter:\n    def __init__(self, *a, **k):\n        raise SystemError('_ARRAY_API not found')\n"
        write(tmp_path / package / "interpreter.py", broken)
    assert is_well(look_at_runtime())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = look_at_runtime()
    assert is_told(found, "no_runtime", "numpy")


def test_cameras(tmp_path):
    """A drawn one is well; a film that is missing, one that is no film, one that is black: each by its name."""
    assert is_well(look_at_camera(CameraSection(name="yard", source="rendered:7:day")))
    assert is_told(look_at_camera(CameraSection(name="gate", source=f"film:{tmp_path / 'none.mp4'}")), "missing", "path")
    write(tmp_path / "text.mp4", "this is no film")
    assert look_at_camera(CameraSection(name="gate", source=f"film:{tmp_path / 'text.mp4'}")).state == "bad"
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    found = look_at_camera(CameraSection(name="gate", source=f"pictures:{tmp_path / 'pictures'}", pacing="recorded"))
    assert is_told(found, "black", "cap")
    assert is_told(look_at_camera(CameraSection(name="gate", source="opencv:/dev/video97")), "missing", "video")


def test_a_running_agent_keeps_its_cameras(board):
    """The agent runs: the doctor does not fight with it for the sensor."""
    assert not agent_runs(board.settings)
    with contextlib.ExitStack() as stack:
        open_folder(board.folder / "data", stack)
        assert agent_runs(board.settings)
        (found,) = look_at_cameras(board.settings)
        assert is_well(found)
        assert "the agent runs" in found.detail


# -- the whole -----------------------------------------------------------------------------------------------------------


def test_a_healthy_board_is_told_to_be_one(tmp_path, capsys):
    """Everything in place and a real server: exit code 0, no advice."""
    with DeviceDoor(tmp_path / "door") as door:
        made = Board(tmp_path / "pi", door.url, door.ca_file)
        assert main(["doctor", "--config", str(made.config)]) == 0
    said = capsys.readouterr().out
    assert said.endswith("all is well\n")
    assert "→" not in said
    for what in ("policy", "board", "runtime", "accelerator", "power", "heat", "memory", "disk", "clock", "factory", "identity",
                 "server", "camera yard"):  # fmt: skip
        assert f"✓ {what}" in said


def test_many_faults_at_once_and_for_a_program(tmp_path, capsys):
    """A USB 2 stick, under-voltage, no server, no claim: all of them in one run, as JSON too; exit code 5."""
    made = Board(tmp_path / "pi", ca_file=write(tmp_path / "ca.pem", Authority().pem))
    made.usb(speed="480")
    made.throttled(0x50001)
    (made.folder / "claim").unlink()
    assert main(["doctor", "--config", str(made.config), "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    found = {(one["what"], one["code"]) for one in told["findings"] if one["state"] == "bad"}
    wanted = {("accelerator", "usb2"), ("power", "under_voltage"), ("server", "tcp"), ("identity", "no_claim")}
    assert wanted <= found
    assert all(one["advice"] for one in told["findings"] if one["state"] == "bad")


def test_settings_that_cannot_be_read_are_the_only_finding(tmp_path, capsys):
    """Nothing else can be looked at without them."""
    config = write(tmp_path / "agent.toml", "[agent]\ndata_dri = 3\n")
    (only,) = examine(config)
    assert is_told(only, "settings", "correct")
    assert main(["doctor", "--config", str(config)]) == 5
    assert "data_dri" in capsys.readouterr().out


def test_it_changes_nothing(tmp_path):
    """A look is a look: the same files with the same times before and after."""
    made = Board(tmp_path / "pi", ca_file=write(tmp_path / "ca.pem", Authority().pem))
    config = made.config

    def files():
        return {path: path.stat().st_mtime_ns for path in made.folder.rglob("*") if path.is_file()}

    before = files()
    examine(config)
    assert files() == before


def test_the_command_says_it_without_a_trace(tmp_path):
    """As a person runs it: a settings file that is not there."""
    done = subprocess.run(
        [sys.executable, "-m", "device_agent", "doctor", "--config", str(tmp_path / "none.toml")],
        capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 5
    assert "cannot be read" in done.stdout
    assert "Traceback" not in done.stderr


def test_notes_are_no_faults():
    """Something worth knowing prints its advice and fails nothing."""
    findings = [Finding("clock", "note", "no time server", "switch it on", "not_synchronised")]
    assert exit_code(findings) == 0
    assert "→ switch it on" in report(findings, as_json=False)
