"""A stranger to our code reads the operator door's description and asks whatever it allows, and whatever it does not.

schemathesis makes right and wrong requests of ``/api/v1/openapi.json``; every answer must be one that the description has. The
everyday run is short and always the same; the slow one is long: ``./run test --slow fuzz`` (docs/evidence/slow_fuzz.json).
"""

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import delete

from fleet_server import operator_openapi
from fleet_server.accounts import service as accounts
from fleet_server.accounts.tables import SignInFailureRow
from fleet_server.app import create_operator_app, load_tables
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.settings import Settings
from ota.trust.repository_disk import Repository
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet
from tests.fleet_server.conftest import Clock, make_context
from tests.fleet_server.core.door_fuzz import Findings, fuzz, operations

LEFT_OUT = {"GET /api/v1/live": "its answer has no end; tests/fleet_server/overview/test_overview.py reads it"}
SLOW_HASH = ("/login", "/tokens", "/setup", "/password", "/accounts")
"""Each of these costs argon2's 50 ms: fewer of them."""
EXAMPLES, LONG_EXAMPLES = 2, 20


@dataclass(frozen=True)
class Door:
    """An operator door over a fleet in every state."""

    app: Any
    context: Context
    fleet: SeededFleet
    document: dict[str, Any]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    load_tables()
    folder, clock = tmp_path_factory.mktemp("fuzz"), Clock()
    settings = Settings(data_dir=folder / "server")
    settings.data_dir.mkdir()
    database = Database(f"sqlite:///{folder / 'fuzz.sqlite3'}")
    database.create_all()
    authority_x509.prepare(settings.pki_dir, ["localhost"], clock())
    repository = Repository(settings.data_dir / "tuf", settings.data_dir / "keys", clock)
    context = make_context(settings, database, clock, repository)
    fleet = seed_fleet(context)
    app = create_operator_app(context)
    yield Door(app, context, fleet, app.test_client().get("/api/v1/openapi.json").get_json())
    database.dispose()


def known(door: Door) -> dict[str, list[str]]:
    """Names that are there, for the parameters of paths."""
    client = door.app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {admin(door, 'looks')}"
    ids = lambda path, name="id": [str(one[name]) for one in client.get(f"/api/v1{path}").get_json()["items"]]  # noqa: E731
    return {
        "device": [door.fleet.devices["gate-north"], "office"], "rollout": [door.fleet.paused_rollout],
        "event": [door.fleet.event], "release": ["yard@1", "yard@2"], "scope": ["fleet", "group:yard"], "channel": ["stable"],
        "enrolment": ids("/enrolments"), "experiment": ids("/experiments"), "alert": ids("/alerts"), "claim": ids("/claims"),
        "sha256": ["ab" * 32],
    }  # fmt: skip


def admin(door: Door, name: str) -> str:
    """A token of an admin of its own: whatever an operation ends, the next one goes on."""
    with door.context.database.write() as session:
        session.execute(delete(SignInFailureRow))
        accounts.add_operator(session, name=name, password_hash="$argon2id$", role="admin", now_s=door.context.clock())
        grant = accounts.open_grant(
            session, name=name, kind="token", token_name="fuzz", ttl_s=86_400.0, now_s=door.context.clock()
        )
    return grant.token


def run(door: Door, examples: int, number: int) -> Findings:
    findings, names = Findings(), known(door)
    for index, (label, operation) in enumerate(sorted(operations(door.app, door.document).items())):
        if label in LEFT_OUT:
            continue
        headers = {"Authorization": f"Bearer {admin(door, f'fuzz-{number}-{index}')}"}
        few = max(1, examples // 20) if any(part in label for part in SLOW_HASH) else examples
        fuzz(operation, findings, examples=few, number=number, headers=headers, known=names)
    return findings


@pytest.mark.timeout(600)
def test_no_answer_is_a_fault_of_ours_or_one_that_the_description_lacks(door: Door) -> None:
    """Right and wrong requests to each route, as admin: no 5xx, no status, type or body that is not described."""
    findings = run(door, EXAMPLES, number=5)
    assert not findings.wrong, findings.text()
    assert len(findings.asked) > 50
    assert sum(200 in seen or 201 in seen for seen in findings.statuses.values()) > 25, "too few requests were taken"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(3))
def test_fuzz_the_operator_door_for_long(door: Door, number: int) -> None:
    """The same for long, with other requests for each number."""
    findings = run(door, LONG_EXAMPLES, number=1000 + number)
    assert not findings.wrong, findings.text()


def test_nobody_gets_anything_of_a_guarded_route_without_a_token(door: Door) -> None:
    """The description says which routes are open; each other one refuses a stranger and a forged token, whatever he sends."""
    client = door.app.test_client()
    answered = []
    for path, found in door.document["paths"].items():
        for method, operation in found.items():
            if not operation["security"]:
                continue
            place = re.sub(r"\{[^}]*\}", "x", path)
            for headers in ({}, {"Authorization": "Bearer " + "A" * 43}, {"Authorization": "Basic YWRhOmFkYQ=="}):
                answer = client.open(place, method=method.upper(), headers=headers, json={})
                if answer.status_code != 401 or answer.mimetype != "application/problem+json":
                    answered.append(f"{method} {path}: {answer.status_code}")
    assert answered == []


def test_the_description_knows_each_route_and_its_statuses(door: Door) -> None:
    """A route that answers 201 or 204 in its source and not in the description would lead a client astray."""
    described = {
        operation_key: set(operation["responses"])
        for path, found in door.document["paths"].items()
        for method, operation in found.items()
        for operation_key in [operator_openapi.operation_key(method, path)]
    }
    for table in (operator_openapi.LISTS, operator_openapi.ONES, operator_openapi.CREATED, operator_openapi.CREATED_OR_NOT,
                  operator_openapi.EMPTY, operator_openapi.OTHER_TYPES):  # fmt: skip
        assert set(table) <= set(described), "the table has routes that are gone"
    wrong = []
    for rule in door.app.url_map.iter_rules():
        path = re.sub(r"<([^<:]+:)?", "{", rule.rule).replace(">", "}")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            key = operator_openapi.operation_key(method, path)
            if not path.startswith("/api/") or key not in described:
                continue
            source = inspect.getsource(inspect.unwrap(door.app.view_functions[rule.endpoint]))
            said = set(re.findall(r"(?:status=|, )(20[1-9])\b", source))
            if said - described[key] or (said == {"204"} and "200" in described[key]):
                wrong.append(f"{key} answers {sorted(said)}: add it to the tables of fleet_server/operator_openapi.py")
    assert wrong == []


def test_no_two_bodies_have_one_name(door: Door) -> None:
    """The description keeps schemas by name: two classes of one name, and one of the two routes is described wrongly."""
    names: Counter[str] = Counter()
    seen: set[type] = set()
    for view in door.app.view_functions.values():
        for parameter in inspect.signature(inspect.unwrap(view)).parameters.values():
            kind = parameter.annotation
            if parameter.name == "body" and isinstance(kind, type) and kind not in seen:
                seen.add(kind)
                names[kind.__name__] += 1
    assert [name for name, count in names.items() if count > 1] == []


def test_every_reference_of_the_description_leads_somewhere(door: Door) -> None:
    text = str(door.document)
    for name in set(re.findall(r"#/components/schemas/([A-Za-z0-9_.-]+)", text)):
        assert name in door.document["components"]["schemas"]
