"""From trained weights to the committed files of a release: int8 and float32 .tflite, the declared Edge TPU placeholder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from models.rendered import train_network
from models.rendered.train_pictures import shard

RELEASES = ("yard-1", "yard-2", "yard-2b", "yard-boxes", "yard-night")
RELEASES_DIR = Path(__file__).parent / "releases"
EDGETPU_PLACEHOLDER = (
    b"ROOKERY EDGE TPU PLACEHOLDER v1\n"
    b"This file stands where the Edge TPU build of this release belongs: model_int8.tflite compiled by edgetpu_compiler,\n"
    b"which exists for few machines only and has not been run here. No runtime loads this file, on purpose: a board with a\n"
    b"working Edge TPU that is given it must say so and take the int8 variant for the CPU.\n"
)
"""No .tflite file begins like this: theirs hold TFL3 at byte 4."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    half = path.with_name(path.name + ".part")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def convert(model: Any, shape: tuple[int, ...], names: tuple[str, ...], samples: Any | None) -> bytes:
    """A .tflite of batch 1: float32, or full-integer int8 with uint8 input when `samples` (float pictures 0–1) calibrate it."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((1, *shape), tf.float32, name="picture")]
    )
    def serve(picture: Any) -> Any:
        given = model(picture, training=False)
        return dict(zip(names, given if isinstance(given, list | tuple) else [given], strict=True))

    # Weights become constants before the conversion: left as variables, calibration cannot run them.
    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def calibration(pictures: Any, count: int = 160) -> Any:
    """Representative pictures as floats 0–1; the first holds pure black and white, so that the input's scale is 1/255 exactly."""
    samples = pictures[np.linspace(0, len(pictures) - 1, count).astype(int)].astype(np.float32) / 255
    samples[0, 0, 0], samples[0, 0, 1] = 0.0, 1.0
    return samples


def export_all(work: Path, only: list[str] | None) -> None:
    """Write the model files of each release whose weights are in `work`."""
    samples = calibration(shard(work, 0)[0])
    tools = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    write_whole(work / "tools.json", json.dumps(tools).encode())
    for name in only or RELEASES:
        model, backbone, head = train_network.build()
        backbone.load_weights(work / f"{name}.backbone.weights.h5")
        head.load_weights(work / f"{name}.head.weights.h5")
        folder = RELEASES_DIR / name
        folder.mkdir(parents=True, exist_ok=True)
        shape = (240, 320, 3)
        write_whole(folder / "model_float32.tflite", convert(model, shape, ("boxes", "scores"), None))
        write_whole(folder / "model_int8.tflite", convert(model, shape, ("boxes", "scores"), samples))
        write_whole(folder / "model_edgetpu.tflite", EDGETPU_PLACEHOLDER)
        sys.stdout.write(f"{name} {[(path.name, path.stat().st_size) for path in sorted(folder.glob('*.tflite'))]}\n")
