"""P7: bytes of the whole agent for the real film, live, against three ways of sending pictures; and what was seen for them.

Numerator: all bytes at the IP level by kernel counters of a cable into a network namespace; where none can be made, socket bytes
and 52 for every 1,448 (TCP and IP headers), said in the figures. Baselines (contracts, section 9): (a) H.264 of 4 Mbit/s for the
length of the film, (b) a JPEG (quality 85) of each frame that passes the reference gate, (c) one of each frame with a detection.
Recall: the share of the film's six visits (read by eye) that an event stands for.
"""

import time

import cv2

from device_agent.vision.detector import ModelSpec
from device_agent.vision.open_model_tflite import open_model
from ota.wire.events import Event
from tests.bench.agent_process import Running, agent
from tests.bench.film import Material, material
from tests.bench.namespace_linux import cable
from tests.bench.reference_gate import ReferenceGate
from tests.bench.result import Result

FPS = 10.0
H264_BITS_PER_S = 4e6
VISITS = ((65, 200), (230, 445), (510, 695), (745, 865), (925, 1190), (1240, 1360))
"""Frames with a person, by eye (README of the shared material)."""
PERSON_SCORE = 0.5
SETTLE_S = 20.0


def baselines(given: Material) -> tuple[int, int, int]:
    """Frames of the film, and bytes of (b) and (c)."""
    capture, gate = cv2.VideoCapture(str(given.film)), ReferenceGate()
    model = open_model(ModelSpec(given.model, given.card, 1))
    frames = gated = detected = 0
    try:
        while True:
            good, picture = capture.read()
            if not good:
                return frames, gated, detected
            frames += 1
            is_open = gate.step(picture)
            found = len(model.detect(picture, threshold=PERSON_SCORE)) > 0
            if is_open or found:
                size = len(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
                gated += size * is_open
                detected += size * found
    finally:
        capture.release()
        model.close()


def recall(events: list[Event]) -> float:
    """The share of visits during which a person's event began or lasted."""
    spans = [(event.start_frame, event.end_frame) for event in events if event.label == "person"]
    met = sum(any(begin <= last and end >= first for begin, end in spans) for first, last in VISITS)
    return met / len(VISITS)


def _watch_film(running: Running, frames: int) -> list[Event]:
    """Wait for the film's end in real time, then until what was spooled has gone out."""
    end = time.monotonic() + frames / FPS + SETTLE_S
    while time.monotonic() < end:
        running.check()
        time.sleep(1)
    with running.door.changed:
        return list(running.door.state.shown(running.device).values())


def run() -> Result:
    """The film once, live, then the baselines. Without the shared film nothing is judged."""
    given = material()
    if given.film is None:
        return Result("P7", [], [], [], {"real_material": 0.0})
    frames, gated, detected = baselines(given)
    with cable() as wire:
        host, prefix = (wire.host, wire.prefix) if wire is not None else ("127.0.0.1", ())
        with agent(given, loop=False, host=host, prefix=prefix, fps=FPS) as running:
            events = _watch_film(running, frames)
            if wire is not None:
                sent = float(wire.sent_bytes())
            else:
                beats = running.door.state.heartbeats
                payload = max(beat.bytes_sent for beat in beats)
                sent = payload + 52.0 * payload / 1448
    stream = H264_BITS_PER_S / 8 * frames / FPS
    seen = recall(events)
    ratios = [sent / stream, sent / gated, sent / detected, 2.0 - seen]
    return Result(
        id="P7", ratio=ratios, spread=[(value, value) for value in ratios], bar=[0.01, 0.05, 0.05, 1.0],
        figures={
            "sent_bytes": sent, "h264_bytes": stream, "gated_jpeg_bytes": float(gated), "detected_jpeg_bytes": float(detected),
            "recall": seen, "events": float(len(events)), "kernel_counters": float(wire is not None),
        },
    )  # fmt: skip
