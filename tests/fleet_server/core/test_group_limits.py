"""An account that is limited to the group north, on every route and page of the operator door: the south might as well not exist.

The walk goes by the map of routes, so a route that is added tomorrow is walked, too.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.routing import Rule

from fleet_server.accounts.tables import OperatorRow, OperatorTokenRow
from fleet_server.app import create_operator_app
from fleet_server.context import Context
from fleet_server.database import Base
from fleet_server.http_access import DEVICE_PARAMETERS, current_operator, open_to_all, reach_of, require, scope_of
from fleet_server.inventory.tables import DeviceRow
from fleet_server.overview import api as overview_api
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.orders import Order
from tests.fakes.two_groups import TIMING, Side, client_of, prepare, seed_side

CSRF = re.compile(rb'name="csrf_token" value="[^"]*"')
WHOLE_ANSWERS = frozenset({"overview.get_live"})
"""Streams, which do not end by themselves: they have a test of their own."""
PAPERWORK = frozenset({"changed_topic", "change_counter", "operator_token", "audit", "audit_head"})
"""Rows that say that somebody did or changed something, or who is signed in: not a thing of the fleet."""
KINDS = {
    "device": "device", "device_id": "device", "session": "session", "session_id": "session", "rollout": "rollout",
    "rollout_id": "rollout", "alert": "alert", "alert_id": "alert", "event": "event", "event_id": "event", "key": "key",
    "experiment": "experiment", "enrolment": "enrolment", "enrolment_id": "enrolment", "claim": "claim", "claim_id": "claim",
    "sha256": "sha256",
}  # fmt: skip
COMMON = {"release": ["yard@1"], "channel": ["stable"], "action": ["pause", "accept"], "name": ["ada"]}
QUERIES = {
    "inventory.list_devices": ["?q={name}", "?q=serial-of", "?group={group}", "?state=online", "?limit=1", "?cursor={name}"],
    "dashboard.devices": ["?q={name}", "?group={group}", "?state=offline", "?cursor={name}"],
    "detections.list_detections": ["?device={name}", "?device={device}", "?label=label-{group}", "?verdict=agree", "?limit=1"],
    "dashboard.detection_list": ["?device={name}", "?label=label-{group}", "?verdict=agree", "?kind=zone"],
    "dashboard.detection": ["?device={device}"],
    "dashboard.log_lines": ["?device={name}", "?device={device}&level=debug"],
    "dashboard.configuration_layer": ["?version=1"],
    "configuration.get_diff": [
        "?left=group:{group}&right=fleet", "?left=fleet&right=effective:{name}", "?left=fleet&right=device:{device}@1",
    ],
    "configuration.get_layer": ["?version=1"],
    "alerts.list_alerts": ["?open=true"],
    "enrolment.list_claims": ["?q={group}", "?state=unused", "?cursor={claim}", "?after={claim}"],
}  # fmt: skip
BODIES: dict[str, list[Any]] = {
    "logs.post_session": [{"log_level": "debug", "duration_s": 60, "reason": "why"}],
    "logs.post_frames": [{"frames": "last"}],
    "configuration.put_fleet": [{"content": {"log_level": "debug"}}],
    "configuration.put_of_device": [{"content": {"log_level": "warning"}}],
    "configuration.put_layer": [{"content": {"log_level": "warning"}}],
    "rollouts.post_rollout": [
        {"release": "yard@1", "selector": {"group": "{group}"}, "stages": [1.0]},
        {"release": "yard@1", "selector": {"devices": ["{device}"]}, "stages": [1.0]},
        {"release": "yard@1", "selector": {"devices": ["{name}"]}, "stages": [1.0], "dry_run": True},
        {"release": "yard@1", "stages": [1.0]},
    ],
    "experiments.post_experiment": [{"name": "mine", "a": "yard@1", "b": "yard@2", "selector": {"group": "{group}"}}],
    "enrolment.post_claims": [{"count": 1, "group": "{group}", "device_name": "new board"}],
    "enrolment.post_reject": [{"reason": "no"}],
    "enrolment.post_revoke": [{"reason": "stolen"}],
    "alerts.post_webhook": [{"url": "https://example.org/hook"}],
    "releases.post_yank": [{"reason": "bad"}],
    "releases.post_missing": [{"sha256": ["f" * 64]}],
    "releases.post_online_keys": [{"roles": ["snapshot"]}],
    "dashboard.begin_debug": [{"log_level": "debug", "duration_s": "60", "reason": "why"}],
    "dashboard.ask_frames": [{"frames": "last"}],
    "dashboard.configuration_change": [{"content": '{"log_level": "warning"}', "version": "1"}],
    "dashboard.configuration_undo": [{"to_version": "0", "version": "1"}],
}  # fmt: skip
NOBODY = {
    "group": "tomorrow", "name": "tomorrow-1", "device": "d-00000000", "session": "000000000000", "rollout": "r-00000000",
    "alert": "a-00000000", "event": "ev-nowhere", "key": "d-00000000/crop/ev-nowhere/" + "0" * 64, "experiment": "x-00000000",
    "enrolment": "e-0000000000", "claim": "c-0000000000", "sha256": "0" * 64, "serial": "serial-of-tomorrow-1",
}  # fmt: skip
"""The ids of a side that there is none of, in the form of those that there are; behind the north by name, as the south is."""


@dataclass
class Fleet:
    """The door over a fleet whose groups a test seeds."""

    context: Context
    app: Flask
    releases: dict[str, str]

    def side(self, group: str, **more: Any) -> Side:
        return seed_side(self.context, group, self.releases, **more)

    def client(self, role: str, groups: list[str] | None = None, **more: Any) -> FlaskClient:
        return client_of(self.context, self.app, role, groups, **more)

    def guarded(self, *, reading: bool) -> Iterator[Rule]:
        """Every route that asks who is there, by path; those that read, or those that change something of the fleet."""
        for rule in sorted(self.app.url_map.iter_rules(), key=str):
            view = self.app.view_functions[rule.endpoint]
            if scope_of(view) == "" or rule.endpoint in WHOLE_ANSWERS:
                continue
            if not reading and reach_of(view) == "nobody":
                continue  # signs out, ends his own tokens: the walk would end there
            if reading == ("GET" in (rule.methods or ())):
                yield rule


@pytest.fixture
def fleet(sqlite_server: Context) -> Fleet:
    """A fleet without a device, with releases."""
    releases = prepare(sqlite_server)
    return Fleet(sqlite_server, create_operator_app(sqlite_server), releases)


def words_of(side: Side) -> dict[str, str]:
    name, device = next(iter(side.devices.items()))
    return {"group": side.group, "name": name, "device": device, **side.ids}


def paths(rule: Rule, words: dict[str, str]) -> list[str]:
    """The rule's paths with these ids in them; several where a parameter means several things."""
    found = [str(rule)]
    for parameter in sorted(rule.arguments):
        if parameter == "scope":
            values = [f"device:{words['device']}", f"device:{words['name']}", f"group:{words['group']}", "fleet"]
        elif parameter in KINDS:
            values = [words[KINDS[parameter]]] + ([words["name"]] if KINDS[parameter] == "device" else [])
        else:
            values = COMMON.get(parameter, [words["claim"]])
        found = [re.sub(rf"<(\w+:)?{parameter}>", value, path) for path in found for value in values]
    return found


def reads(fleet: Fleet, client: FlaskClient, *sides: dict[str, str], own: bool = True) -> dict[str, tuple[int, bytes]]:
    """Status and body of every reading route, with the ids of these sides, without what differs at each look.

    ``own``: also pages about oneself, which what one does oneself changes.
    """
    found = {}
    for rule in fleet.guarded(reading=True):
        if not own and reach_of(fleet.app.view_functions[rule.endpoint]) == "nobody":
            continue
        for words in sides:
            for path in paths(rule, words):
                for query in ["", *QUERIES.get(rule.endpoint, [])]:
                    address = path + query.format(**words)
                    if address in found:
                        continue
                    answer = client.get(address, headers={"Accept": "text/html" if "/api/" not in address else "*/*"})
                    found[address] = (answer.status_code, CSRF.sub(b"", answer.get_data()))
                    answer.close()
    return found


def writes(fleet: Fleet, client: FlaskClient, words: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Call every route that changes something with the ids of a side; gives what was called and the answer."""
    for rule in fleet.guarded(reading=False):
        for path in paths(rule, words):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                for body in BODIES.get(rule.endpoint, [{}]):
                    filled = json.loads(re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), json.dumps(body)))
                    kind = "json" if path.startswith("/api/") else "data"
                    answer = client.open(path, method=method, **{kind: filled})
                    yield f"{method} {path} {json.dumps(filled)}", answer
                    answer.close()


def rows_without(fleet: Fleet, secrets: set[str]) -> set[str]:
    """Every row of the database that is not of the side with these names and ids, as text."""
    found = set()
    with fleet.context.database.read() as session:
        for table in Base.metadata.sorted_tables:
            if table.name in PAPERWORK:
                continue
            for row in session.execute(table.select()).mappings():
                text = f"{table.name} {dict(row)}"
                if not any(secret in text for secret in secrets):
                    found.add(text)
    return found


@pytest.mark.parametrize(
    "roles", [("admin",), pytest.param(("viewer", "operator", "releaser", "security"), marks=pytest.mark.slow)]
)
def test_whatever_is_in_the_south_the_north_sees_the_same(fleet: Fleet, roles: tuple[str, ...]) -> None:
    """A landlord lets each tenant see the cameras of his own house. A second tenant moves in, with boards, events, rollouts,
    alerts, log lines, boards that ask to join: not one byte of any answer to the first one changes, whatever his role, whatever
    he asks for (the second one's group and names, too). Lists, counts, facets, cursors, suggestions: all of it."""
    north = words_of(fleet.side("north", waits_as="serial-of-south-1"))
    guess = NOBODY | {"group": "south", "name": "south-1", "event": "ev-south", "serial": "serial-of-south-1"}
    clients = {role: fleet.client(role, ["north"]) for role in roles}
    free = fleet.client("admin")
    before = {role: reads(fleet, client, north, guess) for role, client in clients.items()}
    shared = {"devices", "detections", "alerts", "rollouts", "experiments"}
    pages = {"/", "/configuration", "/logs", *(f"/{one}" for one in shared)}
    lists = pages | {f"/api/v1/{one}" for one in shared | {"overview", "configurations", "claims", "enrolments"}}
    free_before = {address: CSRF.sub(b"", free.get(address).data) for address in lists}
    south = fleet.side("south", devices=3)
    after = {role: reads(fleet, client, north, guess) for role, client in clients.items()}
    for role in roles:
        differing = [address for address in before[role] if before[role][address] != after[role][address]]
        assert differing == [], role
        for address, (_, body) in after[role].items():
            told = [one for one in south.secrets - set(guess.values()) if one.encode() in body]
            assert told == [], f"{role} {address}"
    unchanged = {address for address in lists if free_before[address] == CSRF.sub(b"", free.get(address).data)}
    assert unchanged == set(), "the walk would notice"
    seen = after[roles[0]]
    for address in pages:
        assert seen[address][0] == 200, address
        assert b"north" in seen[address][1], address


def test_a_foreign_id_answers_as_an_unknown_one_and_nothing_of_the_south_changes(fleet: Fleet) -> None:
    """He has got hold of the other tenant's ids, all of them, and tries each on each route, as reader and as writer: the answer
    is, word for word, that for an id that does not exist; and afterwards nothing is different in the south or for the fleet."""
    north, south = fleet.side("north"), fleet.side("south")
    before = rows_without(fleet, north.secrets)
    for role in ("admin",):  # whose scopes are all that there are
        client = fleet.client(role, ["north"])
        before = before | rows_without(fleet, north.secrets)  # the account itself
        alike: dict[str, list[Any]] = {}
        for words in (words_of(south), NOBODY):
            answers = dict(reads(fleet, client, words, own=False))
            for called, answer in writes(fleet, client, words):
                answers[called] = (answer.status_code, answer.get_data())
            for called, (status, body) in answers.items():
                shown = (status, _without(body, words))
                alike.setdefault(_without(called.encode(), words).decode(), []).append(shown)
        assert [called for called, answers in alike.items() if len(answers) != 2] == []
        for called, (foreign, unknown) in alike.items():
            assert foreign == unknown, f"{role}: {called}"
            if "<" in called:
                assert foreign[0] >= 400 or "?" in called, f"{role}: {called} answered {foreign}"
    assert rows_without(fleet, north.secrets) == before


def _without(text: bytes, words: dict[str, str]) -> bytes:
    for kind, word in sorted(words.items(), key=lambda one: -len(one[1])):
        text = text.replace(word.encode(), f"<{kind}>".encode())
    return CSRF.sub(b"", text)


def test_what_he_does_in_the_north_leaves_the_rest_alone(fleet: Fleet) -> None:
    """He pushes every button that there is on his own devices, as admin of the north: rollouts, revocations, configurations, the
    lot. Not a row changes that is of another group or of the whole fleet: no webhook, no release, no layer of the fleet."""
    north, south = fleet.side("north"), fleet.side("south")
    client = fleet.client("admin", ["north"])
    outside = rows_without(fleet, north.secrets)
    answers = {called: answer.status_code for called, answer in writes(fleet, client, words_of(north))}
    with fleet.context.database.read() as session:
        newly = set(session.scalars(select(DeviceRow.id).where(DeviceRow.group == "north")))  # the board that he let in
    assert rows_without(fleet, north.secrets | newly) - outside == set()
    assert outside - rows_without(fleet, north.secrets) == set()
    assert any(south.group in row for row in outside)
    assert sum(status < 400 for status in answers.values()) > 8, answers


def test_a_rollout_over_both_shows_the_norths_share_and_is_not_his_to_steer(fleet: Fleet) -> None:
    """The owner of all rolls yard@1 out to everybody. The north sees its own boards and their numbers, and not for whom the
    rollout waits; he can neither stop nor resume it, and his own rollout he can."""
    north, south = fleet.side("north"), fleet.side("south", devices=3)
    now_s = fleet.context.clock()
    with fleet.context.database.write() as session:
        made = rollouts.create(session, Order(release="yard@1", stages=(1.0,), max_failed=0), who="ada", now_s=now_s)
        session.flush()
        rollouts.tick(session, now_s, 1, TIMING)
        reason = rollouts.rollout(session, str(made.id)).reason
    client, free = fleet.client("operator", ["north"]), fleet.client("operator")
    seen = client.get(f"/api/v1/rollouts/{made.id}").json
    whole = free.get(f"/api/v1/rollouts/{made.id}").json
    assert len(whole["devices"]) == 5
    assert whole["reason"] == reason != ""
    assert {one["name"] for one in seen["devices"]} == set(north.devices)
    assert sum(stage["devices"] for stage in seen["stages"]) == sum(seen["counts"].values()) == 2
    assert "outside of your groups" in seen["reason"]
    for path in (f"/rollouts/{made.id}", "/rollouts", "/", f"/devices/{north.devices['north-1']}", "/api/v1/rollouts",
                 f"/api/v1/devices/{north.devices['north-1']}/why-not"):  # fmt: skip
        body = client.get(path).get_data(as_text=True)
        assert not any(secret in body for secret in south.secrets), path
    for verb in ("pause", "resume", "abort"):
        refused = client.post(f"/api/v1/rollouts/{made.id}/{verb}")
        assert refused.status_code == 403
        assert "limited to the group north" in refused.json["detail"]
        assert client.post(f"/rollouts/{made.id}/{verb}").status_code == 403
    assert "only somebody whose account is not limited can pause" in client.get(f"/rollouts/{made.id}").get_data(as_text=True)
    mine = client.post("/api/v1/rollouts", json={"release": "yard@2", "selector": {"group": "north"}, "stages": [1.0]})
    assert mine.status_code == 201
    assert client.post(f"/api/v1/rollouts/{mine.json['id']}/pause").json["state"] == "paused"


def test_who_is_limited_can_still_do_his_work(fleet: Fleet) -> None:
    """Look after the boards of his house: see them, follow their logs, acknowledge their alerts, tell them what to do."""
    north = words_of(fleet.side("north"))
    fleet.side("south")
    client, device = fleet.client("operator", ["north"]), north["device"]
    assert [one["name"] for one in client.get("/api/v1/devices").json["items"]] == ["north-1", "north-2"]
    assert client.get("/api/v1/overview").json["devices"]["total"] == 2
    assert client.get(f"/api/v1/crops/{north['key']}").data.startswith(b"\xff\xd8\xff")
    begun = client.post(f"/api/v1/devices/{device}/debug-sessions", json={"log_level": "debug", "duration_s": 60, "reason": "x"})
    assert begun.status_code == 201
    assert client.post(f"/api/v1/alerts/{north['alert']}/acknowledge").json["acknowledged_by"]
    assert client.put("/api/v1/configurations/group:north", json={"content": {"log_level": "debug"}}).status_code == 200
    assert client.put(f"/api/v1/devices/{device}/configuration", json={"content": {}}).status_code == 200
    refused = client.put("/api/v1/configuration", json={"content": {}})
    assert refused.status_code == 403
    assert "the whole fleet, and your account is limited to the group north" in refused.json["detail"]
    assert "ask somebody whose account is not limited" in refused.json["hint"]
    everywhere = client.post("/api/v1/rollouts", json={"release": "yard@2"})
    assert everywhere.status_code == 403
    assert "name a group or devices" in everywhere.json["hint"]
    assert client.get("/api/v1/releases").json["items"][0]["release"] == "yard@2"


def test_the_limit_is_read_anew_at_each_request(fleet: Fleet) -> None:
    """A group is taken from an account, a device is moved to another group, a token knows fewer groups than its account: each
    holds at the next request of whoever is signed in already."""
    north, south = fleet.side("north"), fleet.side("south")
    client = fleet.client("viewer", ["north", "south"], name="both")
    names = lambda: [one["name"] for one in client.get("/api/v1/devices").json["items"]]  # noqa: E731
    assert names() == ["north-1", "north-2", "south-1", "south-2"]
    with fleet.context.database.write() as session:
        session.execute(update(OperatorTokenRow).values(groups=["south", "nowhere"]))
    assert names() == ["south-1", "south-2"]
    with fleet.context.database.write() as session:
        session.execute(update(OperatorTokenRow).values(groups=None))
        session.execute(update(OperatorRow).where(OperatorRow.name == "both").values(groups=["north"]))
    assert names() == ["north-1", "north-2"]
    moved = north.devices["north-1"]
    with fleet.context.database.write() as session:
        session.execute(update(DeviceRow).where(DeviceRow.id == moved).values(group="south"))
    assert names() == ["north-2"]
    assert client.get(f"/api/v1/devices/{moved}").status_code == 404
    assert client.get(f"/api/v1/detections/{north.ids['event']}").status_code == 404, "what it saw goes with it"
    with fleet.context.database.write() as session:
        session.execute(update(OperatorRow).where(OperatorRow.name == "both").values(groups=[]))
    assert names() == []
    page = client.get("/devices").get_data(as_text=True)
    assert "your account is limited to no group" in page
    assert not any(secret in page for secret in (north.secrets | south.secrets) - {"north", "south"})


def test_the_live_stream_of_a_limited_account_knows_nothing_of_what_happens(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the other tenant's cameras are busy is his own affair: the stream says "look again" at its own pace, to a rested fleet
    as to a busy one."""
    monkeypatch.setattr(overview_api, "LIMITED_LOOK_S", 0.01)
    client = fleet.client("viewer", ["north"])

    def listen() -> list[bytes]:
        answer = client.get("/api/v1/live", buffered=False)
        chunks = answer.iter_encoded()
        found = [next(chunks) for _ in range(4)]
        answer.close()
        return found

    quiet = listen()
    fleet.side("south")
    assert listen() == quiet
    assert b"devices" in quiet[1]


def test_a_route_that_forgets_gives_nothing_away(sqlite_server: Context) -> None:
    """Somebody adds a route and does not think of limits; or says that it filters, and never asks by what; or that it is of a
    device, and has none in its path. Whoever is limited gets nothing from any of them; whoever is not gets all."""
    prepare(sqlite_server)
    app = create_operator_app(sqlite_server)

    def view(**_: str) -> str:
        current_operator()
        return "the whole fleet"

    for number, marked in enumerate((require("viewer"), require("viewer", reach="filtered"), require("viewer", reach="device"))):
        app.add_url_rule(f"/new/{number}/<thing>", f"new{number}", marked(lambda thing: view(thing=thing)))
    app.add_url_rule("/new/open/<thing>", "open", open_to_all(lambda thing: view))
    limited, free = (client_of(sqlite_server, app, "admin", groups) for groups in (["north"], None))
    for number in range(3):
        answer = limited.get(f"/new/{number}/x")
        assert answer.status_code == 403, number
        assert b"the whole fleet, and" in answer.data or b"the whole fleet" not in answer.data
        assert "Content-Security-Policy" in answer.headers
        assert free.get(f"/new/{number}/x").data == b"the whole fleet"
    with pytest.raises(ValueError, match="not a reach"):
        require("viewer", reach="some")


def test_every_route_of_a_device_names_it_in_its_path(fleet: Fleet) -> None:
    for rule in fleet.app.url_map.iter_rules():
        if reach_of(fleet.app.view_functions[rule.endpoint]) == "device":
            assert rule.arguments & set(DEVICE_PARAMETERS), rule
