"""The build probe of the TFLite runtimes: importing proves nothing, so each builds an interpreter in a child that may crash."""

import sys

from models.inference.runtime_probe_linux import ONE_RELU, probe_runtimes

DEAD = (
    ("segfaults", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("system-error", "raise SystemError('returned a result with an exception set')", "SystemError"),
    ("absent", "import no_such_runtime", "ModuleNotFoundError"),
    ("hangs", "import time; time.sleep(600)", "within 3 s"),
)


def test_the_first_that_builds_an_interpreter_is_taken():
    """The runtime of this environment works: it is tried first, and no other is tried after it."""
    (probe,) = probe_runtimes()
    assert (probe.package, probe.fault) == ("ai-edge-litert", "")
    assert ONE_RELU[4:8] == b"TFL3"


def test_one_that_crashes_is_told_and_the_next_is_tried():
    """numpy 2 under tflite-runtime (SystemError), a build for another processor (SIGSEGV), one that hangs: each is told."""
    for name, code, reason in DEAD:
        commands = iter([(sys.executable, "-c", code), ("true",)])
        deadline_s = 3.0 if name == "hangs" else 60.0
        probes = probe_runtimes(((name, "x"), ("good", "y")), command=lambda _, c=commands: next(c), deadline_s=deadline_s)
        assert [probe.package for probe in probes] == [name, "good"]
        assert reason in probes[0].fault
        assert probes[1].fault == ""


def test_where_none_works_each_says_why():
    """A board without any runtime."""
    probes = probe_runtimes((("one", "no_such_one"), ("two", "no_such_two")))
    assert [bool(probe.fault) for probe in probes] == [True, True]
    assert "no_such_two" in probes[1].fault
