"""Models with something wrong in them, as converters, careless hands and bad days make them: real files, still well-formed.

Each function takes the bytes of a quantised TFLite model and gives those of a spoiled one; chance comes in as a generator.
"""

from collections.abc import Callable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INT8_TYPES = (schema.TensorType.INT8, schema.TensorType.UINT8)
Change = Callable[[schema.ModelT, np.random.Generator], None]


def spoil(data: bytes, change: Change, seed: int = 0) -> bytes:
    """The model after ``change``."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    change(model, np.random.default_rng(seed))
    builder = flatbuffers.Builder(len(data) + 65536)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def weights(model: schema.ModelT, part: str = "") -> list[schema.TensorT]:
    """The tensors that hold weights of convolutions; only those with ``part`` in their name."""
    shaped = [one for one in model.subgraphs[0].tensors if one.type in INT8_TYPES and one.shape is not None]
    return [one for one in shaped if len(one.shape) == 4 and _held(model, one) is not None and part in one.name.decode()]


def _held(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.array(data, np.uint8)


def _keep(model: schema.ModelT, tensor: schema.TensorT, values: np.ndarray) -> None:
    model.buffers[tensor.buffer].data = np.ascontiguousarray(values).view(np.uint8).ravel()


def colours_swapped(model: schema.ModelT, rng: np.random.Generator) -> None:
    """Trained on BGR, and the card says RGB: the first convolution's input channels stand the other way round."""
    for tensor in weights(model, "stem"):
        values = _held(model, tensor).view(np.int8).reshape(tensor.shape)
        _keep(model, tensor, values[..., ::-1])


def coarse(bits: int) -> Change:
    """Weights rounded to a few bits."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        step = 1 << (8 - bits)
        for tensor in weights(model):
            values = _held(model, tensor).view(np.int8).astype(np.int16)
            _keep(model, tensor, np.clip(np.round(values / step) * step, -127, 127).astype(np.int8))
    return change


def one_scale_for_all(model: schema.ModelT, rng: np.random.Generator) -> None:
    """Per-channel scales taken for one of the tensor: the converter wrote the first one everywhere."""
    for tensor in weights(model):
        scales = np.array(tensor.quantization.scale, np.float32)
        tensor.quantization.scale = np.full_like(scales, scales.mean())


def bits_flipped(share: float) -> Change:
    """A share of all weight bytes has one bit turned: memory of the machine that converted it."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in weights(model):
            values = _held(model, tensor).copy()
            hit = rng.random(len(values)) < share
            values[hit] ^= (1 << rng.integers(0, 8, int(hit.sum()))).astype(np.uint8)
            _keep(model, tensor, values)
    return change


def layer_zeroed(part: str) -> Change:
    """A layer's weights are zeros: it was never written."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in weights(model, part):
            _keep(model, tensor, np.zeros_like(_held(model, tensor)))
    return change


def layer_scaled(part: str, factor: float) -> Change:
    """The scale of a layer's weights is wrong: everything after it is louder or fainter."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in weights(model, part):
            tensor.quantization.scale = np.array(tensor.quantization.scale, np.float32) * np.float32(factor)
    return change


def layer_shuffled(part: str) -> Change:
    """The output channels of a layer stand in another order than the next one expects."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in weights(model, part):
            values = _held(model, tensor).view(np.int8).reshape(tensor.shape)
            _keep(model, tensor, values[rng.permutation(len(values))])
    return change


def range_too_small(factor: float) -> Change:
    """Calibrated on dark pictures alone: activations are cut off at a fraction of what comes."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in model.subgraphs[0].tensors[1:]:
            quantised = tensor.quantization is not None and tensor.quantization.scale is not None
            if quantised and len(tensor.quantization.scale) == 1 and _held(model, tensor) is None and b"stage" in tensor.name:
                tensor.quantization.scale = np.array(tensor.quantization.scale, np.float32) * np.float32(factor)
    return change


def boxes_shifted(pixels: float) -> Change:
    """Every box lies so far to the right and below, scores as ever: the head's offsets were written with a slip."""
    def change(model: schema.ModelT, rng: np.random.Generator) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.type == schema.TensorType.INT32 and b"box_out" in tensor.name and _held(model, tensor) is not None:
                values = _held(model, tensor).view(np.int32).copy()
                step = np.array(tensor.quantization.scale, np.float64)
                by = np.array([-1, -1, 1, 1]) * pixels / 8.0
                _keep(model, tensor, (values + np.round(by / step)).astype(np.int32))
    return change


def classes_turned(model: schema.ModelT, rng: np.random.Generator) -> None:
    """The scores' rows stand one further: the label map of another training."""
    for tensor in model.subgraphs[0].tensors:
        held = _held(model, tensor)
        if b"score_out" in tensor.name and held is not None and tensor.quantization.scale is not None:
            values = held.reshape(len(tensor.quantization.scale), -1)
            _keep(model, tensor, np.roll(values, 1, axis=0))
            tensor.quantization.scale = np.roll(np.array(tensor.quantization.scale, np.float32), 1)
