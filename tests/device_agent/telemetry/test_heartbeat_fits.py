"""The heartbeat that is too large: a validly set configuration with many lines and long names ends no duty."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.duties.beating import Beating
from device_agent.duties.turn import Bell, Stop
from device_agent.telemetry.fitting import fitting
from ota.wire.codec import MessageError, decode, encode, limit_bytes
from ota.wire.heartbeat import CameraHealth, Heartbeat, LineCount, ShadowHealth, ShadowPair

LABEL = "человек на велосипеде " * 4


def camera(number: int, *, labels: int = 4, lines: int = 50) -> CameraHealth:
    crossed = [
        LineCount(line=f"{i:02d}".ljust(60, "x"), label=f"{LABEL}{j}", direction="abcdefghij" * 4, count=1000 * i + j)
        for i in range(lines)
        for j in range(labels)
    ]
    held_back = {f"rule {i:02d}".ljust(60, "x"): i for i in range(100)}
    return CameraHealth(camera=f"camera{number}", crossed=crossed, held_back=held_back)


def beat(cameras: list[CameraHealth], **more) -> Heartbeat:
    said = {"sequence": 1, "boot_id": "b", "at_s": 1.0, "uptime_s": 1.0, "window_s": 1.0, "state": "idle", "cameras": cameras}
    return Heartbeat(**(said | more))


PAIRS = [ShadowPair(label=f"{LABEL}{n}", size="small", both=n) for n in range(90)]
HUGE = beat([camera(n) for n in range(8)], shadow=ShadowHealth(release="r@1", state="running", pairs=PAIRS, left_out=3))


def test_a_heartbeat_of_many_lines_and_long_names_goes_with_its_most_frequent_ones_and_says_how_many_it_left_out() -> None:
    """Eight cameras with 200 line counts each in Cyrillic: the server takes what is sent, and can tell that it is not all."""
    with pytest.raises(MessageError):
        encode(HUGE)
    told = decode(Heartbeat, encode(fitting(HUGE)))
    assert [one.camera for one in told.cameras] == [one.camera for one in HUGE.cameras]
    assert told.shadow is not None
    kept = sum(len(one.crossed) + len(one.held_back) for one in told.cameras) + len(told.shadow.pairs)
    assert told.left_out == 8 * 300 + 90 - kept
    assert told.shadow.left_out == 3 + 90 - len(told.shadow.pairs)
    first = told.cameras[0]
    assert {one.count for one in first.crossed} == {one.count for one in HUGE.cameras[0].crossed[-len(first.crossed) :]}
    assert list(first.held_back.values()) == list(range(100 - len(first.held_back), 100))


def test_a_heartbeat_that_fits_is_sent_as_it_is() -> None:
    small = beat([camera(0)])
    assert fitting(small) is small


@given(st.integers(0, 12), st.integers(0, 4), st.integers(0, 50))
def test_whatever_the_rules_count_the_heartbeat_fits(cameras: int, labels: int, lines: int) -> None:
    made = fitting(beat([camera(n, labels=labels, lines=lines) for n in range(cameras)]))
    assert len(msgspec.json.encode(made)) <= limit_bytes(Heartbeat)


def beats(make: list[Heartbeat]) -> list[Heartbeat]:
    """What the duty sends of these, until it has made them all."""
    stop, sent = Stop(), []

    class Turns(Bell):
        def wait(self, timeout_s: float) -> bool:
            if not make:
                stop.set()
            return True

    def send(heartbeat: Heartbeat) -> None:
        encode(heartbeat)
        sent.append(heartbeat)

    Beating(lambda: make.pop(0), lambda: None, send, Turns(stop), every_s=1.0, https_every_s=1.0).run(stop, lambda: None)
    return sent


def test_the_duty_goes_on_beating_after_one_that_is_too_large() -> None:
    """It ended with MessageError, was restarted, ended again: no heartbeat at all, and a board that looks dead."""
    sent = beats([HUGE, beat([])])
    assert [one.left_out > 0 for one in sent] == [True, False]


def test_one_that_cannot_be_made_to_fit_is_lost_and_nothing_else(caplog) -> None:
    """20,000 reasons for lost words: nothing that could be shed. It is said in the log, and the next one goes."""
    hopeless = beat([], local_dropped={f"reason_{n}": n for n in range(20_000)})
    assert beats([hopeless, beat([])]) == [beat([])]
    assert "cannot be sent" in caplog.text
