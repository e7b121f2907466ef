"""``bundle.toml``: what a releaser writes, and how it becomes a manifest with its files."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_server.cli.bundle_files import read_file
from fleet_server.cli.errors import CONFLICT, FAILURE, CliError

if TYPE_CHECKING:
    from ota.bundle.manifest import AcceptanceSet, Manifest, Variant

PARITY = "golden/parity.json"
TOP_KEYS = {
    "name", "version", "channel", "counter", "min_counter", "hardware", "created_s", "golden", "budget", "provenance", "variant",
    "kind", "provenance_statement",
}  # fmt: skip
VARIANT_KEYS = {
    "id", "accelerator", "model", "card", "runtimes", "machines", "word_bits", "profiles", "min_memory_bytes", "threads",
}  # fmt: skip
WHEEL_VARIANT_KEYS = {"id", "abi", "machines", "word_bits", "profiles", "min_memory_bytes", "wheels"}
"""Of a release of kind agent: ``wheels`` is a folder."""
STATEMENT = "provenance.json"
GOLDEN_KEYS = {"pictures", "reference", "acceptance", "threshold"}


@dataclass(slots=True)
class Draft:
    """A manifest and the files that it lists."""

    manifest: "Manifest"
    files: dict[str, bytes] = field(default_factory=dict)


def read_spec(folder: Path) -> dict[str, Any]:
    """``bundle.toml`` of a folder, its keys checked; raises CliError with all faults at once."""
    from ota.plain_disk import read_plain

    path = folder / "bundle.toml"
    try:
        spec = tomllib.loads(read_plain(path).decode())
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
    words = ("name", "version", "channel", "kind", "provenance_statement")
    faults += [f"{key!r} must be text" for key in words if not isinstance(spec.get(key, ""), str)]
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
    agent = spec.get("kind", "model") == "agent"
    for index, variant in enumerate(variants):
        known = WHEEL_VARIANT_KEYS if agent else VARIANT_KEYS
        faults += [f"variant {index}: unknown key {key!r}" for key in sorted(set(variant) - known)]
        for key in ("id", "abi", "wheels") if agent else ("id", "accelerator", "model", "card"):
            if not isinstance(variant.get(key), str):
                faults.append(f"variant {index}: {key!r} is missing or not text")
    return faults


def make_draft(folder: Path, spec: dict[str, Any], created_s: int, parity: bytes | None, version: int) -> Draft:
    """Manifest (of this version, nothing packed) and files of a release; ``parity`` is the finished parity.json."""
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import MODEL, Budget, Golden, Manifest, encode_manifest
    from ota.bundle.writer_disk import file_entry

    kind = spec.get("kind", MODEL)
    files: dict[str, bytes] = {}
    if parity is not None:
        files = {PARITY: parity, **golden_pictures(folder, spec)}
    variants, labels = _agent_variants(folder, spec, files) if kind != MODEL else _model_variants(folder, spec, files)
    statement = spec.get("provenance_statement")
    if statement:
        files[STATEMENT] = _statement(folder / statement)
    accepted = _acceptance(folder, spec)
    try:
        manifest = Manifest(
            **{key: spec[key] for key in ("name", "version", "channel", "counter", "hardware")},
            v=version,
            kind=kind,
            min_counter=spec.get("min_counter", 0),
            created_s=spec.get("created_s", created_s),
            labels=labels,
            variants=variants,
            files={path: file_entry(data) for path, data in files.items()},
            golden=Golden(parity=PARITY if parity is not None else None, acceptance=accepted),
            budget=Budget(**spec.get("budget", {})),
            provenance={key: str(value) for key, value in spec.get("provenance", {}).items()},
            provenance_statement=STATEMENT if statement else None,
        )
        encode_manifest(manifest)
    except (BundleError, TypeError) as error:
        raise CliError(CONFLICT, f"{folder / 'bundle.toml'}: {error}") from None
    return Draft(manifest, files)


def _model_variants(folder: Path, spec: dict[str, Any], files: dict[str, bytes]) -> "tuple[list[Variant], list[str]]":
    from models.card import CardError, load_card
    from ota.bundle.manifest import Variant

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
    return variants, list(labels)


def _agent_variants(folder: Path, spec: dict[str, Any], files: dict[str, bytes]) -> "tuple[list[Variant], list[str]]":
    from ota.bundle.agent_release import LOCK, build_lock
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import Variant

    variants: list[Variant] = []
    for raw in spec["variant"]:
        wheels = {wheel.name: _read(wheel) for wheel in sorted((folder / raw["wheels"]).glob("*.whl"))}
        if not wheels:
            raise CliError(FAILURE, f"{folder / raw['wheels']} holds no wheels", "pip download fills such a folder")
        try:
            lock = build_lock({name: hashlib.sha256(data).hexdigest() for name, data in wheels.items()}, raw["abi"])
        except BundleError as error:
            raise CliError(CONFLICT, f"variant {raw['id']}: {error}") from None
        # Under the variant's id: two builds of one wheel may bear one name.
        listed = {f"{raw['id']}/wheels/{name}": data for name, data in wheels.items()} | {f"{raw['id']}/{LOCK}": lock}
        files |= listed
        variants.append(Variant(**{key: value for key, value in raw.items() if key != "wheels"}, files=sorted(listed)))
    return variants, []


def _acceptance(folder: Path, spec: dict[str, Any]) -> "AcceptanceSet | None":
    from ota.bundle.manifest import AcceptanceSet

    given = spec.get("golden", {}).get("acceptance")
    if not given:
        return None
    from fleet_server.cli.channels import read_acceptance
    from models.golden import parse_acceptance

    data, _ = read_acceptance(folder / given)
    path = f"{spec['channel']}/acceptance/{parse_acceptance(data).name}/acceptance.json"
    return AcceptanceSet(path=path, sha256=hashlib.sha256(data).hexdigest())


def _statement(file: Path) -> bytes:
    """An in-toto statement: shown to people, so it must at least be one."""
    data = _read(file)
    try:
        said = json.loads(data)
        if not str(said["_type"]).startswith("https://in-toto.io/Statement/") or not said["predicateType"]:
            raise CliError(CONFLICT, f"{file} is not an in-toto statement", "SLSA provenance is: https://slsa.dev/provenance/v1")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CliError(CONFLICT, f"{file} is not an in-toto statement (JSON with _type and predicateType)") from None
    return data


def check_models(folder: Path, spec: dict[str, Any]) -> None:
    """Open every CPU variant with its card, so that a damaged or unfitting model never leaves the releaser's machine.

    Edge TPU files cannot be opened without one; their signature says whose word they rest on.
    """
    from models.card import CardError, load_card
    from models.inference.errors import ModelError
    from models.inference.runtime_tflite import TfliteModel

    for raw in spec["variant"]:
        if raw.get("accelerator") != "cpu":
            continue
        try:
            with TfliteModel(folder / raw["model"], load_card(_read(folder / raw["card"]).decode())):
                pass
        except (CardError, UnicodeDecodeError) as error:
            raise CliError(CONFLICT, f"{raw['card']}: {error}") from None
        except ModelError as error:
            raise CliError(CONFLICT, f"variant {raw['id']}: {error.message}") from None


def golden_pictures(folder: Path, spec: Mapping[str, Any]) -> dict[str, bytes]:
    """Bundle path -> bytes of the pictures that parity samples are made of."""
    given = spec.get("golden", {}).get("pictures")
    if not given:
        return {}
    found = sorted(path for path in (folder / given).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not found:
        raise CliError(FAILURE, f"{folder / given} holds no pictures for parity samples")
    return {f"golden/{path.name}": _read(path) for path in found}


def _read(path: Path) -> bytes:
    from ota.bundle.manifest import MAX_FILE_BYTES

    return read_file(path, MAX_FILE_BYTES)
