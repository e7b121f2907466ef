"""Boxes of pictures, without a server: the formats of contracts, section 8.

Pictures are read as a viewer shows them: an orientation in their EXIF is applied, and boxes are in pixels of the upright picture.
16-bit and grey pictures become 8-bit BGR; transparency is taken away, not blended. A JPEG, PNG, BMP or WebP file of at most
64 MB and 64 million pixels is read; what is broken, cut short or larger is named and left out.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from device_agent.vision.choice_disk import ModelChoice, card_of, write_result
from device_agent.vision.events_file_disk import check_writable
from device_agent.vision.picture_file import PICTURE_KINDS, look_at_picture
from device_agent.vision.tiles import find_in_tiles
from device_agent.vision.types import CameraError, Picture, bbox_of
from models.card import UNUSED_LABELS, ModelCard
from models.inference.runtime_tflite import TfliteModel
from models.inference.types import Detections

MAX_PICTURE_BYTES = 64_000_000
MAX_PICTURE_PX = 64_000_000
"""The largest sensor that a Pi's camera has; 192 MB once decoded."""
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAX_PICTURES = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """Every box, in the form of the file; how many pictures were looked at; a sentence on each that was left out."""

    boxes: list[dict[str, object]]
    pictures: int
    skipped: list[str]
    card: ModelCard


def detect_pictures(pictures: Path | Sequence[Path], choice: ModelChoice, out: Path | None = None) -> Found:
    """Every box above the card's lowest threshold in pictures, and in all those of folders (of their `images/`, if there is one).

    Runs in this process: a person waits for the answer, and starting a child would take longer than the model does; the command
    line forks before (`apart_linux`). A broken picture is left out and named; where not one can be looked at, and for any other
    fault, CameraError, ModelError or CardError is raised and nothing written.
    """
    if out is not None:
        check_writable(out, [choice.model])
    listed = _listed([pictures] if isinstance(pictures, Path) else list(pictures))
    card = card_of(choice)
    boxes: list[dict[str, object]] = []
    skipped: list[str] = []
    with TfliteModel(choice.model, card, threads=choice.threads, delegate_library=choice.delegate_library) as model:
        for name, path in listed:
            try:
                picture = read_any_picture(path)
            except CameraError as error:
                skipped.append(error.message)
                continue
            boxes += _entries(name, _find(model, picture, choice), card.labels)
    if len(skipped) == len(listed):
        raise CameraError("broken_frame", skipped[0] if len(skipped) == 1 else f"not one of {len(skipped)} pictures can be read: "
                          + "; ".join(skipped[:3]))  # fmt: skip
    if out is not None:
        write_result(out, (json.dumps(boxes, indent=1) + "\n").encode())
    return Found(boxes, len(listed) - len(skipped), skipped, card)


def read_any_picture(path: Path) -> Picture:
    """A picture of a stranger as BGR (H, W, 3) uint8; raises CameraError `missing` or `broken_frame` with the file's name."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise CameraError("missing", f"the picture {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_PICTURE_BYTES:
        raise CameraError("broken_frame", f"{path} has more than {MAX_PICTURE_BYTES} bytes: no picture needs that many")
    header = look_at_picture(content)
    if header is None:
        raise CameraError("broken_frame", f"{path} is not a picture ({PICTURE_KINDS})")
    if not header.whole:
        raise CameraError("broken_frame", f"{path} is cut short: copy it again")
    if not 0 < header.width_px * header.height_px <= MAX_PICTURE_PX:
        size = f"{header.width_px}x{header.height_px} px"
        raise CameraError("broken_frame", f"{path} is {size}: pictures may have {MAX_PICTURE_PX} pixels at most")
    try:
        # As shown: IMREAD_COLOR turns by EXIF, makes 8 bits of 16 and three channels of one or four.
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None or picture.size == 0:
        raise CameraError("broken_frame", f"{path} is damaged: its header is that of a picture, the rest cannot be decoded")
    return np.asarray(picture, np.uint8)


def _find(model: TfliteModel, picture: Picture, choice: ModelChoice) -> Detections:
    lowest = model.card.thresholds.lowest
    if choice.tiles is None:
        return model.detect(picture, threshold=lowest)
    return find_in_tiles(lambda part: model.detect(part, threshold=lowest), picture, choice.tiles)


def _entries(name: str, found: Detections, labels: Sequence[str]) -> list[dict[str, object]]:
    """Detections of one picture in the form of the file."""
    rows = zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
    return [
        {"file_name": name, "category": labels[class_id], "bbox": bbox_of(box), "score": round(score, 4)}
        for box, score, class_id in rows
        if 0 <= class_id < len(labels) and labels[class_id] not in UNUSED_LABELS
    ]


def _listed(given: list[Path]) -> list[tuple[str, Path]]:
    """(name, file) of all pictures: the file's own name, or its whole path where two have the same."""
    found: list[Path] = []
    for path in given:
        found += _of_folder(path) if path.is_dir() else [path]
        if len(found) > MAX_PICTURES:
            raise CameraError("bad_source", f"more than {MAX_PICTURES} pictures: give them in several calls")
    if not found:
        raise CameraError("no_frames", "no picture was named")
    times = Counter(path.name for path in found)
    return [(path.name if times[path.name] == 1 else str(path), path) for path in found]


def _of_folder(folder: Path) -> list[Path]:
    """The picture files of a folder in order of name."""
    within = folder / "images" if (folder / "images").is_dir() else folder
    try:
        found = sorted(path for path in within.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    except OSError as error:
        raise CameraError("missing", f"the folder {within} cannot be read: {error.strerror}") from error
    if not found:
        raise CameraError("no_frames", f"the folder {within} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return found
