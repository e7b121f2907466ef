"""Cards that are read off a file: only where nothing is left to guess; where something is, the refusal says what to write."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.card import dump_card, load_card
from models.inference.errors import ModelError
from models.inference.infer_card import infer_card
from models.inference.metadata import Metadata, ultralytics
from models.inference.metadata_disk import read_metadata
from models.inference.model_file import DETECTION_OP, ModelFile
from models.inference.runtime_tflite import TfliteModel, infer_card_for
from models.inference.types import Picture, TensorInfo

COCO = tuple(f"c{at}" for at in range(80))
ROLES = ("boxes", "classes", "scores", "count")


def tensor(*shape: int, dtype: str = "f4", name: str = "t", scale: float = 0.0, zero: int = 0, role: str = "") -> TensorInfo:
    return TensorInfo(name, shape, np.dtype(dtype), scale, zero, role=role)


def file(inputs: list[TensorInfo], outputs: list[TensorInfo], classes: int | None = None, op: str = "") -> ModelFile:
    return ModelFile(frozenset({op} - {""}), 1000, tuple(inputs), tuple(outputs), classes)


def refusal(model: ModelFile, labels: tuple[str, ...] = COCO, metadata: Metadata | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        infer_card("m", model, labels, metadata)
    return caught.value


SQUARE = tensor(1, 640, 640, 3)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
@pytest.mark.parametrize("known", [True, False])
def test_post_processing_inside_needs_no_card(order: tuple[int, ...], known: bool) -> None:
    """SSD of TF1 and TF2, EfficientDet-Lite: the operation says which output is which, even before their shapes are known."""
    shapes = ((1, 25, 4), (1, 25), (1, 25), (1,))
    outputs = [tensor(*(shapes[at] if known else ()), role=ROLES[at]) for at in order]
    card = infer_card("lite0", file([tensor(1, 320, 320, 3, dtype="u1", scale=1 / 128)], outputs, 80, DETECTION_OP), COCO)
    assert (card.output.decoder, card.input.width_px, card.input.resize) == ("ssd_postprocess", 320, "stretch")
    assert card.input.raw
    assert load_card(dump_card(card)) == card
    floating = infer_card("ssd", file([tensor(1, 320, 320, 3)], outputs, 80, DETECTION_OP), COCO)
    assert (floating.input.mean, floating.input.std) == (127.5, 127.5)
    told = infer_card("ssd", file([tensor(1, 320, 320, 3)], outputs, 80, DETECTION_OP), COCO, Metadata(mean=0.0, std=255.0))
    assert (told.input.mean, told.input.std) == (0.0, 255.0), "what the file says of its input holds over the usual"


def test_an_ultralytics_export_needs_no_card() -> None:
    """YOLOv8 and 11, YOLOv5: shapes fit their strides, and the metadata or an 8-bit scale says that boxes are shares."""
    said = Metadata(COCO, ultralytics=True, task="detect")
    eight = infer_card("yolo11n", file([SQUARE], [tensor(1, 84, 8400)]), (), said)
    assert (eight.output.decoder, eight.output.box_units) == ("yolov8", "normalised")
    assert (eight.input.resize, eight.input.std, eight.input.colour) == ("letterbox_centre", 255.0, "rgb")
    five = infer_card("yolov5n", file([tensor(1, 3, 320, 320)], [tensor(1, 6300, 85)]), (), said)
    assert (five.output.decoder, five.input.layout) == ("yolov5", "nchw")
    scaled = tensor(1, 84, 2100, dtype="i1", scale=1 / 255, zero=-128)
    assert infer_card("int8", file([tensor(1, 320, 320, 3, dtype="i1")], [scaled]), COCO).output.decoder == "yolov8"
    segmented = Metadata(COCO, ultralytics=True, task="segment")
    assert "segment" in refusal(file([SQUARE], [tensor(1, 116, 8400)]), (), segmented).message


@pytest.mark.parametrize(
    "output",
    [
        tensor(1, 84, 8400),  # float, and nothing says pixels or shares
        tensor(1, 8400, 85),  # YOLOX, decoded or not?
        tensor(1, 84, 8400, dtype="i1", scale=2.5, zero=-128),  # its scale reaches 640: pixels
        tensor(1, 84, 999, dtype="i1", scale=1 / 255, zero=-128),  # fits no strides
    ],
)
def test_where_two_readings_are_possible_none_is_guessed(output: TensorInfo) -> None:
    """A wrong guess would give boxes, only wrong ones. The refusal names the fields of the card that decide."""
    error = refusal(file([SQUARE], [output]))
    assert error.reason == "wrong_shape"
    for word in ("width_px = 640", 'layout = "nhwc"', "decoder", "models/README.md", "labels"):
        assert word in error.message
    if output.shape == (1, 8400, 85):
        assert 'decoder = "yolox"' in error.message
        assert 'box_units = "pixels"' in error.message


def test_a_model_with_a_memory_is_refused_by_what_comes_back() -> None:
    """The traffic detector of google-coral/test_data: a picture and two LSTM states in, four outputs and two states out."""
    state = [tensor(1, 10, 10, 320, name=f"raw_inputs/state_{at}") for at in "ch"]
    shapes = ((1, 40, 4), (1, 40), (1, 40), (1,))
    outputs = [tensor(*shape, role=role) for shape, role in zip(shapes, ROLES, strict=True)]
    back = [tensor(1, 10, 10, 320, name=f"raw_outputs/state_{at}") for at in "ch"]
    error = refusal(file([tensor(1, 256, 256, 3), *state], [*outputs, *back], 5, DETECTION_OP))
    assert error.reason == "wrong_shape"
    assert "carries state from frame to frame" in error.message
    assert "raw_inputs/state_c" in error.message
    assert "export it without state" in error.message
    other = refusal(file([tensor(1, 19, 19, 576), tensor(1, 10, 10, 256)], outputs, 5, DETECTION_OP)).message
    assert "2 inputs" in other
    assert "takes no input" in refusal(file([], outputs)).message


def test_labels_that_do_not_fit_are_refused_with_the_number_there_should_be() -> None:
    outputs = [tensor(role=role) for role in ROLES]
    model = file([tensor(1, 300, 300, 3, dtype="u1")], outputs, 90, DETECTION_OP)
    assert "give a label file" in refusal(model, ()).message
    assert "80 labels are too few: the model has 90 classes" in refusal(model).message
    background = ("background", *(f"c{at}" for at in range(90)))
    assert "take that first line out" in refusal(model, background).message
    assert "more than once" in refusal(model, ("a",) * 90).message
    assert len(infer_card("m", file(list(model.inputs), outputs, None, DETECTION_OP), COCO).labels) == 80, "unknown: believed"


def test_what_ultralytics_wrote_is_read_out_of_the_file(tmp_path: Path) -> None:
    """A model with an archive behind it: labels and task come from there; other texts, broken ones and huge ones do not count."""
    model = tmp_path / "m.tflite"
    said = {"description": "Ultralytics YOLO11n model", "task": "detect", "names": {0: "cat", 1: "dog"}, "imgsz": [640, 640]}
    for name, text, labels in (
        ("temp_meta.txt", str(said), ("cat", "dog")),
        ("metadata.json", json.dumps(said), ("cat", "dog")),
        ("labels.txt", "cat\ndog\n", ("cat", "dog")),
        ("labels.txt", "\0\0", ()),
        ("temp_meta.txt", "{" * 5000, ()),
        ("labels.txt", "x\n" * 600_000, ()),
    ):
        model.write_bytes(b"model" * 100)
        with zipfile.ZipFile(model, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, text)
        found = read_metadata(model)
        assert found.labels == labels, (name, text[:20])
        assert found.ultralytics == (bool(labels) and name != "labels.txt")
    model.write_bytes(model.read_bytes()[:-30])
    assert read_metadata(model) == Metadata()
    assert ultralytics("") is None


@pytest.mark.assets
def test_real_models_that_are_no_detectors_are_called_what_they_are(assets: Path) -> None:
    """Classifiers, a pose net, halves of a detector, with and without a card: refused before they run, with a way on."""
    ssd = infer_card_for(assets / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")
    for name, words in (
        ("mobilenet_v1_0.5_160_quant", "classifier of 1001 classes"),
        ("tf2_mobilenet_v2_1.0_224_ptq", "classifier of 1001 classes"),
        ("mobilenet_v1_0.5_160_quant_edgetpu", "classifier of 1001 classes"),
        ("vww_96_int8", "classifier of 2 classes"),
        ("cifar10_resnet8_int8", "classifier of 10 classes"),
        ("cifar10_resnet8_float", "classifier of 10 classes"),
        ("movenet_single_pose_lightning_ptq", "pose net"),
        ("ssd_mobilenet_v2_coco_quant_postprocess_segment_1_of_2_edgetpu", "3 inputs"),
        ("ssd_mobilenet_v2_coco_quant_postprocess_segment_0_of_2_edgetpu", "Write a model card"),
        ("rpi_person_192", 'decoder = "yolox"'),
        ("yolox_nano_float16", 'decoder = "yolox"'),
    ):
        path = assets / "models" / f"{name}.tflite"
        with pytest.raises(ModelError) as caught:
            infer_card_for(path, COCO)
        assert words in caught.value.message, name
        if "edgetpu" not in name:
            with pytest.raises(ModelError) as under_a_card:
                TfliteModel(path, ssd)
            assert under_a_card.value.reason == "wrong_shape"


@pytest.mark.assets
def test_the_order_of_outputs_comes_from_the_graph_itself(assets: Path) -> None:
    """The SSD with its output names taken away: what the operation gives where still tells boxes from scores."""
    import dataclasses

    path = assets / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    from models.coco_set_disk import read_picture
    from models.inference.decode import make_decoder
    from models.inference.types import Detections, OutputTensor

    class Shuffled(TfliteModel):
        """The same outputs in another order and without names."""

        def detect(self, picture_bgr: Picture, *, threshold: float | None = None) -> Detections:
            outputs, geometry = self._run(picture_bgr)
            bare = [
                OutputTensor(dataclasses.replace(outputs[at].info, name="?", signature_name=""), outputs[at].values)
                for at in (3, 1, 0, 2)
            ]
            return make_decoder(self.card, [one.info for one in bare])(bare, geometry, threshold)

    picture = read_picture(assets / "images" / "cats_and_dogs.jpg")
    card = infer_card_for(path)
    with TfliteModel(path, card) as model, Shuffled(path, card) as shuffled:
        assert (shuffled.detect(picture).xyxy == model.detect(picture).xyxy).all()
        assert len(model.detect(picture)) == 4
