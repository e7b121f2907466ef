"""What agent and inference child say to each other, byte by byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.vision import detector_wire as wire
from device_agent.vision.detector_children import in_picture
from models.inference.preprocess import Geometry
from models.inference.types import Detections

WHOLE = Geometry(300, 300, 1.0, 1.0)


def found(count: int) -> Detections:
    boxes = [[number, number, number + 10.5, number + 20.25] for number in range(count)]
    return Detections.of(boxes, [0.9 - number / 100 for number in range(count)], list(range(count)))


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(0, 12))
def test_a_reply_comes_out_as_it_went_in_however_it_is_cut(cuts: list[int], count: int) -> None:
    """Sockets deliver bytes in pieces as they like: whole at once, nearly always, or in any pieces."""
    message, inbox, got = wire.pack_found(found(count), 14.5), wire.Inbox(), []
    for size in cuts:
        if message:
            got.append(inbox.whole(message[:size]))
            message = message[size:]
    if message:
        got.append(inbox.whole(message))
    assert [one for one in got if one is not None] == got[-1:]
    kind, payload = got[-1]
    boxes, invoke_ms = wire.unpack_found(payload)
    placed = in_picture(boxes, WHOLE)
    assert (kind, invoke_ms) == (wire.FOUND, 14.5)
    assert np.array_equal(placed.xyxy, found(count).xyxy)
    assert np.array_equal(placed.confidence, found(count).confidence)
    assert np.array_equal(placed.class_id, found(count).class_id)


@pytest.mark.parametrize("cut", [1, 7, 8, 20])
def test_a_reply_that_is_not_what_it_says_is_no_answer(cut: int) -> None:
    """A child that writes nonsense is killed, not believed."""
    _, payload = wire.Inbox().whole(wire.pack_found(found(3), 1.0))
    with pytest.raises(ValueError, match="detections"):
        wire.unpack_found(payload[:-cut])
    with pytest.raises(ValueError, match="a message of"):
        wire.Inbox().whole(b"\xff" * 9)


def test_a_look_says_what_it_said() -> None:
    """The request of every frame: slot, size and threshold."""
    kind, payload = wire.Inbox().whole(wire.pack_look(1, 300, 320, 0.25))
    assert (kind, wire.unpack_look(payload)) == (wire.LOOK, (1, 300, 320, 0.25))
