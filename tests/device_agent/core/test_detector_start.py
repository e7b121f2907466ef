"""Which detector a board gets: by its memory, its accelerator and its settings; boards are laid in folders, models are real."""

import hashlib
import shutil
import sys
from pathlib import Path

import cv2
import pytest

from device_agent.assemble_eyes import seen_by
from device_agent.detector_start import low_memory, start_detector
from device_agent.errors import BoardError
from device_agent.facts_linux import facts_of
from device_agent.settings import DetectorSection
from device_agent.update.installed import Installed, StandIn
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector
from hardware.detect_linux import detect
from models.golden import LabelledBoxes, make_parity
from models.rendered.scenes import Scene
from ota.bundle.manifest import FileEntry, Golden, Manifest, Variant, encode_manifest
from ota.slots.slots_disk import Slots

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fakes"))

from edgetpu_fake import FakeEdgeTpu, compile_model

YARD = Path(__file__).resolve().parents[3] / "models" / "rendered" / "releases" / "yard-2"
ZERO, PI_4 = ("Raspberry Pi Zero 2 W Rev 1.0", 426 * 1024), ("Raspberry Pi 4 Model B Rev 1.5", 3_900_000)
WAYS = {"zero": ZERO, "pi-4": PI_4}


def lay(root, model, memory_kb, *, coral=False):
    """A board's /proc, /sys and /dev."""
    files = {
        "proc/device-tree/model": f"{model}\0",
        "proc/sys/kernel/arch": "aarch64\n",
        "proc/meminfo": f"MemTotal:       {memory_kb} kB\n",
        "proc/cpuinfo": "processor\t: 0\n",
    }
    if coral:
        usb = "sys/bus/usb/devices/2-1/"
        files |= {usb + "idVendor": "18d1\n", usb + "idProduct": "9302\n", usb + "speed": "480\n", usb + "busnum": "2\n"}
        files |= {usb + "devnum": "5\n", "dev/bus/usb/002/005": ""}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def release(tmp_path):
    """Slots with one real release: for the CPU, for the fake Edge TPU, with a picture that both must see alike."""
    picture = tmp_path / "golden.png"
    cv2.imwrite(str(picture), Scene(1, light="day").frame(6.0).picture_bgr)
    files = {
        "model.tflite": YARD / "model_int8.tflite",
        "tpu.tflite": compile_model(YARD / "model_int8.tflite", tmp_path / "tpu.tflite"),
        "card.toml": YARD / "card.toml",
        "golden.png": picture,
    }
    parity = tmp_path / "parity.json"
    truth = LabelledBoxes.of([[100, 93, 132, 111]], ["animal"], [0.9])
    parity.write_bytes(make_parity([("golden.png", sha256(picture))], [truth], threshold=0.4))
    files["parity.json"] = parity
    common = {"card": "card.toml", "runtimes": ["litert"], "machines": []}
    rest = ["card.toml", "golden.png", "parity.json"]
    variants = [
        Variant(id="tpu", accelerator="edgetpu", model="tpu.tflite", files=["tpu.tflite", *rest], **common),
        Variant(id="cpu", accelerator="cpu", model="model.tflite", files=["model.tflite", *rest], **common),
    ]
    manifest = Manifest(
        name="yard", version="1", channel="stable", counter=1, created_s=1, hardware=["*"], variants=variants,
        files={name: FileEntry(sha256=sha256(path), length_bytes=path.stat().st_size) for name, path in files.items()},
        golden=Golden(parity="parity.json"),
    )  # fmt: skip
    slots = Slots(tmp_path / "slots")
    data = encode_manifest(manifest)
    slots.stage(data, files)
    slots.set_factory(hashlib.sha256(data).hexdigest())
    return slots


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The fake Edge TPU under its real library's name, where the loader finds it."""
    tpu = FakeEdgeTpu(tmp_path / "lib")
    shutil.copyfile(tpu.library, tpu.library.with_name("libedgetpu.so.1"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tpu.library.parent))
    return tpu


@pytest.fixture
def start(release, tmp_path):
    """Starts the detector of a laid board."""
    made = []

    def starter(model, memory_kb, *, coral=False, **settings):
        root = lay(tmp_path / f"board-{len(made)}", model, memory_kb, coral=coral)
        facts = facts_of(detect(root), {"litert": "2.3"})
        detector, installed = start_detector(release, facts, DetectorSection(**settings), root)
        made.append(detector)
        return detector, installed

    yield starter
    for detector in made:
        detector.close()


def shared_frames():
    """Pieces of shared memory for frames that this process holds."""
    links = [str(handle.readlink()) for handle in Path("/proc/self/fd").iterdir() if handle.is_symlink()]
    return sum("rookery-frame" in link for link in links)


def picture():
    return Scene(1, light="day").frame(6.0).picture_bgr


def test_a_zero_2_w_sees_without_a_child_and_without_shared_memory(start) -> None:
    """426 MB visible: one process, one model, no slot for frames; it still sees."""
    detector, installed = start(*ZERO)
    assert isinstance(detector, InProcessDetector)
    assert (installed.variant, shared_frames()) == ("cpu", 0)
    assert len(detector.look(picture()).detections) >= 3
    assert detector.runtime.startswith("ai-edge-litert")


def test_a_board_with_memory_has_a_child_and_two_slots(start) -> None:
    """A Pi 4: the inference lives in a child; two slots for frames, one for the golden picture."""
    detector, _ = start(*PI_4)
    assert isinstance(detector, ProcessDetector)
    assert shared_frames() == 2 + 1
    assert len(detector.look(picture()).detections) >= 3


@pytest.mark.parametrize(("way", "child", "kind"), [("zero", True, ProcessDetector), ("pi-4", False, InProcessDetector)])
def test_what_the_settings_say_stands_over_the_memory(start, way, child, kind) -> None:
    """detector.child in agent.toml is the owner's word."""
    detector, _ = start(*WAYS[way], child=child)
    assert isinstance(detector, kind)


def test_a_zero_2_w_with_an_accelerator_keeps_the_child_with_one_slot(start, library) -> None:
    """Its library may abort its process at any time, so the child stays; the CPU's variant takes over."""
    detector, installed = start(*ZERO, coral=True)
    assert (installed.variant, detector.accelerator, shared_frames()) == ("tpu", "edgetpu", 1 + 1)
    before = detector.look(picture()).detections
    assert detector.golden is not None
    assert detector.golden.shape == picture().shape, "the release's own golden picture"
    library.order("abort-invoke")
    after = detector.look(picture()).detections
    assert detector.accelerator == "cpu"
    assert after.xyxy.tolist() == before.xyxy.tolist()
    assert detector.accelerator_reason.startswith("transfer: ")


def test_an_accelerator_is_not_used_in_the_agents_own_process(start, library) -> None:
    """child = false on a board with a Coral: the CPU's variant runs, and the heartbeat says why."""
    detector, _ = start(*PI_4, coral=True, child=False)
    assert isinstance(detector, InProcessDetector)
    assert (detector.accelerator, detector.accelerator_reason[:10]) == ("cpu", "no_child: ")
    assert library.diary() == []


def test_little_memory_is_told_by_the_kernel_or_else_by_the_profile(tmp_path) -> None:
    """A root without /proc/meminfo: what the board is sold with decides; an unknown board is not taken for a small one."""
    zero = facts_of(detect(lay(tmp_path / "zero", *ZERO)), {})
    pi = facts_of(detect(lay(tmp_path / "pi", *PI_4)), {})
    assert (low_memory(zero), low_memory(pi)) == (True, False)
    (tmp_path / "zero/proc/meminfo").unlink()
    assert low_memory(facts_of(detect(tmp_path / "zero"), {}))
    (tmp_path / "pi/proc/meminfo").unlink()
    (tmp_path / "pi/proc/device-tree/model").write_text("Acme Board")
    assert not low_memory(facts_of(detect(tmp_path / "pi"), {}))


def test_a_model_that_changed_on_the_disk_is_not_opened(start, release) -> None:
    """One bit of the installed model has turned since it was verified: it is still a model, and it is not opened."""
    file = release.factory().path / "model.tflite"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    with pytest.raises(BoardError, match="has the sha256 "):
        start(*PI_4)


def test_a_board_whose_every_release_is_broken_says_each_reason(start, release) -> None:
    """The disk has eaten the model: an error that names place, release and fault, not a stack trace."""
    for name in ("model.tflite", "tpu.tflite"):
        file = release.factory().path / name
        file.chmod(0o600)
        file.write_bytes(b"eaten")
    with pytest.raises(BoardError, match=r"factory \(yard@1\): "):
        start(*PI_4)


def test_an_event_names_the_file_that_answered(tmp_path: Path) -> None:
    """The Edge TPU is lost: the same release's CPU variant answers, and its events say so by another digest."""
    stand_in = StandIn("cpu", tmp_path / "cpu.tflite", tmp_path / "card.toml", 1, "c" * 64)
    installed = Installed(
        "b" * 64, "yard@1", "yard", "1", "edgetpu", "", "edgetpu", tmp_path / "tpu.tflite", tmp_path / "card.toml", 1,
        stand_in, "e" * 64,
    )  # fmt: skip
    assert seen_by(installed, "edgetpu").model_sha256 == "e" * 64
    assert seen_by(installed, "cpu").model_sha256 == "c" * 64
