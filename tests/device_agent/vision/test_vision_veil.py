"""What is measured of a frame tells nothing of what happens behind a mask: gate, brightness, size of the baseline."""

from dataclasses import astuple

import numpy as np
import pytest

from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Answer
from device_agent.vision.motion import GATE_HEIGHT_PX, GATE_WIDTH_PX, MotionGate
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Polygon, Privacy
from device_agent.vision.types import Frame, Picture
from models.card import InputSpec, ModelCard, OutputSpec
from models.inference.types import Detections

CARD = ModelCard("finder", "detect", InputSpec(64, 64), OutputSpec("ssd_postprocess"), ("person",))
LEFT_HALF: Polygon = ((0, 0), (0.5, 0), (0.5, 1), (0, 1))
SLANTED: Polygon = ((0.1, 0.1), (0.83, 0.37), (0.61, 0.93), (0.2, 0.7))


class NobodyThere:
    """A detector that finds nothing."""

    restarts, runtime, accelerator, card = 0, "fake", "cpu", CARD

    def look(self, picture_bgr: Picture) -> Answer:
        return Answer(Detections.empty(), CARD, 1.0)


def behind(mask: Polygon, size: tuple[int, int]) -> np.ndarray:
    """Where a picture of this size (width, height) is surely masked: centres of pixels within the polygon, the rim included."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    inside = np.ones((height, width), bool)
    for (x0, y0), (x1, y1) in zip(mask, mask[1:] + mask[:1], strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return inside


def films(mask: Polygon, size: tuple[int, int], what: str, *, luma: bool = False) -> list[Frame]:
    """A camera whose picture lives a little outside of the mask, and behind it does `what`."""
    width, height = size
    noise, secret = np.random.default_rng(1), np.random.default_rng(2)
    hidden = behind(mask, size)
    frames = []
    for number in range(30):
        picture = np.full((height, width, 3), 128, np.uint8) + noise.integers(0, 4, (height, width, 3), np.uint8)
        if what == "a lamp" and number > 9:
            picture[hidden] = 250
        elif what == "somebody" and number > 9:
            left = number * 9 % width
            walker = np.zeros_like(hidden)
            walker[:, left : left + width // 8] = True
            picture[hidden & walker] = secret.integers(0, 255, 3)
        elif what == "a crowd" and number > 9:
            picture[hidden] = secret.integers(0, 255, (int(hidden.sum()), 3))
        grey = picture[::2, ::2, 1].copy() if luma else None
        frames.append(Frame("yard", number, number / 10, 1000 + number, picture, grey))
    return frames


def measured(frames: list[Frame], masks: tuple[Polygon, ...], blur: frozenset[str] = frozenset()) -> list[object]:
    """All that a heartbeat could be made of: each frame's gate, and the counts."""
    pipeline = Pipeline(
        PipelineSettings("yard", baseline_every=1), NobodyThere(), lambda: "id", cutter=Cutter(Privacy(masks, blur))
    )
    gates = []
    for frame in frames:
        gate = pipeline.step(frame).gate
        gates.append((gate.open, gate.reason, gate.moved, gate.changed_share, gate.brightness))
    return [gates, astuple(pipeline.counts())]


@pytest.mark.parametrize("mask", [LEFT_HALF, SLANTED], ids=["half", "slanted"])
@pytest.mark.parametrize(("size", "luma"), [((640, 360), False), ((320, 240), True), ((178, 100), False)])
def test_two_films_that_differ_behind_a_mask_alone_are_measured_alike(mask: Polygon, size: tuple[int, int], luma: bool) -> None:
    """A captured server counts the neighbour's comings and goings: gated frames, mean brightness and the size of a picture that
    was never sent stood in each heartbeat, taken of the picture before its masks."""
    if size == (320, 240):
        bare = [measured(films(mask, size, what, luma=luma), ()) for what in ("nothing", "somebody")]
        assert bare[0] != bare[1], "without the mask it tells"
    told = measured(films(mask, size, "nothing", luma=luma), (mask,), frozenset({"person"}))
    for what in ("a lamp", "somebody", "a crowd"):
        assert measured(films(mask, size, what, luma=luma), (mask,), frozenset({"person"})) == told, what


def test_beside_a_mask_the_gate_sees_as_before() -> None:
    """Half of the picture is masked: a walker in the other half opens the gate, a lamp that lights all of it is light."""
    pictures = []
    for number in range(60):
        picture = np.full((480, 640, 3), 90, np.uint8)
        if number > 30:
            picture[150:330, 380 + number * 3 : 430 + number * 3] = 210
        pictures.append(picture)
    veil = Privacy((LEFT_HALF,)).veil
    assert veil is not None
    assert (veil.hidden.shape, round(veil.share, 1)) == ((GATE_HEIGHT_PX, GATE_WIDTH_PX), 0.5)
    gate = MotionGate()
    seen = [
        gate.step(Frame("yard", n, n / 10, n, picture), active_track=False, veil=veil) for n, picture in enumerate(pictures)
    ]
    assert not any(one.moved for one in seen[:31])
    assert sum(one.moved for one in seen[31:]) > 20
    assert all(abs(one.brightness - 90) < 1 for one in seen[:31]), "a black mask makes no night"


def test_the_share_that_changed_is_one_of_what_is_to_be_seen() -> None:
    """Somebody turns the camera, half of whose picture is masked: as much has changed as without the mask, so it is no motion."""
    scenes = [np.kron(np.random.default_rng(n).integers(0, 2, (30, 40)), np.ones((16, 16))) * 160 + 40 for n in (1, 2)]
    shares = []
    for veil in (None, Privacy((LEFT_HALF,)).veil):
        gate = MotionGate()
        for number in range(20):
            picture = np.repeat(scenes[number == 19][:, :, None], 3, axis=2).astype(np.uint8)
            result = gate.step(Frame("yard", number, number / 10, number, picture), active_track=False, veil=veil)
        shares.append(result.changed_share)
    assert shares[0] > 0.1
    assert abs(shares[1] - shares[0]) < 0.3 * shares[0]


def test_without_masks_there_is_no_veil_and_a_picture_that_is_all_mask_is_still() -> None:
    assert Privacy().veil is None
    everything: Polygon = ((0, 0), (1, 0), (1, 1), (0, 1))
    gates = measured(films(LEFT_HALF, (320, 240), "a crowd"), (everything,))[0]
    assert not any(moved for _, _, moved, _, _ in gates)
