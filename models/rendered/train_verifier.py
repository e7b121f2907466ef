"""The crop verifier: a small classifier of 64x64 crops into person, cart, animal and nothing, trained on drawn scenes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.rendered import scenes
from models.rendered.crops import LABELS, SIDE_PX, crops_of
from models.rendered.train_export import calibration, convert, write_whole

layers = keras.layers
VERIFIER_DIR = Path(__file__).parent / "verifier"
PICTURES, EPOCHS, BATCH = 3000, 7, 64


def _gathered() -> tuple[Any, Any]:
    """Crops (n, 64, 64, 3) uint8 RGB of the training pictures and their class ids."""
    crops, labels = [], []
    for seed in range(PICTURES):
        for crop, label in crops_of(scenes.sample(seed), np.random.default_rng((seed, 13))):
            crops.append(crop[:, :, ::-1])
            labels.append(label)
    return np.stack(crops), np.array(labels)


def _network() -> Any:
    crop = keras.Input((SIDE_PX, SIDE_PX, 3), name="crop")
    x: Any = crop
    for index, (channels, kernel) in enumerate(((16, 3), (32, 3), (48, 3), (64, 3))):
        x = layers.Conv2D(channels, kernel, 2, "same", use_bias=False, name=f"conv{index}")(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(x))
    y = layers.Conv2D(96, 1, use_bias=False, name="up")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(y)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(y))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(96, 1, activation="relu", name="mix")(y))
    scores = layers.Dense(len(LABELS), activation="softmax", name="scores")(layers.Dropout(0.1)(y))
    return keras.Model(crop, scores, name="verifier")


def train() -> None:
    """Train, convert and write the verifier's model files."""
    crops, labels = _gathered()
    sys.stdout.write(f"verifier crops {len(labels)} {np.bincount(labels)}\n")
    model = _network()
    steps = len(labels) // BATCH * EPOCHS
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(5)
    order = rng.permutation(len(labels))
    held, used = order[:800], order[800:]
    for epoch in range(EPOCHS):
        rng.shuffle(used)
        sums = np.zeros(2)
        for start in range(0, len(used) - BATCH + 1, BATCH):
            chosen = used[start : start + BATCH]
            batch = crops[chosen].astype(np.float32) / 255
            mirrored = rng.random(BATCH) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
            batch = np.minimum(batch * rng.uniform(0.85, 1.15, (BATCH, 1, 1, 1)).astype(np.float32), 1.0)
            sums += model.train_on_batch(batch, labels[chosen])
        checked = model.evaluate(crops[held].astype(np.float32) / 255, labels[held], verbose=0)
        sys.stdout.write(f"verifier epoch {epoch + 1}/{EPOCHS} held-out loss, accuracy {checked}\n")
        sys.stdout.flush()
    VERIFIER_DIR.mkdir(parents=True, exist_ok=True)
    shape = (SIDE_PX, SIDE_PX, 3)
    write_whole(VERIFIER_DIR / "model_float32.tflite", convert(model, shape, ("scores",), None))
    write_whole(VERIFIER_DIR / "model_int8.tflite", convert(model, shape, ("scores",), calibration(crops, 400)))
    sys.stdout.write(f"verifier {[(path.name, path.stat().st_size) for path in VERIFIER_DIR.glob('*.tflite')]}\n")
