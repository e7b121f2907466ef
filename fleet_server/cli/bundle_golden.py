"""``rookery bundle golden``: parity samples, kept beside their pictures so that a build needs no interpreter to be the same."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.bundle_files import FILE, read_file
from fleet_server.cli.errors import CONFLICT, CliError
from fleet_server.cli.key_files import write_file
from fleet_server.cli.output import print_one, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from models.card import ModelCard
    from models.golden import LabelledBoxes, Tolerance
    from models.inference.types import Picture

PARITY_NAME = "parity.json"
SPREAD_FACTOR = 4.0
"""Other kernels may differ by this many times what threads and runtimes differ by here."""
LEAST_SCORE_TOLERANCE, LEAST_IOU_TOLERANCE = 0.05, 0.9
"""Never tighter than this: one step of an int8 score is 0.004, a pixel of a small box moves its IoU by 0.1."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--reference", type=FILE, help="The float model that the release was converted from.")
@click.option("--reference-card", type=FILE, help="Its card, where it is not that of the release's last variant.")
@pass_session
def golden(session: Session, folder: Path, reference: Path | None, reference_card: Path | None) -> None:
    """Make FOLDER's parity samples: what the reference sees in the pictures of [golden], written as parity.json beside them.

    With --reference it is the float model; tolerances come from how far the release's own variants are from it here, and are
    never wider than the usual ones: a conversion that is further off is not waved through by its own error. Else it is a
    variant of the release on this machine's CPU: "parity against itself", with tolerances from what threads and runtimes
    differ by here; it finds a broken delegate, not a bad conversion.
    """
    from fleet_server.cli.bundle_spec import golden_pictures, read_spec

    spec = read_spec(folder)
    pictures = golden_pictures(folder, spec)
    if not pictures:
        hint = 'add to bundle.toml: [golden] pictures = "golden", and put pictures into that folder'
        raise CliError(CONFLICT, f"{folder / 'bundle.toml'} names no pictures", hint)
    if reference is not None:
        card_file = reference_card or folder / spec["variant"][-1]["card"]
        chosen = conversion_tolerance(folder, spec, pictures, reference, card_file)
        data, said = parity_of(pictures, reference, card_file, spec, "float32", chosen)
    else:
        variant = reference_variant(spec)
        data, said = own_parity(folder, spec, variant, pictures)
    target = folder / spec["golden"]["pictures"] / PARITY_NAME
    write_file(target, data)
    body = {"file": str(target), "pictures": len(pictures), "sha256": hashlib.sha256(data).hexdigest(), **said}
    print_one(body, list(body.items()), session.output, "file")
    if said["reference"] == "self":
        talk("parity against itself: give the float model with --reference where there is one")


def reference_variant(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The variant that ``golden.reference`` names, else one that is called float, else the last."""
    name = spec["golden"].get("reference") or next(
        (variant["id"] for variant in spec["variant"] if "float" in variant["id"]), spec["variant"][-1]["id"]
    )
    found = next((variant for variant in spec["variant"] if variant["id"] == name), None)
    if found is None:
        raise CliError(CONFLICT, f"golden.reference names variant {name!r}, which there is not")
    return dict(found)


def own_parity(
    folder: Path, spec: Mapping[str, Any], variant: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> tuple[bytes, dict[str, Any]]:
    """parity.json by a variant of the release; what is called float counts as the float reference."""
    model, card = folder / variant["model"], folder / variant["card"]
    if "float" in variant["id"]:
        return parity_of(
            pictures, model, card, spec, "float32", conversion_tolerance(folder, spec, pictures, model, card)
        )
    return parity_of(pictures, model, card, spec, "self", spread_tolerance(pictures, model, card, spec))


def parity_of(
    pictures: Mapping[str, bytes], model: Path, card_file: Path, spec: Mapping[str, Any], reference: str,
    tolerance: "Tolerance | None",
) -> tuple[bytes, dict[str, Any]]:  # fmt: skip
    """(parity.json, what is to be said of it) of what ``model`` sees in the pictures (bundle path -> bytes)."""
    from models.golden import Tolerance, make_parity

    card = _card(card_file)
    threshold = float(spec["golden"].get("threshold", card.thresholds.score))
    samples = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(pictures.items())]
    seen = _seen(pictures, model, card, threshold, 1, "")
    chosen = tolerance or Tolerance()
    try:
        kind: Any = reference
        data = make_parity(samples, seen, threshold=threshold, reference=kind, tolerance=chosen)
    except ValueError as error:
        raise CliError(CONFLICT, f"parity samples cannot be made: {error}") from None
    return data, {
        "reference": reference, "boxes": sum(map(len, seen)), "threshold": threshold, "tolerance_iou": chosen.iou,
        "tolerance_score": chosen.score,
    }  # fmt: skip


def spread_tolerance(pictures: Mapping[str, bytes], model: Path, card_file: Path, spec: Mapping[str, Any]) -> "Tolerance":
    """Tolerances from what one model differs by here: one thread and four, and each runtime that is installed."""
    from models.inference.runtime_probe_linux import RUNTIMES

    card = _card(card_file)
    threshold = float(spec["golden"].get("threshold", card.thresholds.score))
    runs = [_seen(pictures, model, card, threshold, 1, "")]
    runs.append(_seen(pictures, model, card, threshold, 4, ""))
    for package in [package for package, _ in RUNTIMES]:
        other = _perhaps_seen(pictures, model, card, threshold, package)
        if other is not None:
            runs.append(other)
    return _tolerance_of(runs[0], runs[1:])


def conversion_tolerance(
    folder: Path, spec: Mapping[str, Any], pictures: Mapping[str, bytes], reference: Path, reference_card: Path
) -> "Tolerance":
    """Tolerances from how far the release's variants are from the float reference, on every runtime that is installed here.

    Variants that do not run on a CPU are passed over; where none does, the usual tolerances hold.
    """
    from models.inference.runtime_probe_linux import RUNTIMES

    card = _card(reference_card)
    threshold = float(spec["golden"].get("threshold", card.thresholds.score))
    runs = []
    for variant in spec.get("variant", ()):
        own_card = _card(folder / variant["card"])
        for package, _ in RUNTIMES:
            other = _perhaps_seen(pictures, folder / variant["model"], own_card, threshold, package)
            if other is not None:
                runs.append(other)
    return _tolerance_of(_seen(pictures, reference, card, threshold, 1, ""), runs)


def _tolerance_of(first: "Sequence[LabelledBoxes]", others: "Sequence[Sequence[LabelledBoxes]]") -> "Tolerance":
    """What runs differ by, stretched by ``SPREAD_FACTOR``; never wider than the usual tolerances."""
    from models.golden import Tolerance

    gap, overlap = 0.0, 1.0
    for other in others:
        for one, two in zip(first, other, strict=True):
            one_gap, one_overlap = _spread(one, two)
            gap, overlap = max(gap, one_gap), min(overlap, one_overlap)
    usual = Tolerance()
    if not others:
        return usual
    score = min(usual.score, max(LEAST_SCORE_TOLERANCE, SPREAD_FACTOR * gap))
    iou = max(usual.iou, min(LEAST_IOU_TOLERANCE, 1 - SPREAD_FACTOR * (1 - overlap)))
    return Tolerance(iou=round(iou, 4), score=round(score, 4), min_pairs=usual.min_pairs)


def _spread(first: "LabelledBoxes", second: "LabelledBoxes") -> tuple[float, float]:
    """(widest gap of scores, least IoU) between two runs over one picture, each box with the nearest of its label."""
    import numpy as np

    from models.inference.nms import pairwise_iou

    if not len(first) or not len(second):
        return 0.0, 1.0
    overlap = np.array(pairwise_iou(first.xyxy, second.xyxy))
    alike = np.array([[one == other for other in second.labels] for one in first.labels], bool)
    overlap[~alike] = 0.0
    best = overlap.argmax(axis=1)
    paired = overlap[np.arange(len(first)), best] > 0.5  # below it is another object: one at the threshold that only one run has
    if not paired.any():
        return 0.0, 1.0
    gaps = np.abs(first.scores - second.scores[best])[paired]
    return float(gaps.max()), float(overlap[np.arange(len(first)), best][paired].min())


def _perhaps_seen(
    pictures: Mapping[str, bytes], model: Path, card: "ModelCard", threshold: float, runtime: str
) -> "Sequence[LabelledBoxes] | None":
    from models.inference.errors import ModelError

    try:
        return _run(pictures, model, card, threshold, 2, runtime)
    except ModelError:
        return None  # a runtime that is not installed here says nothing about the model


def _seen(
    pictures: Mapping[str, bytes], model: Path, card: "ModelCard", threshold: float, threads: int, runtime: str
) -> "Sequence[LabelledBoxes]":
    from models.inference.errors import ModelError

    try:
        return _run(pictures, model, card, threshold, threads, runtime)
    except ModelError as error:
        raise CliError(CONFLICT, f"parity samples cannot be made: {error.message}") from None


def _run(
    pictures: Mapping[str, bytes], model: Path, card: "ModelCard", threshold: float, threads: int, runtime: str
) -> "Sequence[LabelledBoxes]":
    from models.golden import LabelledBoxes
    from models.inference.runtime_tflite import TfliteModel

    with TfliteModel(model, card, threads=threads, runtime=runtime) as opened:
        return [
            LabelledBoxes.found(opened.detect(_picture(path, data), threshold=threshold), card.labels)
            for path, data in sorted(pictures.items())
        ]


def _picture(path: str, data: bytes) -> "Picture":
    import cv2
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise CliError(CONFLICT, f"{path} is not a picture")
    return picture.astype(np.uint8, copy=False)


def _card(file: Path) -> "ModelCard":
    from models.card import CardError, load_card

    try:
        return load_card(read_file(file).decode())
    except UnicodeDecodeError:
        raise CliError(CONFLICT, f"{file} is not text") from None
    except CardError as error:
        raise CliError(CONFLICT, f"{file}: {error}") from None


def kept_parity(folder: Path, spec: Mapping[str, Any], pictures: Mapping[str, bytes]) -> bytes | None:
    """The folder's own parity.json, if there is one and it is of exactly these pictures."""
    from models.golden import GoldenError, parse_parity

    file = folder / str(spec.get("golden", {}).get("pictures", "")) / PARITY_NAME
    if not pictures or not file.is_file():
        return None
    data = read_file(file)
    try:
        found = {sample.file: sample.sha256 for sample in parse_parity(data).samples}
    except GoldenError as error:
        raise CliError(CONFLICT, f"{file}: {error}", f"make it again: rookery bundle golden {folder}") from None
    if found != {path: hashlib.sha256(one).hexdigest() for path, one in pictures.items()}:
        raise CliError(CONFLICT, f"{file} is of other pictures than those beside it", f"rookery bundle golden {folder}")
    return data


def make_parity_samples(folder: Path, spec: Mapping[str, Any]) -> bytes | None:
    """parity.json: the one that ``bundle golden`` left beside the pictures, else made now; None when the release has none.

    Made now, the reference is the variant that ``golden.reference`` names; without a float one it is the same file on this
    machine's CPU kernels, which is said openly as ``self``.
    """
    from fleet_server.cli.bundle_spec import golden_pictures

    pictures = golden_pictures(folder, spec)
    if not pictures:
        return None
    kept = kept_parity(folder, spec, pictures)
    return kept if kept is not None else own_parity(folder, spec, reference_variant(spec), pictures)[0]
