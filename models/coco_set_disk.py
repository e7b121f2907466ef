"""A labelled set of pictures as COCO keeps it: `images/` and `annotations.json` in one folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.inference.types import Picture
from models.precision import LabelledBoxes

Annotation = tuple[str, list[float], bool]
"""Category, [left, top, width, height] in pixels, whether it is a crowd region."""


class SetError(ValueError):
    """A set that cannot be scored; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class LabelledPicture:
    """One picture of a set: where it lies, its truth in pixels, the split it is said to belong to."""

    path: Path
    truth: LabelledBoxes
    split: str


@dataclass(frozen=True)
class CocoSet:
    """The pictures of a set and the names of all its categories."""

    pictures: tuple[LabelledPicture, ...]
    categories: tuple[str, ...]


def read_coco_set(folder: Path) -> CocoSet:
    """The set in a folder; raises SetError where it is not one, or names a picture that is not there."""
    annotations = folder / "annotations.json"
    try:
        found = json.loads(annotations.read_bytes())
    except FileNotFoundError as error:
        raise SetError(f"{folder} is no COCO set: it has no annotations.json") from error
    except OSError as error:
        raise SetError(f"{annotations} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SetError(f"{annotations} is not JSON: {error}") from error
    try:
        categories = {int(row["id"]): str(row["name"]) for row in found["categories"]}
        boxes = _boxes_by_image(found["annotations"], categories)
        pictures = tuple(_picture(folder, row, boxes.get(int(row["id"]), [])) for row in found["images"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SetError):
            raise
        raise SetError(f"{annotations} is not in COCO's form: {type(error).__name__} {error}") from error
    if not pictures:
        raise SetError(f"{annotations} lists no images")
    return CocoSet(pictures, tuple(categories.values()))


def _boxes_by_image(rows: list[Mapping[str, Any]], categories: Mapping[int, str]) -> dict[int, list[Annotation]]:
    """(category, [left, top, width, height], crowd) of every annotation, by image id."""
    boxes: dict[int, list[Annotation]] = {}
    for row in rows:
        bbox = [float(value) for value in row["bbox"]]
        if len(bbox) != 4 or not np.isfinite(bbox).all():
            raise SetError(f"annotation {row.get('id')}: bbox must be [left, top, width, height] in pixels, not {row['bbox']}")
        label = categories.get(int(row["category_id"]))
        if label is None:
            raise SetError(f"annotation {row.get('id')}: there is no category {row['category_id']}")
        boxes.setdefault(int(row["image_id"]), []).append((label, bbox, bool(row.get("iscrowd", 0))))
    return boxes


def _picture(folder: Path, row: Mapping[str, Any], boxes: list[Annotation]) -> LabelledPicture:
    path = folder / "images" / str(row["file_name"])
    if not path.is_file():
        raise SetError(f"{path} is listed in annotations.json and not there")
    labels, xywh, crowd = [list(part) for part in zip(*boxes, strict=True)] if boxes else ([], [], [])
    truth = LabelledBoxes.of_xywh(xywh, labels, None, crowd)
    return LabelledPicture(path, truth, str(row.get("split", "")))


def read_picture(path: Path) -> Picture:
    """A picture (H, W, 3) uint8 BGR as its pixels stand in the file; raises SetError where it is none.

    An orientation in the file's EXIF is ignored: COCO's boxes are drawn on the stored pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SetError(f"{path} cannot be read: {error.strerror}") from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if picture is None:
        raise SetError(f"{path} is not a picture")
    return np.asarray(picture, np.uint8)
