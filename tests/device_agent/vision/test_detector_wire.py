"""What agent and inference child say to each other, byte by byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.vision import detector_wire as wire
from models.card import InputSpec, ModelCard, OutputSpec, Thresholds
from models.inference.decode_ssd import SsdReader, placed
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
    told = placed(boxes, WHOLE)
    assert (kind, invoke_ms) == (wire.FOUND, 14.5)
    assert np.array_equal(told.xyxy, found(count).xyxy)
    assert np.array_equal(told.confidence, found(count).confidence)
    assert np.array_equal(told.class_id, found(count).class_id)


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


def ssd_card() -> ModelCard:
    labels = ("person", "car")
    return ModelCard(
        name="ssd", task="detect", labels=labels, input=InputSpec(width_px=300, height_px=300),
        output=OutputSpec(decoder="ssd_postprocess"), thresholds=Thresholds(0.5),
    )  # fmt: skip


def test_the_numbers_of_a_head_come_out_as_they_went_in() -> None:
    """An SSD's boxes, classes, scores and count travel as they are, and are read by the card on the other side."""
    boxes = np.array([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 0.3, 0.3], [0.2, 0.2, 0.4, 0.4]], np.float32)
    classes, scores, told = np.array([1, 0, 0], np.float32), np.array([0.7, 0.9, 0.2], np.float32), np.array([3], np.float32)
    raw = b"".join(values.tobytes() for values in (boxes, classes, scores, told))
    kind, payload = wire.Inbox().whole(wire.pack_numbers(raw, 14.5))
    numbers, invoke_ms = wire.unpack_numbers(payload)
    assert (kind, invoke_ms, numbers.many) == (wire.NUMBERS, 14.5, 3)
    seen = placed(wire.as_single(SsdReader(ssd_card()).boxes(numbers, 0.5)), WHOLE)
    assert seen.class_id.tolist() == [0, 1]
    assert np.array_equal(seen.confidence, scores[[1, 0]])
    assert np.allclose(seen.xyxy, [[0, 0, 90, 90], [60, 30, 180, 150]], atol=1e-3)


@pytest.mark.parametrize("cut", [1, 4, 24, 70])
def test_numbers_of_another_length_are_no_answer(cut: int) -> None:
    """Rows that are promised and not sent are never read out of what follows."""
    _, payload = wire.Inbox().whole(wire.pack_numbers(bytes(4 * 13), 1.0))
    with pytest.raises(ValueError, match="an answer"):
        wire.unpack_numbers(payload[:-cut] if cut < len(payload) else payload[:3])
    with pytest.raises(ValueError, match="an answer"):
        wire.unpack_numbers(payload + b"\0" * 4)


@given(st.lists(st.floats(width=32), min_size=19, max_size=19))
def test_whatever_numbers_a_child_sends_only_boxes_in_the_picture_come_of_them(values: list[float]) -> None:
    """A runtime that goes mad fills its outputs with infinities, NaN and classes that nobody knows."""
    raw = np.array(values, np.float32).tobytes()
    _, payload = wire.Inbox().whole(wire.pack_numbers(raw, 1.0))
    numbers, _ = wire.unpack_numbers(payload)
    seen = placed(SsdReader(ssd_card()).boxes(numbers, 0.1), WHOLE)
    assert ((seen.xyxy >= 0) & (seen.xyxy <= 300)).all()  # false for NaN
    assert ((seen.confidence >= np.float32(0.1)) & (seen.confidence <= 1)).all()
    assert set(seen.class_id.tolist()) <= {0, 1}


@pytest.mark.parametrize("broken", [np.inf, -np.inf, np.nan])
def test_a_box_without_an_end_is_no_box(broken: float) -> None:
    """Cut off at the picture's edges an infinite box would look like somebody who fills the picture."""
    for at in range(4):
        values = np.array([0.1, 0.1, 0.5, 0.5, 0.0, 0.9, 1.0], np.float32)
        values[at] = broken
        _, payload = wire.Inbox().whole(wire.pack_numbers(values.tobytes(), 1.0))
        assert SsdReader(ssd_card()).boxes(wire.unpack_numbers(payload)[0], 0.5) == []
