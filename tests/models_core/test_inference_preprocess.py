"""From picture to tensor: colours, scaling, letterboxing, and back. A swapped channel or a shifted box must not pass here."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import InputSpec
from models.inference.errors import ModelError
from models.inference.preprocess import Geometry, Preprocessor, fit, prepare
from models.inference.types import TensorInfo

UINT8, INT8, FLOAT = (np.dtype(name) for name in ("uint8", "int8", "float32"))


def info(dtype: np.dtype, scale: float = 0.0, zero_point: int = 0) -> TensorInfo:
    return TensorInfo("input", (), dtype, scale, zero_point)


def plain(blue: int, green: int, red: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), (blue, green, red), np.uint8)


def test_channels_come_in_the_order_that_the_card_says() -> None:
    picture = plain(10, 20, 30)
    rgb, _ = prepare(picture, InputSpec(6, 4), info(UINT8))
    bgr, _ = prepare(picture, InputSpec(6, 4, colour="bgr"), info(UINT8))
    planes, _ = prepare(picture, InputSpec(6, 4, layout="nchw"), info(FLOAT))
    assert rgb.shape == (1, 4, 6, 3)
    assert rgb[0, 0, 0].tolist() == [30, 20, 10]
    assert bgr[0, 0, 0].tolist() == [10, 20, 30]
    assert planes.shape == (1, 3, 4, 6)
    assert planes.dtype == np.float32
    assert planes[0, :, 0, 0].tolist() == [30.0, 20.0, 10.0]


@given(st.integers(0, 255), st.floats(-50, 300), st.floats(0.5, 300), st.sampled_from(["nhwc", "nchw"]))
@settings(max_examples=50, deadline=None)
def test_float_tensors_hold_pixel_minus_mean_over_std(pixel: int, mean: float, std: float, layout: str) -> None:
    tensor, _ = prepare(plain(pixel, pixel, pixel), InputSpec(6, 4, layout=layout, mean=mean, std=std), info(FLOAT))  # type: ignore[arg-type]
    assert np.allclose(tensor, (pixel - mean) / std, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 255), st.sampled_from([UINT8, INT8]), st.floats(0.001, 0.05), st.integers(-10, 10))
@settings(max_examples=50, deadline=None)
def test_quantised_tensors_hold_the_nearest_number_to_the_scaled_pixel(
    pixel: int, dtype: np.dtype, scale: float, zero_point: int
) -> None:
    spec = InputSpec(6, 4, mean=127.5, std=127.5)
    tensor, _ = prepare(plain(pixel, pixel, pixel), spec, info(dtype, scale, zero_point))
    limits = np.iinfo(dtype)
    wanted = np.clip(np.rint((pixel - 127.5) / 127.5 / scale + zero_point), limits.min, limits.max)
    assert (tensor == wanted).all()


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_raw_pixels_go_into_int8_less_128(layout: str) -> None:
    """Mean 0 and std 1 say raw: the tensor's own scale of 1/128 must not darken the picture to nothing."""
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3
    spec = InputSpec(6, 4, layout=layout, colour="bgr")  # type: ignore[arg-type]
    tensor, _ = prepare(picture, spec, info(INT8, 1 / 128, 0))
    pixels = tensor[0] if layout == "nhwc" else tensor[0].transpose(1, 2, 0)
    assert (pixels.astype(int) == picture.astype(int) - 128).all()


def test_each_channel_has_its_own_mean() -> None:
    spec = InputSpec(6, 4, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    tensor, _ = prepare(plain(11, 12, 13), spec, info(FLOAT))
    assert tensor[0, 0, 0].tolist() == [12.0, 5.0, 2.0]


def test_stretching_is_bilinear_without_antialiasing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (97, 143, 3), np.uint8)
    tensor, geometry = prepare(picture, InputSpec(30, 20, colour="bgr"), info(UINT8))
    assert (tensor[0] == cv2.resize(picture, (30, 20), interpolation=cv2.INTER_LINEAR_EXACT)).all()
    assert geometry.scale_x == pytest.approx(30 / 143)


def test_a_letterbox_keeps_the_aspect_and_never_shows_the_last_picture() -> None:
    """A wide picture after a tall one: what the tall one covered must be padding again."""
    spec = InputSpec(40, 40, colour="bgr", resize="letterbox", pad_value=114)
    keeper = Preprocessor(spec, info(UINT8))
    keeper.prepare(plain(255, 255, 255, 80, 40))
    tensor, _ = keeper.prepare(plain(1, 1, 1, 40, 80))
    assert (tensor[0, :20] == 1).all()
    assert (tensor[0, 20:] == 114).all()
    whole, _ = keeper.prepare(plain(7, 7, 7, 40, 40))
    assert (whole == 7).all()
    assert (keeper.prepare(plain(1, 1, 1, 40, 80))[0][0, 20:] == 114).all()


RESIZES = st.sampled_from(["letterbox", "letterbox_centre", "stretch"])


@given(st.integers(8, 200), st.integers(8, 200), st.integers(8, 64), st.integers(8, 64), RESIZES)
@settings(max_examples=80, deadline=None)
def test_boxes_find_the_way_back(width: int, height: int, to_width: int, to_height: int, resize: str) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    _, geometry = prepare(picture, InputSpec(to_width, to_height, resize=resize), info(UINT8))  # type: ignore[arg-type]
    scale = np.array([geometry.scale_x, geometry.scale_y] * 2, np.float32)
    shift = np.array([geometry.left_px, geometry.top_px] * 2, np.float32)
    source = np.array([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]], np.float32)
    assert np.allclose(geometry.to_source(source * scale + shift), source, atol=1e-2)
    assert geometry.to_source(np.array([[-9e5, -9e5, 9e5, 9e5]], np.float32)).tolist() == [[0, 0, width, height]]


@given(st.integers(8, 300), st.integers(8, 300), st.integers(8, 64), st.integers(8, 64), RESIZES, st.sampled_from([None, True]))
@settings(max_examples=80, deadline=None)
def test_every_byte_is_written_and_the_picture_lies_where_its_geometry_says(
    width: int, height: int, to_width: int, to_height: int, resize: str, antialias: bool | None
) -> None:
    """Whatever lay in the buffer (another camera's frame) is gone; picture and padding meet where the boxes are counted from."""
    spec = InputSpec(to_width, to_height, resize=resize, pad_value=7, antialias=antialias)  # type: ignore[arg-type]
    target = np.full((to_height, to_width, 3), 99, np.uint8)
    geometry = fit(np.full((height, width, 3), 200, np.uint8), spec, target)
    assert set(np.unique(target).tolist()) <= {7, 200}
    rows, columns = np.nonzero((target == 200).all(axis=2))
    assert (columns.min(), rows.min()) == (geometry.left_px, geometry.top_px)
    assert columns.max() + 1 - geometry.left_px == round(width * geometry.scale_x)
    assert rows.max() + 1 - geometry.top_px == round(height * geometry.scale_y)
    if resize == "letterbox_centre":
        assert abs((to_width - columns.max() - 1) - geometry.left_px) <= 1
        assert abs((to_height - rows.max() - 1) - geometry.top_px) <= 1


def test_a_picture_much_larger_than_the_input_is_averaged_where_the_card_wants_it() -> None:
    """Noise much finer than the input evens out from afar. Plain bilinear picks single pixels of it, averaging does not."""
    fine = np.random.default_rng(3).integers(0, 256, (256, 256, 3), np.uint8)
    stretched = {wanted: prepare(fine, InputSpec(80, 80, antialias=wanted), info(UINT8))[0] for wanted in (None, False, True)}
    assert (stretched[None] == stretched[False]).all(), "stretching is plain by default"
    assert np.std(stretched[True]) < np.std(stretched[False]) * 0.75
    boxed = {
        wanted: prepare(fine, InputSpec(33, 33, resize="letterbox", antialias=wanted), info(UINT8))[0] for wanted in (None, True)
    }
    assert (boxed[None] == boxed[True]).all(), "letterboxing averages by default"
    near = {wanted: prepare(fine, InputSpec(200, 200, antialias=wanted), info(UINT8))[0] for wanted in (False, True)}
    assert (near[False] == near[True]).all(), "up to twice the input plain bilinear skips no pixel"


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_bgr_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(picture, InputSpec(4, 4), info(UINT8))
    assert caught.value.reason == "bad_picture"


def test_a_crop_of_a_frame_need_not_be_copied_by_the_caller() -> None:
    frame = np.random.default_rng(1).integers(0, 255, (50, 60, 3), np.uint8)
    view = frame[10:30, 5:45]
    for layout in ("nhwc", "nchw"):
        spec = InputSpec(40, 20, layout=layout)  # type: ignore[arg-type]
        tensor, _ = prepare(view, spec, info(FLOAT))
        again, _ = prepare(np.ascontiguousarray(view), spec, info(FLOAT))
        assert (tensor == again).all()


@given(
    st.lists(st.floats(-500, 1500, width=32), min_size=4, max_size=4),
    st.integers(1, 4000), st.integers(1, 4000), st.floats(0.05, 4), st.floats(0.05, 4), st.integers(0, 200), st.integers(0, 200),
)  # fmt: skip
def test_one_box_goes_the_way_that_many_go(
    box: list[float], width: int, height: int, scale_x: float, scale_y: float, left: int, top: int
) -> None:
    """The few boxes of an answer are placed as plain numbers: to the same place as an array of them, and nowhere if outside."""
    geometry = Geometry(width, height, scale_x, scale_y, left, top)
    many = geometry.to_source(np.array([box], np.float32))[0]
    one = geometry.box_to_source(*box)
    if one is None:
        assert many[2] - many[0] < 0.01 or many[3] - many[1] < 0.01
    else:
        assert one == pytest.approx(many.tolist(), abs=0.01)


@pytest.mark.parametrize("at", range(4))
def test_a_box_with_a_number_that_is_none_has_no_place(at: int) -> None:
    """A broken model may say NaN: nobody is told of such a box."""
    box = [10.0, 10.0, 20.0, 20.0]
    box[at] = float("nan")
    assert Geometry(100, 100, 1.0, 1.0).box_to_source(*box) is None
