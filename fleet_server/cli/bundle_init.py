"""``rookery bundle init``: from a model file to a folder that ``build`` takes, card inferred, the rest explained in place."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_server.cli.bundle_files import FILE, demand_file, read_file
from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.key_files import write_file
from fleet_server.cli.output import print_one, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from models.card import ModelCard

SPEC = """\
# One release. `rookery bundle build {folder}` makes a bundle of it: the same folder, the same bytes.
name = "{name}"            # small letters, digits, . _ -
version = "1"
channel = "{channel}"       # the signed line that it is published on
counter = 1                 # orders the releases of this name: the next one has a higher number
min_counter = 0             # the floor that a commit of this release sets: nothing below it ever comes back
hardware = ["*"]            # board profiles that may install it (ids of hardware/profiles), or "*"
# created_s = 1700000000    # seconds since 1970; set it, or SOURCE_DATE_EPOCH, for the same bytes each time
# provenance_statement = "provenance.json"   # an in-toto statement (SLSA provenance): shown to people, judged by nobody here

[provenance]                # text for people: where the model came from
source = {source}
licence = {licence}

[budget]                    # what the self-test holds the model to on the board; leave out what is not limited
# latency_ms = 100.0
# memory_bytes = 200_000_000

# [golden]
# pictures = "golden"       # a folder of pictures; `rookery bundle golden {folder}` writes parity.json beside them
# reference = "{variant}"   # the variant that says what must come out; or, better: golden {folder} --reference float.tflite
# acceptance = "acceptance" # the channel's labelled pictures (acceptance.json); without them: "parity only"

# Variants in order of preference: a board takes the first that fits it, and says why it passed over the others.
[[variant]]
id = "{variant}"
accelerator = "{accelerator}"          # edgetpu or cpu
model = "{model}"
card = "card.toml"
# runtimes = ["litert", "tflite-runtime"]   # any one of these will do
# machines = ["aarch64"]    # processor architectures; any where left out
# word_bits = 64            # 32 or 64: the userland that it needs; either where left out
# profiles = ["rpi-5"]      # board profiles; any where left out
# min_memory_bytes = 0
# threads = 2
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", "model", required=True, type=FILE, help="The .tflite file.")
@click.option("--labels", type=FILE, help="Line n names class n; else those in the model file.")
@click.option("--card", type=FILE, help="Its card; without it one is inferred, for models of a known kind.")
@click.option("--name", help="Name of the release (else the model file's).")
@click.option("--channel", default="stable", show_default=True)
@pass_session
def init(
    session: Session, folder: Path, model: Path, labels: Path | None, card: Path | None, name: str | None, channel: str
) -> None:
    """Begin a release: FOLDER with the model, its card and a bundle.toml that explains itself."""
    from models.card import dump_card

    if os.path.lexists(folder / "bundle.toml"):
        raise CliError(CONFLICT, f"{folder / 'bundle.toml'} is there already", "edit it, or choose another folder")
    demand_file(model)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", model.name):
        raise CliError(CONFLICT, f"{model.name!r} is no name for a file of a release", "letters, digits, . _ + - only")
    found = _card(model, labels, card)
    accelerator = "edgetpu" if "edgetpu" in model.name else "cpu"
    text = SPEC.format(
        folder=folder.name, name=name or _name(model.stem), channel=channel, model=model.name, accelerator=accelerator,
        variant="edgetpu" if accelerator == "edgetpu" else "cpu", source=_quoted(found.source or str(model.name)),
        licence=_quoted(found.licence),
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, folder / model.name)
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {folder}: {error.strerror}") from None
    write_file(folder / "card.toml", dump_card(found).encode())
    write_file(folder / "bundle.toml", text.encode())
    body = {
        "folder": str(folder), "model": model.name, "input": f"{found.input.width_px}x{found.input.height_px}",
        "decoder": found.output.decoder, "labels": len(found.labels),
    }  # fmt: skip
    print_one(body, list(body.items()), session.output, "folder")
    if card is None:
        talk("the card was inferred: read card.toml once before you sign anything that rests on it")


def _card(model: Path, labels: Path | None, card: Path | None) -> "ModelCard":
    from models.card import CardError, load_card, parse_labels, with_labels
    from models.inference.errors import ModelError
    from models.inference.runtime_tflite import infer_card_for

    try:
        names = parse_labels(read_file(labels).decode()) if labels else None
        if card is not None:
            found = load_card(read_file(card).decode())
            return with_labels(found, names) if names else found
        return infer_card_for(model, names)
    except UnicodeDecodeError as error:
        raise CliError(CONFLICT, f"not text: {error}") from None
    except CardError as error:
        raise CliError(CONFLICT, f"{card or labels}: {'; '.join(error.faults)}") from None
    except ModelError as error:
        hint = "write its card (models/README.md shows how) and give it with --card FILE"
        raise CliError(CONFLICT, f"the card cannot be inferred: {error.message}", hint) from None


def _name(stem: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")
    return name[:60] or "model"


def _quoted(text: str) -> str:
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else " " for one in text) + '"'
