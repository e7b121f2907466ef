"""Draws ``docs/update-states.md`` from THE TABLE: ``python -m device_agent.update.diagram > docs/update-states.md``."""

import sys
from collections.abc import Iterator

from device_agent.update.expiry import PATIENCE_S
from device_agent.update.machine import BOOT_LIMITS, HOOK_ASKS, RETRY_BUDGET, TRANSITION_LIMIT
from device_agent.update.states import BEFORE_TRIAL, EVENTS, STATES, TABLE


def page() -> str:
    """The whole page: a mermaid diagram, the states, the events, every row."""
    return "\n".join([*_head(), "```mermaid", *_mermaid(), "```", "", *_states(), "", *_events(), "", *_rows(), ""])


def _head() -> Iterator[str]:
    yield "# States of a deployment on a device"
    yield ""
    yield "Drawn from `device_agent/update/states.py` by `python -m device_agent.update.diagram`; a test compares the two."
    yield ""
    budgets = ", ".join(f"{code} {times}" for code, times in RETRY_BUDGET.items())
    boots = ", ".join(f"{state} {times}" for state, times in BOOT_LIMITS.items())
    yield f"Further attempts by class of error: {budgets}; every other class ends the deployment. Restarts survived: {boots}."
    yield f"After {TRANSITION_LIMIT} transitions a deployment is ended (`loop`), and so is one whose state outlasts its deadline."
    yield "Not drawn: from every state before the trial, `refused`, `newer`, `withdrawn` lead to refused, superseded, cancelled."
    yield ""
    yield "An assignment past its end begins no download, no install and no trial: `refused` (`expired`), after the server had"
    yield f"{PATIENCE_S:.0f} s to renew it where the board had waited or was dark. What runs, on trial or not, goes on running."
    yield ""
    yield "A hook that says \"not now\" is asked again after a minute, two, … half an hour, at most "
    yield f"{HOOK_ASKS} times; asking is no transition. A local install (`origin` local) follows the same table; a newer"
    yield "assignment ends it only where it names another release than the one that was wanted when it began."
    yield ""
    yield "Fed by the board: window, heat (with 5 °C to cool), inhibit lock, hooks, the other updater, memory, disk, the metered"
    yield "line's budget (`policy.toml`); frame rate, latency, crashes, detection rates by brightness, the link, and whether"
    yield "gateway (IPv4) or name lookups got worse since the switch (not known after a restart in the trial)."
    yield ""
    yield "What hooks, local install and repair do: `docs/board-updates.md`."
    yield ""


def _mermaid() -> Iterator[str]:
    yield "stateDiagram-v2"
    yield "    [*] --> idle"
    for row in TABLE:
        common = row.state in BEFORE_TRIAL and row.event in ("refused", "newer", "withdrawn")
        if row.event in ("interrupted", "settled") or common:
            continue
        yield f"    {row.state} --> {row.next}: {row.event}"
    for state, fact in STATES.items():
        if fact.ended:
            yield f"    {state} --> [*]"


def _states() -> Iterator[str]:
    yield "| state | meaning | written down before it acts | resumes as | deadline |"
    yield "|---|---|---|---|---|"
    for name, fact in STATES.items():
        deadline = "—" if fact.deadline_s is None else f"{fact.deadline_s:.0f} s"
        yield f"| {name} | {fact.meaning} | {'yes' if fact.persisted else 'no'} | {fact.resumes_as} | {deadline} |"


def _events() -> Iterator[str]:
    yield "| event | means |"
    yield "|---|---|"
    for name, meaning in EVENTS.items():
        yield f"| {name} | {meaning} |"


def _rows() -> Iterator[str]:
    yield "| state | event | next | actions |"
    yield "|---|---|---|---|"
    for row in TABLE:
        yield f"| {row.state} | {row.event} | {row.next} | {', '.join(row.actions) or '—'} |"


if __name__ == "__main__":
    sys.stdout.write(page())
