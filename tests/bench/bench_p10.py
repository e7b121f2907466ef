"""P10: a new head over a frozen backbone: the bytes of a patch against those of the packed file.

The head is the last tenth of the model's bytes (measured so in research: weights lie in the order of the layers): its bytes in
another order are a head that was trained anew, of the same distribution and not to be compressed against the old one.
"""

import io

import numpy as np

from ota.zstd_frames import apply_patch, make_patch, pack
from tests.bench.film import material
from tests.bench.result import Result

BAR = 0.15
HEAD_SHARE = 0.10
SEED = 10


def run() -> Result:
    """Bytes do not vary: one round."""
    given = material()
    base = given.model.read_bytes()
    head = np.frombuffer(base, np.uint8)[int(len(base) * (1 - HEAD_SHARE)) :].copy()
    np.random.default_rng(SEED).shuffle(head)
    new = base[: len(base) - len(head)] + head.tobytes()
    patch = make_patch(base, new)
    if patch is None:
        raise AssertionError("no patch was made")
    if b"".join(apply_patch(base, io.BytesIO(patch), len(new))) != new:
        raise AssertionError("the patch does not lead to the new file")
    packed = sum(len(piece) for piece in pack(io.BytesIO(new), len(new)))
    ratio = len(patch) / packed
    return Result(
        id="P10", ratio=[ratio], spread=[(ratio, ratio)], bar=[BAR],
        figures={
            "model_mb": len(new) / 1e6, "packed_mb": packed / 1e6, "patch_mb": len(patch) / 1e6,
            "real_material": float(given.real),
        },
    )  # fmt: skip
