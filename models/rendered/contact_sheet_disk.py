"""One picture for the docs: scenes by day, dusk and night, truth in white, a release's boxes in colour.

python -m models.rendered.contact_sheet_disk [--release yard-2] [--out docs/evidence/rendered_scenes.png]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from models.card import load_card
from models.inference.runtime_tflite import TfliteModel
from models.rendered import scenes
from models.rendered.yard import Picture

COLOURS = {"person": (80, 200, 255), "cart": (120, 255, 120), "animal": (255, 160, 120)}
TILE_PX = (272, 204)
GREY_STEP = 17
"""Noise does not compress: grey levels are rounded to this, which nobody sees at this size."""


def tile(seed: int, light: Literal["day", "dusk", "night"], model: TfliteModel) -> Picture:
    """One scene with its truth (thin white) and what the model reports at its threshold (colour of the class, score)."""
    rendered = scenes.sample(seed, light=light)
    found = model.detect(rendered.picture_bgr)
    quiet = cv2.medianBlur(rendered.picture_bgr, 3)
    quiet = np.asarray(np.minimum((quiet.astype(np.uint16) + GREY_STEP // 2) // GREY_STEP * GREY_STEP, 255), np.uint8)
    shown = cv2.resize(quiet, TILE_PX, interpolation=cv2.INTER_NEAREST)
    scale_x, scale_y = TILE_PX[0] / quiet.shape[1], TILE_PX[1] / quiet.shape[0]
    for item in rendered.truth:
        x1, y1, x2, y2 = item.box_px
        corners = (round(x1 * scale_x), round(y1 * scale_y)), (round(x2 * scale_x), round(y2 * scale_y))
        cv2.rectangle(shown, *corners, (255, 255, 255), 1)
    for box, score, label in zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True):
        colour = COLOURS[scenes.LABELS[label]]
        left, top = round(box[0] * scale_x) - 2, round(box[1] * scale_y) - 2
        corners = (left, top), (round(box[2] * scale_x) + 2, round(box[3] * scale_y) + 2)
        cv2.rectangle(shown, *corners, colour, 1)
        text = f"{scenes.LABELS[label]} {score:.2f}"
        cv2.putText(shown, text, (left, top - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.33, colour, 1, cv2.LINE_AA)
    return np.asarray(shown, np.uint8)


def main() -> int:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(prog="python -m models.rendered.contact_sheet_disk", description="Draw a sheet of scenes.")
    parser.add_argument("--release", default="yard-2")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/rendered_scenes.png"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(930_002, 930_003))
    asked = parser.parse_args()
    folder = Path(__file__).parent / "releases" / asked.release
    card = load_card((folder / "card.toml").read_text("utf-8"))
    with TfliteModel(folder / "model_int8.tflite", card) as model:
        lights: tuple[Literal["day", "dusk", "night"], ...] = ("day", "dusk", "night")
        columns = [np.vstack([tile(seed, light, model) for seed in asked.seeds]) for light in lights]
    coded = cv2.imencode(".png", np.hstack(columns), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    asked.out.write_bytes(coded.tobytes())
    sys.stdout.write(f"{asked.out}: {len(coded)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
