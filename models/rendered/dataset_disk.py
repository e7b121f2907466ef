"""Draws a COCO-format set for models/evaluate.py: python -m models.rendered.dataset_disk --out DIR --seeds 900000:900300.

Each seed is one picture (PNG); a picture's `split` is its light, so that `evaluate --split night` scores the night alone.
Exit codes: 0 written, 1 cannot be written (said on stderr), 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2

from models.rendered import scenes
from models.rendered.yard import HEIGHT_PX, WIDTH_PX

PUBLISHED_SEEDS = range(900_000, 900_300)
"""The seeds of every published figure; nothing is ever trained or chosen on them."""
MOST_PICTURES = 20_000


class DatasetError(Exception):
    """A set that cannot be written; the message says why."""


def light_of(position: int) -> Literal["day", "dusk", "night"]:
    """The light of the set's n-th picture: day, dusk and night in turn, a third each."""
    lights: tuple[Literal["day", "dusk", "night"], ...] = ("day", "dusk", "night")
    return lights[position % 3]


def write_dataset(out: Path, seeds: Sequence[int], lights: Sequence[Literal["day", "dusk", "night"]] | None = None) -> None:
    """Draw one picture for each seed into `out` (new or empty): `images/` and `annotations.json`. Raises DatasetError."""
    if not 0 < len(seeds) <= MOST_PICTURES or min(seeds) < 0:
        raise DatasetError(f"a set has 1 to {MOST_PICTURES} pictures with seeds from 0 on")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is there already and not an empty folder")
    half = out.with_name(f".{out.name}.part{os.getpid()}")
    try:
        (half / "images").mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for position, seed in enumerate(seeds):
            rendered = scenes.sample(seed, light=lights[position] if lights else light_of(position))
            name = f"yard_{seed:07d}.png"
            _, coded = cv2.imencode(".png", rendered.picture_bgr)
            (half / "images" / name).write_bytes(coded.tobytes())
            size = {"width": WIDTH_PX, "height": HEIGHT_PX}
            images.append({"id": seed, "file_name": name, **size, "split": rendered.light})
            for item in rendered.truth:
                annotations.append(_annotation(len(annotations) + 1, seed, item))
        categories = [{"id": index + 1, "name": label} for index, label in enumerate(scenes.LABELS)]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        with (half / "annotations.json").open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        half.replace(out)
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _annotation(number: int, image: int, item: scenes.Truth) -> dict[str, Any]:
    """One object as COCO writes it, with its hidden share beside."""
    x1, y1, x2, y2 = (round(value, 2) for value in item.box_px)
    bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
    return {"id": number, "image_id": image, "category_id": scenes.LABELS.index(item.label) + 1, "bbox": bbox,
            "area": round(bbox[2] * bbox[3], 2), "iscrowd": 0, "occlusion": round(item.occlusion, 3)}


def seed_range(text: str) -> range:
    """FIRST:END as a range, END not included."""
    first, colon, end = text.partition(":")
    if not colon or not first.isdigit() or not end.isdigit() or int(first) >= int(end):
        raise argparse.ArgumentTypeError("seeds are given as FIRST:END, END not included, such as 900000:900300")
    return range(int(first), int(end))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.rendered.dataset_disk", description="Draw a labelled set.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=seed_range, default=PUBLISHED_SEEDS, metavar="FIRST:END")
    asked = parser.parse_args(arguments)
    try:
        write_dataset(asked.out, asked.seeds)
    except DatasetError as error:
        sys.stderr.write(f"dataset: {error}\n")
        return 1
    sys.stdout.write(f"{len(asked.seeds)} pictures in {asked.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
