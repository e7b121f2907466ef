"""The tracker study as a picture: bars of MOTA and IDF1 for each rate of frames. Drawn with OpenCV, PNG bytes out."""

from typing import Any

import cv2
import numpy as np

WIDTH_PX, HEIGHT_PX, BASE_PX, TALL_PX = 980, 420, 340, 270
COLOURS = ((120, 60, 20), (150, 150, 150), (195, 195, 195))
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(rows: list[dict[str, Any]]) -> bytes:
    """One group of bars for each row (0 to 1), with the judged difference below it."""
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8)
    people = list(rows[0]["means"])
    for tenth in range(0, 11, 2):
        y = BASE_PX - round(TALL_PX * tenth / 10)
        cv2.line(picture, (50, y), (WIDTH_PX - 10, y), (225, 225, 225), 1)
        _text(picture, f"{tenth / 10:.1f}", (12, y + 4))
    step = (WIDTH_PX - 70) // len(rows)
    for number, row in enumerate(rows):
        left = 60 + number * step
        for place, who in enumerate(people):
            x, tall = left + place * 38, round(TALL_PX * max(0.0, row["means"][who]))
            cv2.rectangle(picture, (x, BASE_PX - tall), (x + 32, BASE_PX), COLOURS[place % 3], -1)
            _text(picture, f"{row['means'][who]:.2f}", (x + 2, BASE_PX - tall - 5))
        _text(picture, f"{row['measure'].upper()} at {row['fps']} fps", (left, BASE_PX + 20))
        _text(picture, f"{row['value']:+.3f}", (left, BASE_PX + 38))
        _text(picture, f"({row['ci90'][0]:+.3f} to {row['ci90'][1]:+.3f})", (left, BASE_PX + 54))
    for place, who in enumerate(people):
        cv2.rectangle(picture, (60 + place * 160, 18), (74 + place * 160, 32), COLOURS[place % 3], -1)
        _text(picture, who, (80 + place * 160, 30))
    _text(picture, "below: difference to the better peer, 90 % bootstrap interval over paired seeds", (60, HEIGHT_PX - 10))
    done, png = cv2.imencode(".png", picture)
    assert done
    return png.tobytes()


def _text(picture: np.ndarray[Any, np.dtype[np.uint8]], words: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, words, place, FONT, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
