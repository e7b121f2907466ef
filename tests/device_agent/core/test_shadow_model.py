"""Which candidate runs as a shadow, and that its process yields to all others."""

import contextlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from device_agent.duties.shadowing import Shadowing, ShadowSettings
from device_agent.shadow_model_linux import NICE, PoliteDetector, ShadowChoice
from device_agent.update.shadow_fetch_disk import ShadowFiles
from device_agent.vision.detector import DetectorError
from device_agent.vision.shadow_candidate import NoCandidateError
from models.inference.errors import ModelError
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment

YARD = Path(__file__).resolve().parents[3] / "models" / "rendered" / "releases" / "yard-1"
BUNDLE = AssignedBundle(path="stable/yard/3/manifest.json", sha256="a" * 64, length_bytes=9, channel="stable", release="yard@3")


def assignment(role="shadow", bundle=BUNDLE, expires_s=2000.0):
    return Assignment(device="cam-7", seq=1, issued_s=1.0, expires_s=expires_s, role=role, bundle=bundle)


def choice(now=None, *, local=None, fetch=None, stopping=lambda: False):
    held = {"now": now}
    made = ShadowChoice(local, assignment=lambda: held["now"], fetch=fetch, stopping=stopping, now_s=lambda: 1000.0)
    return made, held


def test_an_assigned_shadow_goes_before_the_boards_own_and_ends_with_its_assignment():
    """No assignment: the model of agent.toml. A shadow is assigned: that one. An ordinary one: agent.toml's again."""
    own = (Path("own.tflite"), Path("own.toml"))
    made, held = choice(local=own)
    assert made.wanted().release == "own.tflite (this board's own setting)"
    held["now"] = assignment()
    assert (made.wanted().key, made.wanted().release) == ("a" * 64, "yard@3")
    held["now"] = assignment(role="run")
    assert made.wanted().release.startswith("own.tflite")
    assert choice(assignment(role="run"))[0].wanted() is None
    assert choice(assignment(bundle=None))[0].wanted() is None


def test_a_refused_or_expired_shadow_is_not_opened():
    """The channel is not allowed here; the assignment is of last week: no model, and the reason by name."""
    made, _ = choice(assignment(), fetch=lambda bundle, stop: Refusal("channel", "channel beta is not allowed here"))
    with pytest.raises(NoCandidateError) as refused:
        made.wanted().load()
    assert (refused.value.reason, refused.value.message) == ("channel", "channel beta is not allowed here")
    made, _ = choice(assignment(expires_s=999.0), fetch=lambda bundle, stop: pytest.fail("it is not even fetched"))
    with pytest.raises(NoCandidateError, match="expired"):
        made.wanted().load()


def test_a_download_ends_when_another_is_wanted():
    """The server changes its mind while the candidate is fetched: the download hears of it."""
    heard = []

    def fetch(bundle, should_stop):
        heard.append(should_stop())
        held["now"] = assignment(bundle=None)
        heard.append(should_stop())
        return Refusal("download", "stopped")

    made, held = choice(assignment(), fetch=fetch)
    with pytest.raises(NoCandidateError):
        made.wanted().load()
    assert heard == [False, True]


def test_a_broken_model_is_refused_in_the_child(tmp_path):
    """The file is no model: ModelError with the reason, and no process is left behind."""
    model = tmp_path / "m.tflite"
    model.write_bytes(b"no model at all")
    with pytest.raises(ModelError):
        PoliteDetector(model, YARD / "card.toml")


def test_its_process_yields_and_goes_on_yielding_after_a_restart():
    """The real yard model as a shadow: its child is nice; killed, its successor is nice too; at the end neither is there."""
    files = ShadowFiles("yard@3", YARD / "model_int8.tflite", YARD / "card.toml")
    made, _ = choice(assignment(), fetch=lambda bundle, stop: files)
    detector = made.wanted().load()
    picture = np.full((240, 320, 3), 120, np.uint8)
    try:
        assert len(detector.look(picture).detections) == 0
        first = detector._inner.pid
        assert os.getpriority(os.PRIO_PROCESS, first) == NICE
        os.kill(first, 9)
        end_s = time.monotonic() + 60
        while detector._inner.pid in (first, None) or os.getpriority(os.PRIO_PROCESS, detector._inner.pid) != NICE:
            assert time.monotonic() < end_s
            with contextlib.suppress(DetectorError):  # starts may be spaced out
                detector.look(picture)
        second = detector._inner.pid
    finally:
        detector.close()
    assert not Path(f"/proc/{second}").exists()


def test_the_choice_fits_the_duty():
    """What assemble does: the duty asks the choice."""
    made, _ = choice()
    assert Shadowing(made.wanted, ShadowSettings(), lambda: None, lambda: 0.0).health() is None
