"""Which variant of a release fits a board, and why: pure, and in words that a person can act on."""

from dataclasses import dataclass

from ota.bundle.manifest import Manifest, Variant
from ota.wire.enrolment import BoardFacts

MIB_BYTES = 1024 * 1024
_USERLAND = {("aarch64", 32): "armv7l", ("x86_64", 32): "i686"}
"""What a 64-bit kernel with a 32-bit userland runs: machine by the kernel, word size -> machine by the programs."""


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


@dataclass(frozen=True, slots=True)
class Considered:
    """One variant and what is to be said of it for a board."""

    variant: Variant
    fits: bool
    chosen: bool
    words: str


def explain(manifest: Manifest, facts: BoardFacts) -> list[Considered]:
    """Every variant in the manifest's order: chosen, fitting but after the chosen one, or why not."""
    found: list[Considered] = []
    chosen: Variant | None = None
    for variant in manifest.variants:
        problem = _problem(variant, facts)
        if problem is not None:
            found.append(Considered(variant, False, False, problem))
        elif chosen is None:
            chosen = variant
            found.append(Considered(variant, True, True, "chosen: the first that fits"))
        else:
            found.append(Considered(variant, True, False, f"fits too, but comes after {chosen.id}"))
    return found


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
    wrong = _machine_problem(variant, facts)
    if wrong is not None:
        return wrong
    if variant.profiles and "*" not in variant.profiles and facts.profile not in variant.profiles:
        return f"meant for {', '.join(variant.profiles)}, board profile is {facts.profile}"
    if variant.accelerator == "edgetpu":
        missing = accelerator_problem(facts)
        if missing is not None:
            return missing
    if variant.abi is not None and variant.abi != board_abi(facts):
        return f"built for Python {variant.abi}, board has {board_abi(facts) or facts.python}"
    if variant.runtimes and not any(runtime in facts.runtimes for runtime in variant.runtimes):
        have = ", ".join(facts.runtimes) or "none"
        return f"needs {' or '.join(variant.runtimes)}, board has {have}"
    if facts.memory_bytes < variant.min_memory_bytes:
        return f"needs {_mib(variant.min_memory_bytes)} MiB, board has {facts.memory_bytes // MIB_BYTES}"
    return None


def board_abi(facts: BoardFacts) -> str:
    """The ABI of the board's Python as wheels name it (cp311); told by newer agents, else read from the version."""
    if facts.abi:
        return facts.abi
    parts = facts.python.split(".")
    return f"cp{parts[0]}{parts[1]}" if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else ""


def _machine_problem(variant: Variant, facts: BoardFacts) -> str | None:
    if variant.word_bits is not None and variant.word_bits != facts.word_bits:
        return f"built for a {variant.word_bits}-bit userland, board's has {facts.word_bits} bits"
    runs = _USERLAND.get((facts.machine, facts.word_bits), facts.machine)
    if not variant.machines or runs in variant.machines:
        return None
    if facts.machine in variant.machines and variant.word_bits is not None:
        return None  # it names the kernel's word for the machine and says which userland it means
    said = facts.machine if runs == facts.machine else f"{facts.machine} with a {facts.word_bits}-bit userland, which runs {runs}"
    return f"built for {' or '.join(variant.machines)}, board is {said}"


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
