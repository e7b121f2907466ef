"""Which variant of a release fits a board, and why: pure, and in words that a person can act on."""

from dataclasses import dataclass

from ota.bundle.manifest import Manifest, Variant
from ota.wire.enrolment import BoardFacts

MIB_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resolution:
    """The variant to install, or None, and the reason for either."""

    variant: Variant | None
    reason: str


def resolve(manifest: Manifest, facts: BoardFacts) -> Resolution:
    """The first variant, in the manifest's order, that this board can run; the reason names what was passed over."""
    passed_over: list[tuple[Variant, str]] = []
    for variant in manifest.variants:
        problem = _problem(variant, facts)
        if problem is None:
            return Resolution(variant, _chosen(variant, passed_over, facts))
        passed_over.append((variant, problem))
    return Resolution(None, "no variant fits: " + "; ".join(f"{variant.id}: {problem}" for variant, problem in passed_over))


def stand_in(manifest: Manifest, variant: Variant, facts: BoardFacts) -> Variant | None:
    """The variant for the CPU that answers while the accelerator of ``variant`` fails; None where none is needed or fits."""
    if variant.accelerator == "cpu":
        return None
    fitting = (one for one in manifest.variants if one.accelerator == "cpu" and _problem(one, facts) is None)
    return next(fitting, None)


def files_for(manifest: Manifest, variant: Variant, facts: BoardFacts) -> list[str]:
    """All files that this board needs to run a variant, its stand-in's among them: fetched, verified and installed together."""
    other = stand_in(manifest, variant, facts)
    return list(dict.fromkeys([*variant.files, *(other.files if other is not None else [])]))


def hardware_problem(manifest: Manifest, facts: BoardFacts) -> str | None:
    """Why the release does not list this board's hardware, or None when it does."""
    if "*" in manifest.hardware or facts.profile in manifest.hardware:
        return None
    return f"board profile {facts.profile} is not among the release's hardware ({', '.join(manifest.hardware)})"


def _problem(variant: Variant, facts: BoardFacts) -> str | None:
    if variant.machines and facts.machine not in variant.machines:
        return f"built for {' or '.join(variant.machines)}, board is {facts.machine}"
    if variant.profiles and "*" not in variant.profiles and facts.profile not in variant.profiles:
        return f"meant for {', '.join(variant.profiles)}, board profile is {facts.profile}"
    if variant.accelerator == "edgetpu":
        missing = accelerator_problem(facts)
        if missing is not None:
            return missing
    if not any(runtime in facts.runtimes for runtime in variant.runtimes):
        have = ", ".join(facts.runtimes) or "none"
        return f"needs {' or '.join(variant.runtimes)}, board has {have}"
    if facts.memory_bytes < variant.min_memory_bytes:
        return f"needs {_mib(variant.min_memory_bytes)} MiB, board has {facts.memory_bytes // MIB_BYTES}"
    return None


def accelerator_problem(facts: BoardFacts) -> str | None:
    """Why no Edge TPU can be used on this board, or None when one can. Being on the bus is not enough: its delegate must load."""
    found = [one for one in facts.accelerators if one.kind.startswith("edgetpu")]
    if any(one.present and one.usable for one in found):
        return None
    for one in found:
        if one.present:
            return one.reason or f"{one.kind} is there but its delegate does not load"
    for one in found:
        if one.reason:
            return one.reason
    return "no Edge TPU on this board"


def _chosen(variant: Variant, passed_over: list[tuple[Variant, str]], facts: BoardFacts) -> str:
    accelerator = accelerator_problem(facts)
    expected = any(one.kind.startswith("edgetpu") for one in facts.accelerators)
    wanted = any(other.accelerator == "edgetpu" for other, _ in passed_over)
    if variant.accelerator == "cpu" and accelerator is not None and expected and wanted:
        return f"accelerator missing, CPU variant {variant.id} because {accelerator}"
    if not passed_over:
        return f"{variant.id} is the release's first choice and fits"
    return f"{variant.id} fits; passed over " + "; ".join(f"{other.id}: {problem}" for other, problem in passed_over)


def _mib(length_bytes: int) -> int:
    return -(-length_bytes // MIB_BYTES)
