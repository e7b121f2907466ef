"""What leaves a frame: masks are black to the last pixel, persons are blurred or there is no picture. Told as what would leak."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.vision.cutter import Cutter, cut_around, whole
from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.privacy import Privacy, camera_privacy
from device_agent.vision.types import Frame
from models.card import InputSpec, ModelCard, OutputSpec
from models.inference.types import Detections

LEFT_THIRD = ((0.0, 0.0), (0.333, 0.0), (0.333, 1.0), (0.0, 1.0))
PENTAGRAM = tuple((0.5 + 0.4 * math.sin(4 * math.pi * n / 5), 0.5 - 0.4 * math.cos(4 * math.pi * n / 5)) for n in range(5))


def card(*labels: str, name: str = "finder") -> ModelCard:
    return ModelCard(name, "detect", InputSpec(64, 64), OutputSpec("ssd_postprocess"), labels or ("person", "bottle"))


def answer(*rows: tuple[float, float, float, float, int], found_by: ModelCard | None = None) -> Answer:
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    detections = Detections.of(boxes, np.full(len(rows), 0.9), [row[4] for row in rows])
    return Answer(detections, found_by or card(), 1.0)


def frame_of(picture, index: int = 0, at_s: float | None = None, main=None) -> Frame:
    return Frame("yard", index, index / 10 if at_s is None else at_s, 1000.0 + index, picture, main=main)


def white(width: int = 640, height: int = 480):
    return np.full((height, width, 3), 255, np.uint8)


def decoded(jpeg: bytes):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


class MainOf:
    """A large picture behind a small one."""

    def __init__(self, picture) -> None:
        self.picture = picture
        self.height_px, self.width_px = picture.shape[:2]

    def region(self, cut):
        return self.picture[cut[1] : cut[3], cut[0] : cut[2]]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(64, 700), st.integers(64, 500), st.integers(8, 640), st.integers(30, 95),
    st.tuples(*[st.floats(0.02, 0.98)] * 4), st.integers(0, 2**31),
)  # fmt: skip
def test_no_pixel_of_a_masked_area_ever_leaves(width, height, longest_px, quality, corners, seed) -> None:
    """Behind the mask stand a till and a face. Whatever the size of picture, crop and JPEG: two frames that differ only behind
    the mask give the very same bytes, so nothing of it can be in them."""
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    mask = ((left, top), (right, top), (right, bottom), (left, bottom))
    generator = np.random.default_rng(seed)
    empty = generator.integers(0, 256, (height, width, 3), np.uint8)
    secret = empty.copy()
    rows, columns = slice(math.floor(top * height), math.ceil(bottom * height)), slice(
        math.floor(left * width), math.ceil(right * width)
    )
    secret[rows, columns] = generator.integers(0, 256, secret[rows, columns].shape, np.uint8)
    cutter = Cutter(Privacy((mask,)))
    for cut in (None, cut_around((width * 0.2, height * 0.3, width * 0.8, height * 0.9), 0.2, width, height)):
        made = [
            cutter.cut(frame_of(one), cut or whole(frame_of(one)), longest_px, quality) for one in (empty, secret)
        ]
        assert made[0] is not None
        assert made[1] is not None
        assert made[0].jpeg == made[1].jpeg


def test_the_mask_is_black_and_the_rest_is_not() -> None:
    cutter = Cutter(Privacy((LEFT_THIRD,)))
    frame = frame_of(white())
    made = cutter.cut(frame, whole(frame), 320, 85)
    picture = decoded(made.jpeg)
    assert (made.width_px, made.height_px, made.cut) == (320, 240, (0, 0, 640, 480))
    assert picture.shape == (240, 320, 3)
    assert picture[:, : round(0.333 * 320) - 1].max() < 12
    assert picture[:, round(0.333 * 320) + 8 :].min() > 240
    assert frame.picture_bgr.min() == 255, "the frame itself is not written to"


def test_a_mask_that_crosses_itself_has_no_hole() -> None:
    """A pentagram from a clumsy drawing: by the even-odd rule its heart would be bare."""
    picture = Cutter(Privacy((PENTAGRAM,))).picture(frame_of(white()), (0, 0, 640, 480), 640).picture_bgr
    assert picture[240, 320].max() == 0


def test_the_large_picture_is_masked_at_its_own_size() -> None:
    """The crop of a winner is read from the sensor's large picture: the mask holds there as well, row by row."""
    frame = frame_of(white(320, 240), main=MainOf(white(1920, 1080)))
    cutter = Cutter(Privacy((LEFT_THIRD,)))
    made = cutter.picture(frame, (500, 0, 1000, 1080), 5000)
    assert made.picture_bgr.shape == (1080, 500, 3)
    assert made.picture_bgr[:, : math.ceil(0.333 * 1920) - 500].max() == 0
    assert made.picture_bgr[:, -100:].min() == 255


def test_detections_in_a_mask_are_not_told_but_those_beside_it_are() -> None:
    """More than half of its box is masked: nobody hears of it. Exactly beside, it is told."""
    cutter = Cutter(Privacy((LEFT_THIRD,)))
    boxes = ((100, 10, 250, 90, 0), (200, 10, 400, 90, 0), (213, 0, 216, 3, 1), (-9, -9, -1, -1, 0))
    told = cutter.answered(frame_of(white()), answer(*boxes))
    assert told.detections.xyxy[:, 0].tolist() == [200, 213]
    assert Cutter().answered(frame_of(white()), answer((1, 1, 9, 9, 0))).detections.xyxy.tolist() == [[1, 1, 9, 9]]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-0.2, 1.2)] * 4))
def test_the_masked_share_of_a_box_is_its_area(corners) -> None:
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    inside = [min(1.0, max(0.0, value)) for value in (left, right, top, bottom)]
    if inside[1] - inside[0] < 0.05 or inside[3] - inside[2] < 0.05:
        return
    privacy = Privacy((LEFT_THIRD,))
    expected = max(0.0, min(inside[1], 0.333) - inside[0]) / (inside[1] - inside[0])
    found = privacy.masked_share((left * 640, top * 480, right * 640, bottom * 480), 640, 480)
    assert found == pytest.approx(expected, abs=0.08)


def checkered(width: int = 640, height: int = 480):
    """A picture in which every detail of 4 px is sharp."""
    rows, columns = np.mgrid[:height, :width]
    return (((rows // 4 + columns // 4) % 2) * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def detail(picture) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())


def test_a_person_is_blurred_beyond_sharpening_and_a_bottle_is_not() -> None:
    """The box of a person loses all detail, also after somebody sharpens it; what is beside it stays as it was."""
    cutter = Cutter(Privacy(blur=frozenset({"person"})))
    frame = frame_of(checkered())
    cutter.answered(frame, answer((100, 60, 260, 420, 0), (400, 60, 560, 420, 1)))
    picture = cutter.picture(frame, whole(frame), 640).picture_bgr
    person, bottle = picture[60:420, 100:260], picture[60:420, 400:560]
    sharpened = cv2.addWeighted(person, 6.0, cv2.GaussianBlur(person, (0, 0), 5), -5.0, 0)
    assert detail(person) < 1
    assert detail(sharpened) < 40
    assert detail(bottle) == detail(checkered()[60:420, 400:560])
    assert detail(picture[60:420, 262:282]) < 1, "the box grows: hair and elbows stand out of it"


def test_two_people_who_differ_in_their_faces_alone_give_the_same_picture_nearly() -> None:
    """A face is smaller than one cell of the blur: what is left of it is a shade of the mean colour."""
    faces = []
    for seed in (1, 2):
        picture = np.full((480, 640, 3), 120, np.uint8)
        picture[70:115, 165:195] = np.random.default_rng(seed).integers(60, 180, (45, 30, 3), np.uint8)
        cutter = Cutter(Privacy(blur=frozenset({"person"})))
        frame = frame_of(picture)
        cutter.answered(frame, answer((100, 60, 260, 420, 0)))
        faces.append(cutter.picture(frame, whole(frame), 640).picture_bgr.astype(int))
    assert np.abs(faces[0] - faces[1]).max() <= 3


def refusing(privacy: Privacy, **options) -> tuple[Cutter, list[str]]:
    refused: list[str] = []
    cutter = Cutter(privacy, **options)
    cutter.refused = refused.append
    return cutter, refused


def test_without_an_answer_for_this_very_frame_there_is_no_picture() -> None:
    """The detector died, or the gate was closed: who is in the picture is unknown, so there is none, and it is counted."""
    cutter, refused = refusing(Privacy(blur=frozenset({"person"})))
    first, second = frame_of(white(), 1), frame_of(white(), 2)
    assert cutter.cut(first, whole(first), 320, 85) is None
    cutter.answered(first, answer())
    assert cutter.cut(first, whole(first), 320, 85) is not None
    assert cutter.cut(second, whole(second), 320, 85) is None
    assert refused == ["privacy", "privacy"]


def test_a_model_that_does_not_know_the_class_or_is_not_listed_blurs_nobody_so_nothing_leaves() -> None:
    """A server rolls out a signed model that knows cars alone, or one that this board's owner never listed."""
    frame = frame_of(white())
    for privacy, by, expected in (
        (Privacy(blur=frozenset({"person", "face"})), card("person"), False),
        (Privacy(blur=frozenset({"person"})), card("car"), False),
        (Privacy(blur=frozenset({"person"}), blur_by=frozenset({"faces"})), card("person"), False),
        (Privacy(blur=frozenset({"person"}), blur_by=frozenset({"finder"})), card("person"), True),
    ):
        cutter, refused = refusing(privacy)
        cutter.answered(frame, answer(found_by=by))
        assert (cutter.cut(frame, whole(frame), 320, 85) is not None) == expected
        assert refused == ([] if expected else ["privacy"])


def test_a_detector_that_blinks_bares_nobody() -> None:
    """Found at 0.1 s, missed at 0.2 s: where the person was, it is blurred still. A second later nobody is there any more."""
    cutter = Cutter(Privacy(blur=frozenset({"person"})))
    pictures = []
    for index, rows in ((1, [(100, 60, 260, 420, 0)]), (2, []), (20, [])):
        frame = frame_of(checkered(), index)
        cutter.answered(frame, answer(*rows))
        pictures.append(cutter.picture(frame, whole(frame), 640).picture_bgr[60:420, 100:260])
    assert [detail(one) < 1 for one in pictures] == [True, True, False]


def test_weak_detections_and_those_in_masks_are_blurred_too() -> None:
    """Half of a person stands in the mask, so it is not told of; the other half is blurred all the same."""
    cutter = Cutter(Privacy((LEFT_THIRD,), frozenset({"person"})))
    frame = frame_of(checkered())
    told = cutter.answered(frame, answer((60, 60, 280, 420, 0)))
    assert len(told.detections) == 0
    picture = cutter.picture(frame, whole(frame), 640).picture_bgr
    assert picture[:, :213].max() == 0, "and blurring brings nothing into the mask"
    assert detail(picture[80:400, 230:280]) < 2


def test_a_detector_of_its_own_for_faces_is_asked_once_for_each_frame_and_fails_closed() -> None:
    """The model that runs knows persons; faces are found by another, which dies in between."""
    asked: list[int] = []

    def look(picture):
        asked.append(len(asked))
        if len(asked) == 2:
            raise DetectorError("died", "the child ended")
        return answer((10, 10, 20, 30, 0), found_by=card("face"))

    cutter, refused = refusing(Privacy(blur=frozenset({"face"})), look=look)
    large = MainOf(checkered(1280, 960))
    first, second = (frame_of(checkered(), index, main=large) for index in (1, 2))
    cutter.answered(first, answer((100, 60, 260, 420, 0)))
    picture = cutter.picture(first, whole(first), 1280).picture_bgr
    assert detail(picture[20:60, 20:40]) < detail(checkered()[20:60, 20:40]) / 100, "its boxes are scaled to the large picture"
    assert cutter.picture(first, (0, 0, 50, 50), 1280) is not None
    assert asked == [0]
    assert cutter.picture(second, whole(second), 1280) is None
    assert refused == ["privacy"]


def test_two_detectors_together_blur_what_neither_knows_alone() -> None:
    """Persons are the pipeline's, faces the other's. Without one of the two there is no picture."""
    privacy = Privacy(blur=frozenset({"person", "face"}), blur_by=frozenset({"finder", "faces"}))
    cutter, refused = refusing(privacy, look=lambda _picture: answer((400, 60, 560, 420, 0), found_by=card("face", name="faces")))
    frame, unseen = frame_of(checkered(), 1), frame_of(checkered(), 2)
    cutter.answered(frame, answer((100, 60, 260, 420, 0)))
    picture = cutter.picture(frame, whole(frame), 640).picture_bgr
    assert detail(picture[60:420, 100:260]) < 1
    assert detail(picture[60:420, 400:560]) < 1
    assert cutter.picture(unseen, whole(unseen), 640) is None
    stranger, _ = refusing(privacy, look=lambda _picture: answer(found_by=card("face", name="unlisted")))
    stranger.answered(frame, answer((100, 60, 260, 420, 0)))
    assert stranger.picture(frame, whole(frame), 640) is None
    assert refused == ["privacy"]


def test_that_nobody_looks_for_a_label_is_said_once(caplog) -> None:
    """For ever without pictures because of a slip of the pen in the policy: the log says which label, once."""
    cutter, refused = refusing(Privacy(blur=frozenset({"persn"})))
    for index in range(5):
        frame = frame_of(white(), index)
        cutter.answered(frame, answer())
        assert cutter.cut(frame, whole(frame), 320, 85) is None
    assert len(refused) == 5
    assert [record.getMessage().count("persn") for record in caplog.records] == [1]


def test_a_new_configuration_adds_and_never_takes_away() -> None:
    """A captured server sends a configuration without masks, without blur: the board's own stay."""
    own = camera_privacy({"*": [LEFT_THIRD], "yard": [PENTAGRAM], "shed": []}, ["person"], "yard", ["finder"])
    assert own.masks == (LEFT_THIRD, PENTAGRAM)
    assert own.joined() == own
    more = own.joined(masks=[LEFT_THIRD, ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0))], blur=["face"])
    assert set(own.masks) < set(more.masks)
    assert len(more.masks) == 3
    assert more.blur == {"person", "face"}
    assert more.blur_by == {"finder"}, "which model is trusted to find them is the board's word alone"
    cutter = Cutter(own)
    frame = frame_of(white())
    cutter.answered(frame, answer())
    cutter.use(more)
    assert cutter.cut(frame, whole(frame), 320, 85) is None, "what was known before the change counts for nothing"


def test_what_is_cut_lies_within_the_picture_or_is_not_cut() -> None:
    cutter, frame = Cutter(), frame_of(white(100, 80))
    assert cutter.cut(frame, (-50, -50, 30, 20), 640, 85).cut == (0, 0, 30, 20)
    assert cutter.cut(frame, (100, 0, 200, 80), 640, 85) is None
    assert cut_around((float("nan"), 0, 1, 1), 0.1, 100, 80) is None
    assert cut_around((10, 10, 30, 50), 0.1, 100, 80) == (8, 6, 32, 54)
    jpeg = cutter.cut(frame, whole(frame), 640, 85).jpeg
    assert b"Exif" not in jpeg
    drawn = cutter.picture(frame, whole(frame), 640).picture_bgr
    drawn[:] = 0
    assert frame.picture_bgr.min() == 255, "a picture that is handed out may be drawn on without touching the frame"
