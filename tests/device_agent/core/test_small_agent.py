"""The agent stays small: what it must not load at rest, numpy's late parts, one heap, and how memory is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tests.bench.cpu_linux import alone_bytes, pss_bytes  # noqa: E402  # tests are no package where pytest runs them

NEVER_AT_REST = (
    "asyncio", "multiprocessing", "unittest", "statistics", "difflib", "zoneinfo", "paho", "models.rendered.scenes",
    "models.inference.decode", "flask", "sqlalchemy", "httpx", "rich",
)  # fmt: skip
"""Loaded by whoever uses them, if anybody does: each is a part of a megabyte to several of every board."""
NEVER_IN_THE_CHILD = ("cv2", "argparse", "subprocess", "zipfile", "ssl", "msgspec", "urllib3", "cryptography", "logging")
LATE = ("numpy.random", "numpy.ma", "numpy.polynomial", "numpy.fft", "numpy.ctypeslib")


def said_by(code):
    """What a Python of its own prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


def loaded_with(*modules):
    """The modules that really ran after these were imported by a light process; late ones that nobody touched did not."""
    return set(said_by(
        "import importlib, json, sys\nsys.modules.update(boto3=None, pkcs11=None, asn1crypto=None)  # as on a board\n"
        "from device_agent.vision.light_numpy import lighten\n"
        f"lighten()\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps([n for n, m in list(sys.modules.items()) if m is not None and 'Lazy' not in type(m).__name__]))"
    ))  # fmt: skip


def test_the_agent_at_rest_holds_nothing_that_it_may_never_use():
    """Somebody imports a module for one line of a message, and every board of every fleet carries it from then on."""
    loaded = loaded_with("device_agent.assemble", "device_agent.supervise")
    assert {"numpy", "cv2", "ssl"} <= loaded
    assert sorted(loaded & set(NEVER_AT_REST)) == []
    assert sorted(loaded & set(LATE)) == []


def test_the_inference_child_holds_a_runtime_and_little_else():
    """The child pays for each module a second time."""
    loaded = loaded_with("device_agent.vision.detector_child_linux", "device_agent.vision.open_model_tflite")
    assert "numpy" in loaded
    assert sorted(loaded & {*NEVER_IN_THE_CHILD, *LATE}) == []


def test_a_late_part_of_numpy_is_there_for_whoever_uses_it():
    """A library that we load one day draws random numbers: it gets them, and so does all the rest of numpy."""
    assert said_by(
        "import json\nfrom device_agent.vision.light_numpy import lighten\nlighten()\nlighten()\nimport numpy as np\n"
        "from numpy import ma\nfrom numpy.random import default_rng\n"
        "drawn = default_rng(1).integers(5, size=3).tolist()\n"
        "print(json.dumps([len(drawn), int(np.fft.fft([1, 0]).real.sum()), int(ma.array([1, 2], mask=[0, 1]).sum()),\n"
        "  float(np.polynomial.Polynomial([1, 2])(2.0)), int(np.random.RandomState(0).randint(1))]))"
    ) == [3, 2, 1, 5.0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the kernel's pages")
def test_memory_is_counted_as_if_nobody_else_were_there(tmp_path):
    """A stranger maps the same file: the kernel's PSS of our process falls, ours stays; and a file that two of ours map
    counts once, what each wrote to twice.
    """
    file_bytes = 8 * 1024 * 1024
    shared = tmp_path / "library"
    shared.write_bytes(os.urandom(file_bytes))
    code = (
        "import mmap, sys\nwith open(sys.argv[1], 'rb') as file: pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        f"own = b'x' * {file_bytes}\nsum(pages[::4096])\nprint('ready', flush=True)\nsys.stdin.read()"
    )

    def mapping():
        process = subprocess.Popen([sys.executable, "-c", code, str(shared)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        return process

    ours = [mapping()]
    try:
        alone, kernel = alone_bytes([ours[0].pid]), pss_bytes([ours[0].pid])
        ours.append(mapping())
        assert abs(alone_bytes([ours[0].pid]) - alone) < file_bytes // 8
        assert pss_bytes([ours[0].pid]) < kernel - file_bytes // 4
        both = alone_bytes([process.pid for process in ours])
        assert alone + file_bytes // 2 < both < 2 * alone - file_bytes // 2
    finally:
        for process in ours:
            process.communicate()
