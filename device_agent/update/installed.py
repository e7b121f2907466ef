"""What can run from an install place on this board: the variant that fits and is there."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ota.bundle.variants import resolve, stand_in
from ota.slots.slots_disk import SlotInfo
from ota.wire.enrolment import BoardFacts


@dataclass(frozen=True, slots=True)
class StandIn:
    """The same release's variant for the CPU, which answers while the accelerator fails. The self-test proved the other one."""

    variant: str
    model: Path
    card: Path
    threads: int
    model_sha256: str


@dataclass(frozen=True, slots=True)
class Running:
    """A release that runs, of whatever part of the board."""

    sha256: str
    """Digest of the manifest."""
    release: str
    """``name@version``."""


@dataclass(frozen=True, slots=True)
class Installed(Running):
    """One model release in its install place, with all that is needed to run it."""

    name: str
    version: str
    variant: str
    variant_reason: str
    accelerator: str
    """edgetpu or cpu: what the variant is built for."""
    model: Path
    card: Path
    threads: int
    fallback: StandIn | None = None
    """None where the variant needs no accelerator, or where nothing for the CPU came with it."""
    model_sha256: str | None = None
    """What the signed manifest says of the model's file: a disk may lie after it was installed."""


def runnable(slot: SlotInfo, facts: BoardFacts) -> Installed | None:
    """The best variant of this place that fits the board and whose files are all there; None when there is none.

    A board whose accelerator went away since the installation may find a lesser variant here, or nothing.
    """
    present = slot.files()
    whole = [variant for variant in slot.manifest.variants if set(variant.files) <= set(present)]
    if not whole:
        return None
    complete = msgspec.structs.replace(slot.manifest, variants=whole)
    here = resolve(complete, facts)
    if here.variant is None:
        return None
    among_all = resolve(slot.manifest, facts)
    reason = among_all.reason if among_all.variant == here.variant else here.reason
    other = stand_in(complete, here.variant, facts)
    hashes = slot.manifest.files
    by = None
    if other is not None:
        by = StandIn(other.id, present[other.model], present[other.card], other.threads, hashes[other.model].sha256)
    return Installed(
        sha256=slot.sha256,
        release=slot.manifest.release,
        name=slot.manifest.name,
        version=slot.manifest.version,
        variant=here.variant.id,
        variant_reason=reason,
        accelerator=here.variant.accelerator,
        model=present[here.variant.model],
        card=present[here.variant.card],
        threads=here.variant.threads,
        fallback=by,
        model_sha256=hashes[here.variant.model].sha256,
    )
