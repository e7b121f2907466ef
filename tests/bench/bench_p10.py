"""P10: a new head over a frozen backbone: what a board that has the old bundle fetches, against the full compressed bundle.

Both bundles are built as ``rookery bundle build --delta-from`` builds them. A head that was really trained anew is not to be had
here: it stands for one that the last tenth of the model's bytes (measured so in research: weights lie in the order of the layers)
are put into another order, of the same distribution and not to be compressed against the old ones.
"""

import io
import tempfile
from pathlib import Path

import numpy as np

from models.card import dump_card
from ota.bundle.manifest import Manifest, Variant, travelling
from ota.bundle.packing_disk import pack_release
from ota.bundle.reader_disk import Bundle, open_bundle
from ota.bundle.writer_disk import file_entry, write_contents
from ota.zstd_frames import apply_patch
from tests.bench.film import material
from tests.bench.result import Result

BAR = 0.15
HEAD_SHARE = 0.10
SEED = 10


def build(folder: Path, version: int, files: dict[str, bytes], bases: list[Bundle]) -> Bundle:
    """The bundle of one variant, packed, with patches from ``bases``."""
    variant = Variant(
        id="cpu", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml", files=sorted(files)
    )  # fmt: skip
    manifest = Manifest(
        name="head", version=str(version), channel="stable", counter=version, created_s=1_700_000_000, hardware=["*"],
        variants=[variant], files={path: file_entry(data) for path, data in files.items()},
    )  # fmt: skip
    work = folder / f"work-{version}"
    work.mkdir()
    release = pack_release(manifest, files, work, bases)
    out = folder / f"head-{version}.rookery"
    write_contents(out, release.manifest, release.contents)
    return open_bundle(out)


def run() -> Result:
    """Bytes do not vary: one round."""
    given = material()
    base = given.model.read_bytes()
    head = np.frombuffer(base, np.uint8)[int(len(base) * (1 - HEAD_SHARE)) :].copy()
    np.random.default_rng(SEED).shuffle(head)
    new = base[: len(base) - len(head)] + head.tobytes()
    card = dump_card(given.card).encode()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = build(folder, 1, {"model.tflite": base, "card.toml": card}, [])
        bundle = build(folder, 2, {"model.tflite": new, "card.toml": card}, [old])
        files = bundle.manifest.files
        full_bytes = sum(travelling(entry)[1] for entry in files.values())
        (delta,) = files["model.tflite"].deltas  # the card is the same file: a board that has it fetches nothing for it
        patch = b"".join(bundle.content(delta.sha256, delta.length_bytes))
    if b"".join(apply_patch(base, io.BytesIO(patch), len(new))) != new:
        raise AssertionError("the patch does not lead to the new file")
    ratio = len(patch) / full_bytes
    return Result(
        id="P10", ratio=[ratio], spread=[(ratio, ratio)], bar=[BAR],
        figures={
            "model_mb": len(new) / 1e6, "packed_mb": full_bytes / 1e6, "patch_mb": len(patch) / 1e6,
            "real_material": float(given.real),
        },
    )  # fmt: skip
