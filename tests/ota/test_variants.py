"""Which variant a board gets, and the sentence that says why."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.bundle.manifest import FileEntry, Manifest, Variant
from ota.bundle.variants import explain, hardware_problem, resolve
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


@pytest.mark.parametrize(
    ("change", "facts", "problem"),
    [
        ({"word_bits": 64}, {"word_bits": 32}, "built for a 64-bit userland, board's has 32 bits"),
        ({"word_bits": 32}, {}, "built for a 32-bit userland, board's has 64 bits"),
        ({"word_bits": 32}, {"word_bits": 32}, None),
        ({"word_bits": 32, "machines": ["aarch64"]}, {"word_bits": 32}, None),
        ({"machines": ["armv7l"]}, {"word_bits": 32}, None),
        ({"machines": ["aarch64"]}, {"word_bits": 32},
         "built for aarch64, board is aarch64 with a 32-bit userland, which runs armv7l"),
        ({"machines": ["armv7l"]}, {}, "built for armv7l, board is aarch64"),
    ],
)  # fmt: skip
def test_a_64_bit_kernel_may_run_a_32_bit_userland(change, facts, problem):
    """Raspberry Pi OS, 32 bits, boots a 64-bit kernel on a Pi 4: the kernel says aarch64, the interpreter is armv7l."""
    found = resolve(manifest(msgspec.structs.replace(variant("only"), **change)), board(**facts))
    assert found.reason == (f"no variant fits: only: {problem}" if problem else "only is the release's first choice and fits")


def agent(*built):
    return Manifest(
        kind="agent", name="agent", version="1", channel="stable", counter=1, created_s=1, hardware=["*"], files={"a.whl": ENTRY},
        variants=[Variant(id=f"{abi}-{machine}", abi=abi, machines=[machine], files=["a.whl"]) for abi, machine in built],
    )  # fmt: skip


def test_an_agent_is_built_for_one_python():
    """Bookworm has 3.11, Trixie 3.13: each board gets its wheels, told by the agent or read from the version."""
    release = agent(("cp311", "aarch64"), ("cp313", "aarch64"), ("cp311", "armv7l"))
    assert resolve(release, board()).variant.id == "cp311-aarch64"
    assert resolve(release, board(python="3.13.2")).variant.id == "cp313-aarch64"
    assert resolve(release, board(python="3.11", abi="cp313")).variant.id == "cp313-aarch64"
    assert resolve(release, board(word_bits=32)).variant.id == "cp311-armv7l"
    none = resolve(release, board(python="3.12"))
    assert none.variant is None
    assert "cp313-aarch64: built for Python cp313, board has cp312" in none.reason
    assert resolve(release, board(python="odd")).variant is None


def test_every_variant_is_explained():
    """Not only those before the chosen one: a person asks why not the other."""
    said = [(one.variant.id, one.fits, one.chosen, one.words) for one in explain(RELEASE, board())]
    assert said == [
        ("edgetpu", False, False, "no Edge TPU on this board"),
        ("cpu-int8", True, True, "chosen: the first that fits"),
        ("cpu-float32", True, False, "fits too, but comes after cpu-int8"),
    ]


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
    assert [one.variant for one in explain(manifest(*listed), facts) if one.chosen] == alone[:1]
    assert [one.variant for one in explain(manifest(*listed), facts) if one.fits] == alone
    if found.variant is None:
        assert all(f"{one.id}: " in found.reason for one in listed)
    elif found.variant.accelerator == "edgetpu":
        assert any(one.present and one.usable for one in facts.accelerators)
