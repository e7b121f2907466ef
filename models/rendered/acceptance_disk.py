"""Makes the channel's acceptance set: python -m models.rendered.acceptance_disk. Its pictures are by day and at dusk, on purpose.

A release that sees nothing at night passes this set; the trial on the device, against its own history, is what stops it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cv2

from models.golden import AcceptanceImage, LabelledBoxes, make_acceptance
from models.rendered import scenes

FOLDER = Path(__file__).parent / "acceptance"
NAME = "yard-acceptance-1"
SEEDS = range(700_000, 700_200)
PICTURES = 24
MIN_AP50 = 0.6
QUALITY = 78


def main() -> int:
    """Write the pictures and `acceptance.json` anew."""
    FOLDER.mkdir(exist_ok=True)
    images: list[AcceptanceImage] = []
    for seed in SEEDS:
        rendered = scenes.sample(seed, light="day" if len(images) % 2 == 0 else "dusk")
        if not 2 <= len(rendered.truth) <= 5:
            continue
        _, coded = cv2.imencode(".jpg", rendered.picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        data = coded.tobytes()
        name = f"{len(images) + 1:02d}_{rendered.light}.jpg"
        (FOLDER / name).write_bytes(data)
        truth = LabelledBoxes.of([item.box_px for item in rendered.truth], [item.label for item in rendered.truth])
        images.append(AcceptanceImage(name, hashlib.sha256(data).hexdigest(), truth))
        if len(images) == PICTURES:
            break
    (FOLDER / "acceptance.json").write_bytes(make_acceptance(NAME, MIN_AP50, images))
    sys.stdout.write(f"{len(images)} pictures, {sum(path.stat().st_size for path in FOLDER.iterdir())} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
