"""The self-test before a trial: golden samples on the runtime of this board. Pure: what is asked, what figures mean."""

import msgspec

from ota.bundle.manifest import Budget
from ota.trust.refusal import Refusal
from ota.wire.enrolment import BoardFacts

BUSY_ALLOWANCE = 2.0
"""The old model goes on working on the same cores while the new one is measured."""
SMALL_BOARD_ALLOWANCE = 3.0
"""A Zero 2 W (Cortex-A53 at 1 GHz, 512 MiB) needs about three times a Pi 4's time (research: assets-and-runtime)."""
SMALL_BOARD_BYTES = 1024**3
DEADLINE_S = 300.0
"""Longest self-test. A model that hangs is ended then."""


class SelftestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One model to be proved, as paths: ``pictures`` maps the sha256 of every golden picture to its file."""

    model: str
    card: str
    threads: int = 1
    delegate_library: str | None = None
    runtime: str = ""
    """Package of the runtime to prove it on; empty: the first that works, as the pipeline takes it."""
    parity: str | None = None
    acceptance: str | None = None
    pictures: dict[str, str] = {}
    rounds: int = 20
    """Least number of timed runs; the first three are not counted."""


class SelftestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the child found. ``code`` is empty when nothing failed in it, else a reason of the wire with ``detail``."""

    code: str = ""
    detail: str = ""
    figures: dict[str, float] = {}
    latency_ms: float = 0.0
    """Median of the bare invoke."""
    memory_bytes: int = 0
    """Growth of the child's peak resident memory from before the model was loaded."""
    parity_reference: str = ""
    """float32, self, or empty without parity samples."""
    acceptance: str = ""
    """Name of the acceptance set, empty without one."""
    runtime: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: ``code`` empty means passed."""

    code: str = ""
    detail: str = ""
    figures: dict[str, float] = {}


def allowance(facts: BoardFacts) -> float:
    """By how much this board may exceed a signed latency budget, which is meant for an idle Pi 4 class board."""
    return BUSY_ALLOWANCE * (SMALL_BOARD_ALLOWANCE if facts.memory_bytes < SMALL_BOARD_BYTES else 1.0)


def prove(outcome: SelftestResult | Refusal, budget: Budget, latency_allowance: float) -> Proof:
    """What the child's figures mean under the signed budget."""
    if isinstance(outcome, Refusal):
        return Proof(code=outcome.code, detail=outcome.detail)
    figures = {**outcome.figures, "selftest_ms": outcome.latency_ms, "selftest_memory_bytes": float(outcome.memory_bytes)}
    if outcome.code:
        return Proof(code=outcome.code, detail=outcome.detail, figures=figures)
    if budget.latency_ms is not None and outcome.latency_ms > budget.latency_ms * latency_allowance:
        detail = (
            f"median invoke {outcome.latency_ms:.1f} ms; the signed budget is {budget.latency_ms:.1f} ms, "
            f"times {latency_allowance:.0f} on this board"
        )
        return Proof(code="budget", detail=detail, figures=figures)
    if budget.memory_bytes is not None and outcome.memory_bytes > budget.memory_bytes:
        detail = f"needs {outcome.memory_bytes} bytes of memory; the signed budget is {budget.memory_bytes}"
        return Proof(code="budget", detail=detail, figures=figures)
    said = [outcome.detail] if outcome.detail else []
    if outcome.parity_reference == "self":
        said.append("parity against itself")
    if not outcome.acceptance:
        said.append("parity only: the release names no acceptance set" if outcome.parity_reference else "no golden samples")
    return Proof(detail="; ".join(said), figures=figures)
