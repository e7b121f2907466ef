"""The real models: TFLite files through `models.inference`. The inference child imports this when it is told to."""

from typing import cast

from device_agent.vision.detector import Model, ModelSpec
from models.inference.runtime_tflite import TfliteModel


def open_model(spec: ModelSpec) -> Model:
    """Load a TFLite model; raises ModelError."""
    model = TfliteModel(
        spec.model_path, spec.card, threads=spec.threads, delegate_library=spec.delegate_library, runtime=spec.runtime,
        sha256=spec.sha256,
    )
    return cast(Model, model)
