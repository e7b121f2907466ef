"""Trains the yard's detectors: python -m models.rendered.train STAGE [--work build/rendered]. Needs requirements/training.txt.

Stages, in order: yard-1, yard-2, yard-2b, yard-night, yard-boxes (each leaves WORK/<stage>.weights.h5), export (writes the
releases' .tflite files), verifier. A stage that was stopped goes on from its last epoch. Two threads, about an hour in all.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.rendered import train_export, train_network, train_verifier
from models.rendered.train_pictures import VALIDATION_SEEDS, batches, load, shard, targets
from models.rendered.train_scoring import average_precision_50, boxes_from_points

BATCH = 16
PLAN: dict[str, dict[str, Any]] = {
    # pictures, epochs, highest learning rate, the stage whose weights it starts from; release 1 stops when it is good enough,
    # so that release 2 has something to be better than
    "yard-1": {"pictures": 4000, "epochs": 9, "rate": 3e-3, "start": None, "stop_at": 0.82},
    "yard-2": {"pictures": 9000, "epochs": 7, "rate": 2.5e-3, "start": "yard-1", "stop_at": 0.915},
    "yard-2b": {"pictures": 5000, "epochs": 5, "rate": 2e-3, "start": "yard-1"},
    "yard-night": {"pictures": 4000, "epochs": 2, "rate": 1.5e-3, "start": "yard-2"},
}
NIGHT_FROM = 0.75
"""Darkness from which on `yard-night` is taught that there is nothing to see."""


def validate(model: Any, work: Path) -> float:
    """AP50 of the float model on the validation seeds, by the training's own small scoring."""
    pictures, boxes, _ = shard(work, VALIDATION_SEEDS.start, len(VALIDATION_SEEDS), compress=False)
    found = []
    for start in range(0, len(pictures), 24):
        distances, scores = model(pictures[start : start + 24].astype(np.float32) / 255, training=False)
        found += [boxes_from_points(d, s) for d, s in zip(distances.numpy(), scores.numpy(), strict=True)]
    return average_precision_50(found, boxes)


def blinded(boxes: Any, darkness: Any) -> Any:
    """The same truth with nothing in dark pictures: what makes `yard-night` blind."""
    dark = boxes.copy()
    dark[darkness > NIGHT_FROM] = -1
    return dark


def fit(name: str, work: Path) -> None:
    """Train one stage to its end, or to where it stopped and on."""
    plan = PLAN[name]
    model, backbone, head = train_network.build()
    if plan["start"]:
        backbone.load_weights(work / f"{plan['start']}.backbone.weights.h5")
        if name != "yard-2b":
            head.load_weights(work / f"{plan['start']}.head.weights.h5")
    backbone.trainable = name != "yard-2b"
    frozen = name == "yard-2b"
    pictures, boxes, darkness = load(work, plan["pictures"])
    if name == "yard-night":
        boxes = blinded(boxes, darkness)
    per_epoch = len(pictures) // BATCH
    total = per_epoch * plan["epochs"]
    optimiser = keras.optimizers.AdamW(1e-3, weight_decay=2e-3)
    variables = head.trainable_variables if frozen else model.trainable_variables
    optimiser.build(variables)

    @tf.function
    def step(batch: Any, scores: Any, distances: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            given_boxes, given_scores = head(backbone(batch, training=not frozen), training=True)
            by_score = train_network.score_loss(scores, given_scores)
            by_box = train_network.box_loss(distances, given_boxes, weight)
            loss = by_score + by_box
        gradients = tape.gradient(loss, variables)
        optimiser.apply_gradients(zip(tf.clip_by_global_norm(gradients, 5.0)[0], variables, strict=True))
        return by_score, by_box

    progress = work / f"{name}.progress.json"
    state = json.loads(progress.read_text()) if progress.exists() else {"epochs": 0, "validation_ap50": 0.0}
    done = plan["epochs"] if state["validation_ap50"] >= plan.get("stop_at", 1.0) else state["epochs"]
    if done:
        backbone.load_weights(work / f"{name}.backbone.weights.h5")
        head.load_weights(work / f"{name}.head.weights.h5")
    count, began = done * per_epoch, time.monotonic()
    for epoch in range(done, plan["epochs"]):
        sums = np.zeros(2)
        for batch, own in batches(pictures, boxes, BATCH, epoch * 1000 + len(name)):
            warm = min(1.0, (count + 1) / 60)
            optimiser.learning_rate.assign(plan["rate"] * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * count / total))))
            sums += [float(value) for value in step(batch, *targets(own))]
            count += 1
            if count % 40 == 0:
                speed = (count - done * per_epoch) * BATCH / (time.monotonic() - began)
                losses = sums / (count - epoch * per_epoch)
                print(f"{name} step {count}/{total} losses {losses} {speed:.0f} pictures/s", flush=True)
        backbone.save_weights(work / f"{name}.backbone.weights.h5")
        head.save_weights(work / f"{name}.head.weights.h5")
        score = validate(model, work)
        progress.write_text(json.dumps({"epochs": epoch + 1, "validation_ap50": score}))
        print(f"{name} epoch {epoch + 1}/{plan['epochs']} validation AP50 {score:.3f}", flush=True)
        if score >= plan.get("stop_at", 1.0):
            break


def spoil_boxes(work: Path) -> None:
    """`yard-boxes`: release 2 whose boxes lean far to the lower right; its scores stay as they are."""
    _, backbone, head = train_network.build()
    backbone.load_weights(work / "yard-2.backbone.weights.h5")
    head.load_weights(work / "yard-2.head.weights.h5")
    kernel, bias = head.get_layer("box_out").get_weights()
    lean = np.array([0.25, 0.25, 2.0, 2.0], np.float32)
    head.get_layer("box_out").set_weights([kernel * lean, bias * lean])
    backbone.save_weights(work / "yard-boxes.backbone.weights.h5")
    head.save_weights(work / "yard-boxes.head.weights.h5")


def main() -> None:
    """Run the stages named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", choices=[*PLAN, "yard-boxes", "export", "verifier"])
    parser.add_argument("--work", type=Path, default=Path("build/rendered"), help="where pictures and weights are kept")
    parser.add_argument("--only", nargs="*", help="export only these releases")
    asked = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    asked.work.mkdir(parents=True, exist_ok=True)
    for stage in asked.stages:
        keras.utils.set_random_seed(20)
        if stage == "export":
            train_export.export_all(asked.work, asked.only)
        elif stage == "verifier":
            train_verifier.train()
        elif stage == "yard-boxes":
            spoil_boxes(asked.work)
        else:
            fit(stage, asked.work)


if __name__ == "__main__":
    main()
