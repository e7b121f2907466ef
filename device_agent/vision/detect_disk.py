"""Boxes of pictures, without a server: the formats of contracts, section 8."""

import json
from pathlib import Path

from device_agent.vision.camera_disk import list_pictures, read_picture
from device_agent.vision.choice_disk import ModelChoice, card_of, write_result
from device_agent.vision.types import bbox_of
from models.card import UNUSED_LABELS
from models.inference.runtime_tflite import TfliteModel


def detect_pictures(pictures: Path, choice: ModelChoice, out: Path | None = None) -> list[dict[str, object]]:
    """Every box above the card's lowest threshold in a picture, or in all of a folder (of its `images/` where it has one).

    Runs in this process: a person waits for the answer, and starting a child would take longer than the model does. Raises
    CameraError, ModelError, CardError; then nothing is written.
    """
    folder = pictures / "images" if (pictures / "images").is_dir() else pictures
    paths = [pictures] if pictures.is_file() else list_pictures(folder)
    found: list[dict[str, object]] = []
    card = card_of(choice)
    labels = card.labels
    with TfliteModel(choice.model, card, threads=choice.threads, delegate_library=choice.delegate_library) as model:
        for path in paths:
            kept = model.detect(read_picture(path), threshold=card.thresholds.lowest)
            for box, score, class_id in zip(kept.xyxy.tolist(), kept.confidence.tolist(), kept.class_id.tolist(), strict=True):
                label = labels[class_id] if 0 <= class_id < len(labels) else "n/a"
                if label not in UNUSED_LABELS:
                    entry = {"file_name": path.name, "category": label, "bbox": bbox_of(box), "score": round(score, 4)}
                    found.append(entry)
    if out is not None:
        write_result(out, (json.dumps(found, indent=1) + "\n").encode())
    return found
