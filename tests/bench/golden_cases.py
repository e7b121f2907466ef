"""Models that must pass their golden samples, and a catalogue of spoiled ones that must not: each a request to the self-test's
child, as a board makes it."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.update.selftest import Proof, SelftestRequest, prove
from device_agent.update.selftest_process import run_selftest
from fleet_server.cli.bundle_golden import conversion_tolerance, own_parity, parity_of, spread_tolerance
from fleet_server.cli.errors import CliError
from models.card import ModelCard, dump_card, load_card
from ota.bundle.manifest import Budget
from tests.fakes import spoiled_models as spoiled
from tests.fakes.edgetpu_fake import FakeEdgeTpu, compile_model

ROOT = Path(__file__).resolve().parents[2]
RENDERED, CARDS = ROOT / "models" / "rendered", ROOT / "models" / "cards"
RELEASES = ("yard-1", "yard-2", "yard-2b", "yard-boxes", "yard-night")
ACCEPTED = ("yard-1", "yard-2", "yard-2b", "yard-night")
"""``boxes`` has its boxes in the wrong places, which the channel's acceptance set is there to find. (``night`` is as good as the
set asks for; that it is blind in the dark shows in its trial.)"""
RUNTIMES = ("ai-edge-litert", "tflite-runtime")
ASSETS = {"ssd": ("coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite", "ssd_mobilenet_v1_coco.toml"),
          "yolox": ("yolox_nano_float16.tflite", "yolox_nano_coco.toml"),
          "rpi-person": ("rpi_person_192.tflite", "rpi_person_192.toml")}  # fmt: skip
DEGRADED = "yolox_nano_int8_degraded.tflite"
PICTURES = 6
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Base:
    """A model with its golden samples in a folder, as ``rookery bundle golden`` makes them."""

    name: str
    request: SelftestRequest
    card: ModelCard
    tolerance: str


def rendered_base(folder: Path, release: str, file: str = "model_int8.tflite", *, accepted: bool | None = None) -> Base:
    """A release of the demo: parity with its float model, and the channel's acceptance set."""
    place = RENDERED / "releases" / release
    acceptance = json.loads((RENDERED / "acceptance" / "acceptance.json").read_text())
    first = [image["file"] for image in acceptance["images"][:PICTURES]]
    pictures = {name: (RENDERED / "acceptance" / name).read_bytes() for name in first}
    spec = {"golden": {}, "variant": [{"id": "cpu-int8", "model": "model_int8.tflite", "card": "card.toml"}]}
    reference, card = place / "model_float32.tflite", place / "card.toml"
    data, said = parity_of(
        pictures, reference, card, spec, "float32", conversion_tolerance(place, spec, pictures, reference, card)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_bytes(data)
    with_acceptance = release in ACCEPTED if accepted is None else accepted
    request = SelftestRequest(
        model=str(place / file), card=str(place / "card.toml"), parity=str(folder / "parity.json"), rounds=1,
        acceptance=str(RENDERED / "acceptance" / "acceptance.json") if with_acceptance else None,
        pictures={image["sha256"]: str(RENDERED / "acceptance" / image["file"]) for image in acceptance["images"]},
    )  # fmt: skip
    return Base(f"{release} {file}", request, load_card((place / "card.toml").read_text()), _words(said))


def asset_base(folder: Path, assets: Path, kind: str) -> Base:
    """A model made by others. Without a float model the reference is itself, with tolerances from the spread of runs here."""
    import hashlib

    model, card = assets / "models" / ASSETS[kind][0], CARDS / ASSETS[kind][1]
    chosen = _asset_pictures(assets)
    pictures = {path.name: path.read_bytes() for path in chosen}
    if kind == "yolox":
        spec = {"golden": {}, "variant": [{"id": "cpu-float16", "model": str(model), "card": str(card)}]}
        data, said = own_parity(assets, spec, spec["variant"][0], pictures)
    else:
        data, said = parity_of(
            pictures, model, card, {"golden": {}}, "self", spread_tolerance(pictures, model, card, {"golden": {}})
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_bytes(data)
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): str(path) for path in chosen}
    request = SelftestRequest(model=str(model), card=str(card), parity=str(folder / "parity.json"), pictures=files, rounds=1)
    return Base(f"{kind} {model.name}", request, load_card(card.read_text()), _words(said))


def _words(said: dict[str, object]) -> str:
    return f"{said['reference']}, {said['boxes']} boxes, IoU {said['tolerance_iou']}, score {said['tolerance_score']}"


def _asset_pictures(assets: Path) -> list[Path]:
    """Photos with a few people in them, and the cats and dogs."""
    found = json.loads((assets / "annotated" / "coco_permissive" / "annotations.json").read_text())
    person = next(one["id"] for one in found["categories"] if one["name"] == "person")
    people: dict[int, int] = {}
    for row in found["annotations"]:
        if row["category_id"] == person and not row["iscrowd"]:
            people[row["image_id"]] = people.get(row["image_id"], 0) + 1
    names = [row["file_name"] for row in found["images"] if 1 <= people.get(row["id"], 0) <= 4][: PICTURES - 1]
    photos = assets / "annotated" / "coco_permissive" / "images"
    return [assets / "images" / "cats_and_dogs.jpg", *(photos / name for name in names)]


def examine(request: SelftestRequest) -> Proof:
    """What the self-test makes of it, in its child."""
    return prove(run_selftest(request, deadline_s=DEADLINE_S), Budget(), 1.0)


def clean_runs(bases: list[Base]) -> Iterator[tuple[str, SelftestRequest]]:
    """Every good model on both runtimes, with one and two threads."""
    for base in bases:
        for runtime in RUNTIMES:
            for threads in (1, 2):
                name = f"{base.name}, {runtime}, {threads} thread{'s' * (threads > 1)}"
                yield name, msgspec.structs.replace(base.request, runtime=runtime, threads=threads)


# -- what may be wrong ------------------------------------------------------------------------------------------------------

Make = Callable[[Base, Path], SelftestRequest]


@dataclass(frozen=True)
class Case:
    """One thing that is wrong with one model. ``needs``: which base; ``seed`` of what is drawn."""

    name: str
    family: str
    needs: str
    make: Make
    seed: int = 0


def card_with(change: Callable[[ModelCard], ModelCard]) -> Make:
    """The same model under another card: how pictures go in and boxes come out is wrong."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        (folder / "card.toml").write_text(dump_card(change(base.card)))
        return msgspec.structs.replace(base.request, card=str(folder / "card.toml"))
    return make


def fed(**fields: object) -> Make:
    """The card's input says something else."""
    return card_with(lambda card: dataclasses.replace(card, input=dataclasses.replace(card.input, **fields)))


def model_with(change: spoiled.Change, seed: int = 0) -> Make:
    """Numbers in the model's file are others."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        (folder / "model.tflite").write_bytes(spoiled.spoil(Path(base.request.model).read_bytes(), change, seed))
        return msgspec.structs.replace(base.request, model=str(folder / "model.tflite"))
    return make


def its_own_witness(made: Make) -> Make:
    """The releaser did not notice, and made the parity samples with the spoiled model itself: the channel's pictures are left."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        request = made(base, folder)
        named = json.loads(Path(base.request.parity or "").read_text())["samples"]
        pictures = {sample["file"]: Path(request.pictures[sample["sha256"]]).read_bytes() for sample in named}
        variant = {"id": "cpu-int8", "model": request.model, "card": request.card}
        try:
            data, _ = own_parity(folder, {"golden": {}}, variant, pictures)
        except CliError:  # it sees nothing any more: such a release has no parity samples
            return msgspec.structs.replace(request, parity=None)
        (folder / "parity.json").write_bytes(data)
        return msgspec.structs.replace(request, parity=str(folder / "parity.json"))
    return make


def bytes_with(change: Callable[[bytes], bytes]) -> Make:
    """The file is not whole, or another."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        (folder / "model.tflite").write_bytes(change(Path(base.request.model).read_bytes()))
        return msgspec.structs.replace(base.request, model=str(folder / "model.tflite"))
    return make


def accelerator_that(order: str) -> Make:
    """An Edge TPU (ours, in C, behind the real delegate door) that does as it is told."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        tpu = FakeEdgeTpu(folder / "tpu")
        tpu.order(order)
        model = compile_model(Path(base.request.model), folder / "edgetpu.tflite")
        return msgspec.structs.replace(base.request, model=str(model), delegate_library=str(tpu.library))
    return make


def labels(change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Make:
    """Another label map."""
    return card_with(lambda card: dataclasses.replace(card, labels=change(card.labels)))


def other_file(file: Path | str) -> Make:
    """Another model's file in its place; a name alone is one of the shared assets."""
    def make(base: Base, folder: Path) -> SelftestRequest:
        path = file if isinstance(file, Path) else Path(base.request.model).parent / file
        return msgspec.structs.replace(base.request, model=str(path))
    return make


_turned = lambda names: (*names[1:], names[0])  # noqa: E731 - one expression, used by several rows
CATALOGUE = (
    Case("the card says BGR", "channels", "yard-1", fed(colour="bgr")),
    Case("the card says BGR", "channels", "yard-2", fed(colour="bgr")),
    Case("the card says BGR", "channels", "ssd", fed(colour="bgr")),
    Case("the card says RGB", "channels", "yolox", fed(colour="rgb")),
    Case("the card says RGB", "channels", "rpi-person", fed(colour="rgb")),
    Case("trained on BGR: the first convolution the other way round", "channels", "yard-1", model_with(spoiled.colours_swapped)),
    Case("the same, and its parity made by itself", "channels", "yard-1", its_own_witness(model_with(spoiled.colours_swapped))),
    Case("labels one further", "labels", "yard-1", labels(_turned)),
    Case("two labels exchanged", "labels", "yard-1", labels(lambda names: (names[1], names[0], *names[2:]))),
    Case("labels one further", "labels", "ssd", labels(_turned)),
    Case("labels one further", "labels", "yolox", labels(_turned)),
    Case("the scores' rows one further", "labels", "yard-1", model_with(spoiled.classes_turned)),
    Case("the same, and its parity made by itself", "labels", "yard-1", its_own_witness(model_with(spoiled.classes_turned))),
    Case("divided by 127.5 instead of 255", "scaling", "yard-1", fed(std=127.5)),
    Case("not scaled at all", "scaling", "yard-1 float", fed(std=1.0)),
    Case("mean 127.5, std 127.5", "scaling", "yard-1", fed(mean=127.5, std=127.5)),
    Case("divided by 255", "scaling", "yolox", fed(std=255.0)),
    Case("divided by 255", "scaling", "rpi-person", fed(std=255.0)),
    Case("letterbox instead of stretch", "letterbox", "ssd", fed(resize="letterbox")),
    Case("stretch instead of letterbox", "letterbox", "yolox", fed(resize="stretch")),
    Case("stretch instead of letterbox", "letterbox", "rpi-person", fed(resize="stretch")),
    Case("strides of another size", "boxes", "yard-1", card_with(
        lambda card: dataclasses.replace(card, output=dataclasses.replace(card.output, strides=(16,))))),
    Case("boxes 2 px off", "boxes", "yard-1", model_with(spoiled.boxes_shifted(2.0))),
    Case("boxes 12 px off", "boxes", "yard-1", model_with(spoiled.boxes_shifted(12.0))),
    Case("boxes 12 px off, and its parity made by itself", "boxes", "yard-1",
         its_own_witness(model_with(spoiled.boxes_shifted(12.0)))),
    Case("release yard-boxes: plausible scores, wrong places", "boxes", "yard-boxes",
         lambda base, folder: msgspec.structs.replace(base.request, acceptance=str(RENDERED / "acceptance" / "acceptance.json"))),
    Case("int8 of YOLOX-nano, degraded", "quantisation", "yolox", other_file(DEGRADED)),
    Case("weights of 3 bits", "quantisation", "yard-1", model_with(spoiled.coarse(3))),
    Case("weights of 2 bits", "quantisation", "yard-2", model_with(spoiled.coarse(2))),
    Case("one scale for all channels", "quantisation", "yard-1", model_with(spoiled.one_scale_for_all)),
    Case("activations cut off at a quarter", "quantisation", "yard-1", model_with(spoiled.range_too_small(0.25))),
    Case("scale of the boxes' last layer doubled", "quantisation", "yard-1", model_with(spoiled.layer_scaled("box_out", 2.0))),
    Case("scale of the scores' last layer halved", "quantisation", "yard-1", model_with(spoiled.layer_scaled("score_out", 0.5))),
    Case("one bit in 20 weights", "weights", "yard-1", model_with(spoiled.bits_flipped(0.05), 1), 1),
    Case("one bit in 20 weights", "weights", "yard-2b", model_with(spoiled.bits_flipped(0.05), 2), 2),
    Case("a layer of zeros", "weights", "yard-1", model_with(spoiled.layer_zeroed("block16_1_up"))),
    Case("a layer's channels in another order", "weights", "yard-1", model_with(spoiled.layer_shuffled("stage8"), 3), 3),
    Case("the same, and its parity made by itself", "weights", "yard-1",
         its_own_witness(model_with(spoiled.layer_shuffled("stage8"), 3)), 3),
    Case("another release's model", "weights", "yard-1", other_file(RENDERED / "releases" / "yard-night" / "model_int8.tflite")),
    Case("half a file", "file", "yard-1", bytes_with(lambda data: data[: len(data) // 2])),
    Case("an empty file", "file", "yard-1", bytes_with(lambda data: b"")),
    Case("the accelerator's transfer is turned round", "delegate", "yard-1", accelerator_that("wrong")),
    Case("the accelerator answers zeros", "delegate", "yard-1", accelerator_that("silence")),
    Case("the accelerator fails while running", "delegate", "yard-1", accelerator_that("fail-invoke")),
    Case("the accelerator's driver aborts", "delegate", "yard-1", accelerator_that("abort-invoke")),
    Case("the accelerator is not there", "delegate", "yard-1", accelerator_that("absent")),
)  # fmt: skip
