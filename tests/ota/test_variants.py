"""Which variant a board gets, and the sentence that says why."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.bundle.manifest import FileEntry, Manifest, Variant
from ota.bundle.variants import hardware_problem, resolve
from ota.wire.enrolment import Accelerator, BoardFacts

MIB = 1024 * 1024
ENTRY = FileEntry(sha256="ab" * 32, length_bytes=1)


def variant(name, accelerator="cpu", runtimes=("litert",), **more):
    return Variant(id=name, accelerator=accelerator, runtimes=list(runtimes), model="m", card="c", files=["m", "c"], **more)


def manifest(*variants, hardware=("*",)):
    return Manifest(
        name="yard",
        version="1",
        channel="stable",
        counter=1,
        created_s=1,
        hardware=list(hardware),
        variants=list(variants),
        files={"m": ENTRY, "c": ENTRY},
    )


def board(**facts):
    present = {
        "profile": "rpi-4",
        "board_model": "Raspberry Pi 4",
        "machine": "aarch64",
        "memory_bytes": 2048 * MIB,
        "runtimes": {"litert": "2.1"},
        "python": "3.11",
        "agent_version": "1",
    }
    return BoardFacts(**{**present, **facts})


RELEASE = manifest(variant("edgetpu", "edgetpu"), variant("cpu-int8", min_memory_bytes=128 * MIB), variant("cpu-float32"))


def test_the_accelerator_counts_only_when_its_delegate_loads():
    """The Coral stick is on the bus, its library is not installed: the CPU variant, and the reason in the operator's words."""
    stick = Accelerator(kind="edgetpu-usb", present=True, usable=False, reason="libedgetpu.so.1 is not installed")
    found = resolve(RELEASE, board(accelerators=[stick]))
    assert found.variant.id == "cpu-int8"
    assert found.reason == "accelerator missing, CPU variant cpu-int8 because libedgetpu.so.1 is not installed"
    works = Accelerator(kind="edgetpu-usb", present=True, usable=True)
    assert resolve(RELEASE, board(accelerators=[works])).variant.id == "edgetpu"
    assert resolve(RELEASE, board(accelerators=[stick, works])).variant.id == "edgetpu"


def test_a_board_without_accelerator_is_told_what_was_passed_over():
    found = resolve(RELEASE, board())
    assert found.variant.id == "cpu-int8"
    assert found.reason == "cpu-int8 fits; passed over edgetpu: no Edge TPU on this board"


def test_an_impossible_board_hears_every_reason():
    found = resolve(
        manifest(
            variant("edgetpu", "edgetpu"), variant("cpu-int8", min_memory_bytes=128 * MIB), variant("arm", machines=["aarch64"])
        ),
        board(memory_bytes=64 * MIB, machine="riscv64"),
    )
    assert found.variant is None
    assert found.reason == (
        "no variant fits: edgetpu: no Edge TPU on this board; cpu-int8: needs 128 MiB, board has 64; "
        "arm: built for aarch64, board is riscv64"
    )


@pytest.mark.parametrize(
    ("change", "facts", "problem"),
    [
        ({"runtimes": ["tflite-runtime"]}, {}, "needs tflite-runtime, board has litert"),
        ({}, {"runtimes": {}}, "needs litert, board has none"),
        ({"profiles": ["rpi-5"]}, {}, "meant for rpi-5, board profile is rpi-4"),
        ({"machines": ["x86_64", "armv7l"]}, {}, "built for x86_64 or armv7l, board is aarch64"),
    ],
)
def test_each_constraint(change, facts, problem):
    found = resolve(manifest(msgspec.structs.replace(variant("only"), **change)), board(**facts))
    assert found.variant is None
    assert found.reason == f"no variant fits: only: {problem}"


def test_hardware():
    assert hardware_problem(RELEASE, board()) is None
    assert hardware_problem(manifest(variant("a"), hardware=["rpi-4"]), board()) is None
    assert "rpi-4 is not among" in hardware_problem(manifest(variant("a"), hardware=["rpi-5"]), board())


boards = st.builds(
    board,
    machine=st.sampled_from(["aarch64", "armv7l", "x86_64"]),
    memory_bytes=st.integers(0, 4096 * MIB),
    runtimes=st.dictionaries(st.sampled_from(["litert", "tflite-runtime"]), st.just("1"), max_size=2),
    accelerators=st.lists(
        st.builds(Accelerator, kind=st.sampled_from(["edgetpu-usb", "edgetpu-pci"]), present=st.booleans(), usable=st.booleans()),
        max_size=2,
    ),
)
variants = st.builds(
    variant,
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["edgetpu", "cpu"]),
    st.lists(st.sampled_from(["litert", "tflite-runtime"]), min_size=1, max_size=2),
    machines=st.lists(st.sampled_from(["aarch64", "armv7l"]), max_size=2),
    min_memory_bytes=st.integers(0, 4096 * MIB),
)


@given(boards, st.lists(variants, min_size=1, max_size=4, unique_by=lambda one: one.id))
@settings(max_examples=120, deadline=None)
def test_the_first_that_fits_alone_is_the_one_that_is_chosen(facts, listed):
    """Preference is the manifest's order and nothing else: what is chosen fits alone, an earlier one does not."""
    found = resolve(manifest(*listed), facts)
    alone = [one for one in listed if resolve(manifest(one), facts).variant is not None]
    assert found.variant == (alone[0] if alone else None)
    assert found.reason
    if found.variant is None:
        assert all(f"{one.id}: " in found.reason for one in listed)
    elif found.variant.accelerator == "edgetpu":
        assert any(one.present and one.usable for one in facts.accelerators)
