"""What is reported of an answer, and what the tracker gets of it, whichever order the answer comes in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_agent.vision.detector import Answer
from device_agent.vision.label_numbers import LabelNumbers
from models.card import InputSpec, ModelCard, OutputSpec, Thresholds
from models.inference.types import Detections

CARD = ModelCard(
    name="three", task="detect", labels=("person", "???", "car"), input=InputSpec(width_px=300, height_px=300),
    output=OutputSpec(decoder="ssd_postprocess"), thresholds=Thresholds(0.5, {"car": 0.8}),
)  # fmt: skip
Seen = list[tuple[float, int, float]]


def answer(seen: Seen) -> Answer:
    boxes = [[at, 10, at + wide, 50] for at, (_, _, wide) in enumerate(seen)]
    return Answer(Detections.of(boxes, [one[0] for one in seen], [one[1] for one in seen]), CARD, 1.0)


@given(st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.8, 0.9]), st.integers(-1, 3), st.sampled_from([0.0, 20.0])), max_size=9))
def test_just_the_strong_ones_are_reported_in_whatever_order_they_come(seen: Seen) -> None:
    """Strong ones nearly always lead, and a slice of them is taken; a car below its own threshold stands between them."""
    found, reported = LabelNumbers().sighting(answer(seen))
    used = [(at, one) for at, one in enumerate(seen) if one[1] in (0, 2) and one[2] > 0]
    least = {0: np.float32(0.5), 2: np.float32(0.8)}
    wanted = [at for at, one in used if np.float32(one[0]) >= least[one[1]]]
    assert reported.xyxy[:, 0].tolist() == wanted
    assert [box[0] for box in found.boxes] == [at for at, _ in used]
    assert [box[0] for box, strong in zip(found.boxes, found.strong, strict=True) if strong] == wanted


def test_a_strong_one_behind_a_weak_one_is_reported() -> None:
    """A person at 0.6 comes after a car at 0.7, which is not believed: the slice would report the car and lose the person."""
    found, reported = LabelNumbers().sighting(answer([(0.9, 0, 20.0), (0.7, 2, 20.0), (0.6, 0, 20.0)]))
    assert reported.xyxy[:, 0].tolist() == [0, 2]
    assert list(found.strong) == [True, False, True]
    assert [found.classes[0], found.classes[2]] == [0, 0]
