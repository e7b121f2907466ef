"""What both doors' fuzz runs share: cases that schemathesis makes of a description, sent in-process, judged by its checks.

Nothing is shrunk: a finding is said with the request that showed it. The same seed gives the same cases.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
FEW = 10
"""Up to so many examples: each operation once with what is there, once with what is wrong."""


@dataclass
class Findings:
    """What was asked and what was wrong: (operation, what) -> the first request that showed it."""

    asked: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, set[int]] = field(default_factory=dict)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)

    def text(self) -> str:
        return "\n\n".join(f"{label}: {what}\n  {how}" for (label, what), how in sorted(self.wrong.items()))


def operations(app: Any, document: Mapping[str, Any]) -> dict[str, APIOperation]:
    """Label (``GET /api/v1/devices``) -> operation, over this WSGI app."""
    load_all_checks()
    schema = schemathesis.openapi.from_dict(dict(document))
    schema.app = app
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def fuzz(
    operation: APIOperation, findings: Findings, *, examples: int, number: int, headers: Mapping[str, str],
    known: Mapping[str, Sequence[str]] | None = None,
) -> None:  # fmt: skip
    """``examples`` cases of each mode: parameters made up, and (``known``: path parameter -> values) such as there are."""
    there = list(_combinations(operation, known or {}))
    ways = [(GenerationMode.POSITIVE, fixed) for fixed in there or [None]]
    ways += [(GenerationMode.NEGATIVE, fixed) for fixed in ([None, *there] if examples > FEW else [None])]
    if there and examples > FEW:
        ways.append((GenerationMode.POSITIVE, None))
    for mode, fixed in ways:
        strategy = operation.as_strategy(generation_mode=mode, path_parameters=fixed)
        _run(strategy, lambda case: _ask(case, findings, headers), examples, number)


def _combinations(operation: APIOperation, known: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    names = [parameter.name for parameter in operation.path_parameters]
    if names and all(name in known for name in names):
        yield {name: known[name][0] for name in names}


def _run(strategy: Any, body: Callable[[Any], None], examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def one(case: Any) -> None:
        body(case)

    try:
        one()
    except Unsatisfiable:
        pass  # an operation without anything that could be wrong has no wrong cases


def _ask(case: Any, findings: Findings, headers: Mapping[str, str]) -> None:
    label = case.operation.label
    findings.asked[label] = findings.asked.get(label, 0) + 1
    answer = case.call(headers=dict(headers))
    findings.statuses.setdefault(label, set()).add(answer.status_code)
    try:
        case.validate_response(answer, checks=CHECKS)
    except* Exception as group:
        body = (answer.content or b"")[:300]
        for each in group.exceptions:
            first = str(each).strip().splitlines()
            key = (label, f"{type(each).__name__}: {' '.join(first[:6])[:300]}")
            findings.wrong.setdefault(key, f"{case.as_curl_command()[:600]}\n  -> {answer.status_code} {body!r}")
