"""``bundle.toml``: what a releaser writes, and how it becomes a manifest with its files."""

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError

if TYPE_CHECKING:
    from ota.bundle.manifest import Manifest

PARITY = "golden/parity.json"
TOP_KEYS = {
    "name", "version", "channel", "counter", "min_counter", "hardware", "created_s", "golden", "budget", "provenance", "variant",
}  # fmt: skip
VARIANT_KEYS = {"id", "accelerator", "model", "card", "runtimes", "machines", "profiles", "min_memory_bytes", "threads"}
GOLDEN_KEYS = {"pictures", "reference", "acceptance", "threshold"}


@dataclass(slots=True)
class Draft:
    """A manifest and the files that it lists."""

    manifest: "Manifest"
    files: dict[str, bytes] = field(default_factory=dict)
    acceptance: Path | None = None


def read_spec(folder: Path) -> dict[str, Any]:
    """``bundle.toml`` of a folder, its keys checked; raises CliError with all faults at once."""
    path = folder / "bundle.toml"
    try:
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CliError(FAILURE, f"there is no {path}", "the folder of a release holds bundle.toml beside its models") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(FAILURE, f"cannot read {path}: {error}") from None
    faults = _faults(spec)
    if faults:
        raise CliError(CONFLICT, f"{path}: " + "; ".join(faults))
    return spec


def _faults(spec: dict[str, Any]) -> list[str]:
    faults = [f"unknown key {key!r}" for key in sorted(set(spec) - TOP_KEYS)]
    needed = ("name", "version", "channel", "counter", "hardware", "variant")
    faults += [f"missing key {key!r}" for key in needed if key not in spec]
    faults += [f"{key!r} must be text" for key in ("name", "version", "channel") if not isinstance(spec.get(key, ""), str)]
    for key in ("golden", "budget", "provenance"):
        if not isinstance(spec.get(key, {}), dict):
            return [*faults, f"{key!r} must be a table: [{key}]"]
    golden, variants = spec.get("golden", {}), spec.get("variant", [])
    faults += [f"golden: unknown key {key!r}" for key in sorted(set(golden) - GOLDEN_KEYS)]
    texts = ("pictures", "reference", "acceptance")
    faults += [f"golden: {key!r} must be text" for key in texts if not isinstance(golden.get(key, ""), str)]
    if not isinstance(golden.get("threshold", 0.5), int | float):
        faults.append("golden: 'threshold' must be a number")
    if not isinstance(variants, list) or not variants or not all(isinstance(each, dict) for each in variants):
        return [*faults, "'variant' must be one table or more: [[variant]]"]
    for index, variant in enumerate(variants):
        faults += [f"variant {index}: unknown key {key!r}" for key in sorted(set(variant) - VARIANT_KEYS)]
        for key in ("id", "accelerator", "model", "card"):
            if not isinstance(variant.get(key), str):
                faults.append(f"variant {index}: {key!r} is missing or not text")
    return faults


def make_draft(folder: Path, spec: dict[str, Any], created_s: int, parity: bytes | None) -> Draft:
    """Manifest and files of a release; ``parity`` is the finished parity.json, whose pictures lie in the golden folder."""
    from models.card import CardError, load_card
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import AcceptanceSet, Budget, Golden, Manifest, Variant, encode_manifest
    from ota.bundle.writer_disk import file_entry

    files: dict[str, bytes] = {}
    shared: list[str] = []
    if parity is not None:
        files[PARITY] = parity
        files |= golden_pictures(folder, spec)
        shared = sorted(files)
    variants: list[Variant] = []
    labels: tuple[str, ...] = ()
    for raw in spec["variant"]:
        for key in ("model", "card"):
            files[raw[key]] = _read(folder / raw[key])
        try:
            labels = load_card(files[raw["card"]].decode()).labels
        except (CardError, UnicodeDecodeError) as error:
            raise CliError(CONFLICT, f"{raw['card']}: {error}") from None
        chosen = {key: value for key, value in raw.items() if key != "runtimes"}
        runtimes = raw.get("runtimes", ["litert", "tflite-runtime"])
        variants.append(Variant(**chosen, runtimes=runtimes, files=sorted({raw["model"], raw["card"], *shared})))
    accepted, acceptance = None, spec.get("golden", {}).get("acceptance")
    if acceptance:
        from fleet_server.cli.channels import read_acceptance
        from models.golden import parse_acceptance

        data, _ = read_acceptance(folder / acceptance)
        name = parse_acceptance(data).name
        accepted = AcceptanceSet(
            path=f"{spec['channel']}/acceptance/{name}/acceptance.json", sha256=hashlib.sha256(data).hexdigest()
        )
    try:
        manifest = Manifest(
            **{key: spec[key] for key in ("name", "version", "channel", "counter", "hardware")},
            min_counter=spec.get("min_counter", 0),
            created_s=spec.get("created_s", created_s),
            labels=list(labels),
            variants=variants,
            files={path: file_entry(data) for path, data in files.items()},
            golden=Golden(parity=PARITY if parity is not None else None, acceptance=accepted),
            budget=Budget(**spec.get("budget", {})),
            provenance={key: str(value) for key, value in spec.get("provenance", {}).items()},
        )
        encode_manifest(manifest)
    except (BundleError, TypeError) as error:
        raise CliError(CONFLICT, f"{folder / 'bundle.toml'}: {error}") from None
    return Draft(manifest, files, folder / acceptance if acceptance else None)


def check_models(folder: Path, spec: dict[str, Any]) -> None:
    """Open every CPU variant with its card, so that a damaged or unfitting model never leaves the releaser's machine.

    Edge TPU files cannot be opened without one; their signature says whose word they rest on.
    """
    from models.card import CardError, load_card
    from models.inference.errors import ModelError
    from models.inference.runtime_tflite import TfliteModel

    for raw in spec["variant"]:
        if raw["accelerator"] != "cpu":
            continue
        try:
            with TfliteModel(folder / raw["model"], load_card(_read(folder / raw["card"]).decode())):
                pass
        except (CardError, UnicodeDecodeError) as error:
            raise CliError(CONFLICT, f"{raw['card']}: {error}") from None
        except ModelError as error:
            raise CliError(CONFLICT, f"variant {raw['id']}: {error.message}") from None


def golden_pictures(folder: Path, spec: dict[str, Any]) -> dict[str, bytes]:
    """Bundle path -> bytes of the pictures that parity samples are made of."""
    given = spec.get("golden", {}).get("pictures")
    if not given:
        return {}
    found = sorted(path for path in (folder / given).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not found:
        raise CliError(FAILURE, f"{folder / given} holds no pictures for parity samples")
    return {f"golden/{path.name}": _read(path) for path in found}


def make_parity_samples(folder: Path, spec: dict[str, Any]) -> bytes | None:
    """parity.json: what the reference variant sees in the golden pictures; None when the release has none.

    The reference is the variant that ``golden.reference`` names; without a float one it is the same file on this machine's
    CPU kernels, which is said openly as ``self``.
    """
    pictures = golden_pictures(folder, spec)
    if not pictures:
        return None
    import cv2
    import numpy as np

    from models.card import load_card
    from models.golden import LabelledBoxes, make_parity
    from models.inference.errors import ModelError
    from models.inference.runtime_tflite import TfliteModel

    name = spec["golden"].get("reference") or next(
        (variant["id"] for variant in spec["variant"] if "float" in variant["id"]), spec["variant"][-1]["id"]
    )
    variant = next((variant for variant in spec["variant"] if variant["id"] == name), None)
    if variant is None:
        raise CliError(CONFLICT, f"golden.reference names variant {name!r}, which there is not")
    card = load_card(_read(folder / variant["card"]).decode())
    threshold = float(spec["golden"].get("threshold", card.thresholds.score))
    samples, detections = [], []
    try:
        with TfliteModel(folder / variant["model"], card) as model:
            for path, data in sorted(pictures.items()):
                picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                if picture is None:
                    raise CliError(CONFLICT, f"{path} is not a picture")
                samples.append((path, hashlib.sha256(data).hexdigest()))
                seen = model.detect(picture.astype(np.uint8, copy=False), threshold=threshold)
                detections.append(LabelledBoxes.found(seen, card.labels))
        return make_parity(samples, detections, threshold=threshold, reference="float32" if "float" in name else "self")
    except (ModelError, ValueError) as error:
        raise CliError(CONFLICT, f"parity samples cannot be made: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {path}: {error.strerror}") from None
