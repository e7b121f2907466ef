"""Draws a film and its truth: python -m models.rendered.film_disk --out FILE.mp4|.avi --seed N --seconds S [--fps 10].

`FILE.truth.json` beside it holds every object of every frame and the visits to the scene's zone that they make. Both files are
there whole or not at all. Exit codes: 0 written, 1 cannot be written (said on stderr), 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from models.rendered import scenes
from models.rendered.yard import HEIGHT_PX, WIDTH_PX

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""Both are written and read by the opencv-python-headless wheels without anything else installed."""
LONGEST_S = 3600.0
VISIT_GAP_S = 2.0
"""A track's stays in the zone that lie no further apart are one visit."""


class FilmError(Exception):
    """A film that cannot be written; the message says why."""


def in_zone(ground_px: tuple[float, float]) -> bool:
    """Whether a ground point lies in the scenes' zone."""
    corners = np.array([(x * WIDTH_PX, y * HEIGHT_PX) for x, y in scenes.ZONE], np.float32)
    return cv2.pointPolygonTest(corners, ground_px, False) >= 0


def visits(frames: Sequence[tuple[float, list[scenes.Truth]]]) -> list[dict[str, Any]]:
    """Every unbroken stay of a track in the zone: label, track, first and last second, gaps up to 2 s bridged."""
    found: dict[int, list[dict[str, Any]]] = {}
    for t_s, truth in frames:
        for item in truth:
            if not in_zone(item.ground_px):
                continue
            own = found.setdefault(item.track_id, [])
            if own and t_s - own[-1]["end_s"] <= VISIT_GAP_S:
                own[-1]["end_s"] = t_s
            else:
                own.append({"track": item.track_id, "label": item.label, "start_s": t_s, "end_s": t_s})
    return sorted((visit for own in found.values() for visit in own), key=lambda visit: float(visit["start_s"]))


Frames = Sequence[tuple[float, list[scenes.Truth]]]


def _object(item: scenes.Truth) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box_px
    return {"label": item.label, "track": item.track_id, "occlusion": round(item.occlusion, 3),
            "bbox": [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)], "in_zone": in_zone(item.ground_px)}


def truth_json(frames: Frames, lights: Sequence[str], seed: int, fps: float, light: str) -> dict[str, Any]:
    """The truth as JSON values; boxes are [x, y, width, height] in px of the picture."""
    rows = []
    for (t_s, truth), name in zip(frames, lights, strict=True):
        rows.append({"t_s": round(t_s, 3), "light": name, "objects": [_object(item) for item in truth]})
    return {"v": 1, "seed": seed, "fps": fps, "light": light, "width_px": WIDTH_PX, "height_px": HEIGHT_PX,
            "labels": list(scenes.LABELS), "zone": [list(corner) for corner in scenes.ZONE], "visits": visits(frames),
            "frames": rows}


def write_film(out: Path, seed: int, seconds: float, *, fps: float = 10.0, light: scenes.LightChoice = "cycle",
               on_progress: Callable[[float], None] = lambda share: None) -> Path:
    """Draw the film into `out` and its truth beside it; returns the truth's path. Raises FilmError."""
    codec = CODECS.get(out.suffix.lower())
    if codec is None:
        raise FilmError(f"{out.name}: a film ends in .mp4 or .avi")
    if not 0 < seconds <= LONGEST_S or not 0.5 <= fps <= 60 or seed < 0:
        raise FilmError(f"a film lasts up to {LONGEST_S:.0f} s, has 0.5 to 60 frames a second and a seed from 0 on")
    truth_path = out.with_name(out.name + ".truth.json")
    half = out.with_name(f".{out.stem}.part{os.getpid()}{out.suffix}")
    half_truth = half.with_suffix(".json")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FilmError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        frames, lights = _draw(half, codec, scenes.Scene(seed, light=light), round(seconds * fps), fps, on_progress)
        half_truth.write_text(json.dumps(truth_json(frames, lights, seed, fps, light)) + "\n", "utf-8")
        for path, target in ((half_truth, truth_path), (half, out)):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(target)
        folder = os.open(out.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise FilmError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        half.unlink(missing_ok=True)
        half_truth.unlink(missing_ok=True)
    return truth_path


def _draw(path: Path, codec: str, scene: scenes.Scene, count: int, fps: float,
          on_progress: Callable[[float], None]) -> tuple[list[tuple[float, list[scenes.Truth]]], list[str]]:
    path.touch()  # OpenCV says nothing useful about a folder that cannot be written to; this does
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (WIDTH_PX, HEIGHT_PX))
    if not writer.isOpened():
        raise FilmError(f"this build of OpenCV cannot write {codec} films")
    frames, lights = [], []
    try:
        for index in range(max(1, count)):
            rendered = scene.frame(index / fps)
            writer.write(rendered.picture_bgr)
            frames.append((index / fps, rendered.truth))
            lights.append(rendered.light)
            on_progress((index + 1) / count)
    finally:
        writer.release()
    reader = cv2.VideoCapture(str(path))  # a full disk shows itself only here: the writer reports nothing
    kept = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if kept != len(frames):
        raise FilmError(f"only {kept} of {len(frames)} frames could be kept: is the disk full?")
    return frames, lights


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.rendered.film_disk", description="Draw a film and its truth.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mp4|.avi")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--light", choices=("day", "dusk", "night", "cycle"), default="cycle")
    asked = parser.parse_args(arguments)
    try:
        truth = write_film(asked.out, asked.seed, asked.seconds, fps=asked.fps, light=cast(scenes.LightChoice, asked.light))
    except FilmError as error:
        sys.stderr.write(f"film: {error}\n")
        return 1
    sys.stdout.write(f"{asked.out} and {truth.name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
