"""What the demo shows: its films, its releases, and what each release is expected to come to."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from processes import DemoError

ROOT = Path(__file__).resolve().parents[2]
RENDERED = ROOT / "models" / "rendered"
RELEASES = RENDERED / "releases"
ACCEPTANCE = RENDERED / "acceptance"
VERIFIER = RENDERED / "verifier"
FILM_FPS = 10
FILM_S = 20
"""Ten seconds of day and ten of night: a film that is looped shows both to every trial."""
GOLDEN_PICTURES = 4


@dataclass(frozen=True, slots=True)
class DemoRelease:
    """One release of the story. ``fate``: what must become of it on the devices that are offered it."""

    version: str
    source: str
    counter: int
    fate: str
    why: str


STORY = (
    DemoRelease("1", "yard-1", 1, "factory", "what the cards were flashed with"),
    DemoRelease("2", "yard-2", 2, "committed", "trained longer: better boxes"),
    DemoRelease("3-boxes", "yard-boxes", 3, "refused(acceptance)", "plausible scores, wrong boxes"),
    DemoRelease("4-night", "yard-night", 4, "rolled_back(detection_rate)", "blind on dark frames"),
    DemoRelease("5-torn", "yard-2b", 5, "refused(hash)", "one byte of its content is flipped on the server"),
    DemoRelease("6-forged", "yard-2b", 6, "refused(signature)", "one byte of its metadata is flipped on the server"),
)
NAME = "yard"

VARIANTS = """
[[variant]]
id = "edgetpu"
accelerator = "edgetpu"
model = "model_edgetpu.tflite"
card = "card.toml"

[[variant]]
id = "cpu-float32"
accelerator = "cpu"
model = "model_float32.tflite"
card = "card.toml"
profiles = ["rpi-5", "generic-x86-64"]
machines = ["aarch64", "x86_64"]
min_memory_bytes = 1_000_000_000

[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
machines = ["aarch64", "x86_64"]
min_memory_bytes = 134_217_728
"""

OWN_VARIANT = """
[[variant]]
id = "cpu"
accelerator = "cpu"
model = "model.tflite"
card = "card.toml"
"""


def release_folder(release: DemoRelease, folder: Path, *, acceptance: bool = True) -> Path:
    """A folder with bundle.toml beside its models, ready for ``rookery bundle build``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model_int8.tflite", "model_float32.tflite", "model_edgetpu.tflite", "card.toml"):
        shutil.copyfile(RELEASES / release.source / name, folder / name)
    (folder / "golden").mkdir(exist_ok=True)
    for picture in sorted(ACCEPTANCE.glob("*.jpg"))[:GOLDEN_PICTURES]:
        shutil.copyfile(picture, folder / "golden" / picture.name)
    golden = '[golden]\npictures = "golden"\nreference = "cpu-float32"\n'
    if acceptance:
        shutil.copytree(ACCEPTANCE, folder / "acceptance", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py"))
        golden += 'acceptance = "acceptance"\n'
    (folder / "bundle.toml").write_text(_head(release.version, release.counter) + golden + _provenance(release.source) + VARIANTS)
    return folder


def own_release_folder(version: str, counter: int, folder: Path, model: Path, card: Path) -> Path:
    """The same for a model of the user's own: one variant, no golden samples."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, folder / "model.tflite")
    shutil.copyfile(card, folder / "card.toml")
    (folder / "bundle.toml").write_text(_head(version, counter) + _provenance(model.name) + OWN_VARIANT)
    return folder


def _head(version: str, counter: int) -> str:
    return f'name = "{NAME}"\nversion = "{version}"\nchannel = "stable"\ncounter = {counter}\nhardware = ["*"]\n\n'


def _provenance(source: str) -> str:
    return f'\n[provenance]\nsource = "{source}"\n'


def draw_film(out: Path, seed: int) -> None:
    """Draw one film of the yard; kept, because drawing is the same for the same seed."""
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    shape = ["--seed", str(seed), "--seconds", str(FILM_S), "--fps", str(FILM_FPS), "--light", "cycle"]
    command = [sys.executable, "-m", "models.rendered.film_disk", "--out", str(out), *shape]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"the film could not be drawn: {done.stderr.strip()[-300:]}")
