"""What the fleet is told: three layers over each other, where each value comes from, every version kept, nothing lost."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_server.audit import service as audit
from fleet_server.configuration import service
from fleet_server.configuration.layers import changes, leaves, merged
from fleet_server.configuration.service import Author
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import ConflictError, FaultyError, InvalidError, NotFoundError
from fleet_server.telemetry import service as telemetry
from ota.wire import configuration_faults
from ota.wire.configuration import MAX_LAYER_BYTES, digest_of
from ota.wire.heartbeat import CameraHealth, ConfigurationHealth, Heartbeat

SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
DOOR = {"name": "door", "polygon": SQUARE}
NOW_S = 1_790_000_000.0


def author(why: str = "", who: str = "ann") -> Author:
    return Author(who, "10.0.0.1", NOW_S, why)


def put(database: Database, scope: str, content: Any, *, if_version: int | None = None, why: str = "") -> service.Layer:
    return service.put(database, scope, content, if_version=if_version, author=author(why))


def beat(
    server: Context, device_id: str, *cameras: str, configuration: ConfigurationHealth | None = None, sequence: int = 1
) -> None:
    said = Heartbeat(
        sequence=sequence, boot_id="b", at_s=NOW_S, uptime_s=1, window_s=1, state="idle",
        cameras=[CameraHealth(camera=name) for name in cameras], configuration=configuration,
    )  # fmt: skip
    with server.database.write() as session:
        assert telemetry.store_heartbeats(session, [(device_id, said, NOW_S + sequence)]) == 1


def test_the_nearest_layer_wins_key_by_key_and_each_value_names_its_origin(server: Context, enrolled: Any) -> None:
    """Fleet, then the device's group, then the device; a table is joined, a list and a value are replaced."""
    database = server.database
    put(database, "fleet", {"every_camera": {"fps": 5, "gate": {"sensitivity": 0.4, "keepalive_s": 3}, "zones": [DOOR]}})
    with database.read() as session:
        group = service.explained(session, enrolled.device_id, NOW_S).layers[1].scope
    assert group.startswith("group:")
    put(database, group, {"every_camera": {"gate": {"sensitivity": 0.6}, "min_score": {"car": 0.5}}, "log_level": "warning"})
    put(database, "group:others", {"log_level": "debug"})
    put(database, f"device:{enrolled.device_id}", {"every_camera": {"zones": [], "min_score": {"person": 0.7}}})
    with database.read() as session:
        found = service.explained(session, enrolled.device_id, NOW_S)
        assert service.effective(session, enrolled.device_id) == found.content
    assert found.content == {
        "every_camera": {
            "fps": 5, "gate": {"sensitivity": 0.6, "keepalive_s": 3}, "zones": [], "min_score": {"car": 0.5, "person": 0.7},
        },
        "log_level": "warning",
    }  # fmt: skip
    device = f"device:{enrolled.device_id}"
    assert {one.path: one.origin for one in found.settings} == {
        "every_camera.fps": "fleet", "every_camera.gate.keepalive_s": "fleet", "every_camera.gate.sensitivity": group,
        "every_camera.min_score.car": group, "every_camera.min_score.person": device, "every_camera.zones": device,
        "log_level": group,
    }  # fmt: skip
    assert (found.digest, found.said, found.in_force) == (digest_of(found.content), None, False)


def test_what_the_board_says_of_it_stands_beside_what_is_wanted(server: Context, enrolled: Any) -> None:
    put(server.database, "fleet", {"every_camera": {"fps": 5}})
    digest = digest_of({"every_camera": {"fps": 5}})
    for sequence, state, in_force in ((1, "trying", False), (2, "applied", True), (3, "rolled_back", False)):
        beat(server, enrolled.device_id, "gate", configuration=ConfigurationHealth(digest=digest, state=state), sequence=sequence)
        with server.database.read() as session:
            found = service.explained(session, enrolled.device_id, NOW_S)
        assert (found.said["state"], found.in_force) == (state, in_force)
    put(server.database, "fleet", {"every_camera": {"fps": 6}})
    with server.database.read() as session:
        assert not service.explained(session, enrolled.device_id, NOW_S).in_force, "what it says is about the one before"


def test_every_version_stays_with_who_when_and_why_and_undo_is_a_new_one(database: Database) -> None:
    put(database, "fleet", {"log_level": "debug"}, why="night shift")
    put(database, "fleet", {"log_level": "info"})
    assert put(database, "fleet", {"log_level": "info"}).version == 2, "the same again is no change"
    undone = service.undo(database, "fleet", to_version=None, if_version=2, author=author(who="bob"))
    assert (undone.version, undone.content, undone.changed_by) == (3, {"log_level": "debug"}, "bob")
    assert service.undo(database, "fleet", to_version=0, if_version=3, author=author()).content == {}
    with database.read() as session:
        found = service.history(session, "fleet")
        assert [(one.version, one.content.get("log_level"), one.changed_by, one.why) for one in found] == [
            (4, None, "ann", "undo: as version 0"), (3, "debug", "bob", "undo: as version 1"), (2, "info", "ann", ""),
            (1, "debug", "ann", "night shift"),
        ]  # fmt: skip
        assert [one.version for one in service.history(session, "fleet", limit=2, before=4)] == [3, 2]
        deeds = [entry.what for entry in audit.entries(session, target="fleet")]
        assert deeds == ["configuration.undo"] * 2 + ["configuration.put"] * 2
        assert service.get(session, "fleet", 2).content == {"log_level": "info"}
        with pytest.raises(NotFoundError):
            service.get(session, "fleet", 9)
    with pytest.raises(ConflictError):
        service.undo(database, "group:never", to_version=None, if_version=None, author=author())


@pytest.mark.parametrize("version", [0, 1])
def test_two_people_who_change_the_same_version_do_not_overwrite_each_other(database: Database, version: int) -> None:
    """Both read the same version (or that there is none); both write at the same moment: one of them is told to look again."""
    if version:
        put(database, "fleet", {"log_level": "info"})
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def change(level: str) -> None:
        barrier.wait(30)
        try:
            put(database, "fleet", {"log_level": level}, if_version=version)
            outcomes.append("kept")
        except ConflictError as error:
            outcomes.append(error.detail)

    threads = [threading.Thread(target=change, args=(level,)) for level in ("debug", "warning")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [f"fleet has version {version + 1} by now, not {version}", "kept"]


def test_what_boards_would_refuse_is_not_stored(server: Context, enrolled: Any) -> None:
    """Types, shapes, sizes; a camera that the device does not have; names that clash only when two layers meet."""
    database = server.database
    crossed = {"name": "a", "polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}
    with pytest.raises(FaultyError) as caught:
        put(database, "fleet", {"every_camera": {"fps": 0, "zones": [crossed]}})
    assert [fault["path"] for fault in caught.value.faults] == ["every_camera.fps", "every_camera.zones[0].polygon"]
    many = {"every_camera": {"min_score": {f"label-{n}": 0.5 for n in range(3000)}}}
    with pytest.raises(FaultyError, match="cannot be used") as caught:
        put(database, "fleet", many)
    assert str(MAX_LAYER_BYTES) in caught.value.faults[0]["problem"]
    device = f"device:{enrolled.device_id}"
    put(database, device, {"cameras": {"anything": {}}})  # the board has not said yet which cameras it has
    beat(server, enrolled.device_id, "gate", "yard")
    for scope in (device, "fleet"):
        with pytest.raises(FaultyError) as caught:
            put(database, scope, {"cameras": {"gaet": {}}})
        assert caught.value.faults[0]["path"] == "cameras.gaet"
    put(database, "group:elsewhere", {"cameras": {"gaet": {}}})
    put(database, device, {"cameras": {"gate": {"lines": [{"name": "door", "points": [[0, 0], [1, 1]]}]}}})
    with pytest.raises(FaultyError) as caught:
        put(database, "fleet", {"every_camera": {"zones": [DOOR]}})
    assert (caught.value.faults[0]["path"], device in caught.value.faults[0]["problem"]) == ("cameras.gate.lines[0].name", True)
    with database.read() as session:
        assert service.get(session, "fleet").version == 0


def test_a_change_of_the_fleet_is_looked_through_while_boards_go_on_writing(
    server: Context, enrolled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator changes the fleet's layer over many boards' own ones: no heartbeat waits for it, no polygon is judged anew.

    A board's layer that changes during the look is looked at, too: what clashes with it is not stored.
    """
    database, device = server.database, f"device:{enrolled.device_id}"
    for number in range(30):
        put(database, f"group:g{number}", {"every_camera": {"zones": [DOOR]}})
    put(database, device, {"cameras": {"gate": {"zones": [DOOR]}}})
    beat(server, enrolled.device_id, "gate")
    judged: list[str] = []
    monkeypatch.setattr(configuration_faults, "polygon_faults", lambda points, where: judged.append(where) or [])
    real, looks = service.check, []

    def look(*arguments: Any) -> Any:
        found = real(*arguments)
        looks.append(len(found))
        if len(looks) == 1:
            beat(server, enrolled.device_id, "gate", sequence=2)
            table = {"name": "door", "points": [[0, 0], [1, 1]]}
            with database.write() as session:
                service.store(session, device, {"cameras": {"gate": {"lines": [table]}}}, 1, author(), "configuration.put")
        return found

    monkeypatch.setattr(service, "check", look)
    with pytest.raises(FaultyError) as caught:
        put(database, "fleet", {"every_camera": {"zones": [DOOR], "fps": 3}})
    assert caught.value.faults[0]["path"] == "cameras.gate.lines[0].name"
    assert looks == [0, 1]
    assert judged == ["every_camera.zones[0].polygon"] * 2, "that of the new layer, once a look"
    with database.read() as session:
        assert service.get(session, "fleet").version == 0
        assert service.get(session, device).version == 2


def test_layers_that_change_all_the_time_end_a_change_with_words(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script writes group after group: the operator who changes the fleet is told to try again, and nothing hangs."""
    real, looks = service.check, []

    def look(*arguments: Any) -> Any:
        looks.append(1)
        with database.write() as session:
            service.store(session, "group:busy", {"every_camera": {"fps": len(looks)}}, None, author(), "configuration.put")
        return real(*arguments)

    monkeypatch.setattr(service, "check", look)
    with pytest.raises(ConflictError, match="change all the time"):
        put(database, "fleet", {"every_camera": {"fps": 3}})
    assert len(looks) == service.TRIES


def test_differences_between_versions_layers_and_devices(server: Context, enrolled: Any) -> None:
    database = server.database
    put(database, "fleet", {"every_camera": {"fps": 5}, "log_level": "info"})
    put(database, "fleet", {"every_camera": {"fps": 6, "blur": ["person"]}})
    put(database, "group:shops", {"every_camera": {"fps": 6}})
    with database.read() as session:
        found = service.diff(session, "fleet@1", "fleet", NOW_S)
        assert [(one.path, one.kind, one.before, one.after) for one in found] == [
            ("every_camera.blur", "added", None, ["person"]), ("every_camera.fps", "changed", 5, 6),
            ("log_level", "removed", "info", None),
        ]  # fmt: skip
        assert [one.path for one in service.diff(session, "group:shops", "fleet", NOW_S)] == ["every_camera.blur"]
        assert service.diff(session, "fleet@2", f"effective:{enrolled.device_id}", NOW_S) == []
        for wrong in ("fleet@", "fleet@x", "all", "group:", "fleet:x", "effective:", "fleet@99999999999"):
            with pytest.raises((InvalidError, NotFoundError)):
                service.diff(session, wrong, "fleet", NOW_S)
        with pytest.raises(NotFoundError):
            service.diff(session, "device:nobody", "fleet", NOW_S)


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.dictionaries(KEYS.map(str.upper), st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=12,
)  # fmt: skip
"""Layers as types allow them: a small letter is always a table, a capital always a value."""


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TREES, min_size=1, max_size=4))
def test_the_origin_is_the_highest_layer_that_says_it(trees: list[dict[str, Any]]) -> None:
    content, found = merged([(str(number), tree) for number, tree in enumerate(trees)])
    said = [dict(leaves(tree)) for tree in trees]
    values = {path: value for path, value in leaves(content) if not isinstance(value, dict)}
    assert {one.path: one.value for one in found} == values
    for one in found:
        assert one.origin == str(max(number for number, tree in enumerate(said) if one.path in tree))
        assert said[int(one.origin)][one.path] == one.value
    assert merged([("x", content)])[0] == content


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, TREES)
def test_a_difference_says_all_and_nothing_else(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = {one.path: one for one in changes(before, after)}
    old, new = dict(leaves(before)), dict(leaves(after))
    assert set(found) == {path for path in old.keys() | new.keys() if old.get(path, ...) != new.get(path, ...)}
    assert changes(after, after) == []


def test_the_routes_say_faults_in_a_list_and_keep_viewers_from_writing(sign_in: Callable[[str], Any], enrolled: Any) -> None:
    operator, viewer, nobody = sign_in("operator"), sign_in("viewer"), sign_in("")
    api = "/api/v1"
    wrong = {"content": {"every_camera": {"fps": "x", "live_view": True}}}
    answer = operator.put(f"{api}/configuration", json=wrong)
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json["faults"]] == ["every_camera.live_view", "every_camera.fps"]
    assert operator.put(f"{api}/configurations/fleet", json={**wrong, "dry_run": True}).json["faults"] == answer.json["faults"]
    assert operator.get(f"{api}/configuration").json["version"] == 0
    good = {"content": {"every_camera": {"fps": 5}}, "version": 0, "why": "less heat"}
    assert operator.put(f"{api}/configuration", json=good).json["version"] == 1
    assert operator.put(f"{api}/configuration", json={**good, "content": {}}).status_code == 409
    for scope in ("group:shops", f"device:{enrolled.device_id}"):
        assert operator.put(f"{api}/configurations/{scope}", json=good).json["scope"] == scope
    assert operator.get(f"{api}/devices/{enrolled.device_id}/configuration").json["version"] == 1
    assert [layer["scope"] for layer in viewer.get(f"{api}/configurations").json["items"]] == [
        f"device:{enrolled.device_id}", "fleet", "group:shops"
    ]  # fmt: skip
    found = viewer.get(f"{api}/devices/{enrolled.device_id}/configuration/effective").json
    assert (found["content"], found["settings"][0]["origin"]) == ({"every_camera": {"fps": 5}}, f"device:{enrolled.device_id}")
    assert operator.put(f"{api}/configurations/fleet", json={"content": {}, "version": 1}).json["version"] == 2
    assert operator.post(f"{api}/configurations/fleet/undo", json={"version": 2}).json["content"] == {"every_camera": {"fps": 5}}
    versions = viewer.get(f"{api}/configurations/fleet/history?limit=2").json
    assert ([one["version"] for one in versions["items"]], versions["next"]) == ([3, 2], "2")
    assert viewer.get(f"{api}/configurations/fleet?version=2").json["content"] == {}
    assert viewer.get(f"{api}/configuration-diff?left=fleet@2&right=fleet").json["items"][0]["path"] == "every_camera.fps"
    for client, status in ((viewer, 403), (nobody, 401)):
        assert client.put(f"{api}/configurations/fleet", json=good).status_code == status
        assert client.post(f"{api}/configurations/fleet/undo", json={}).status_code == status
    assert nobody.get(f"{api}/configurations").status_code == 401
    assert operator.put(f"{api}/configurations/everything", json=good).status_code == 400
    assert operator.put(f"{api}/configurations/device:nobody", json=good).status_code == 404
    deep = "[" * 3000 + "]" * 3000
    for body in (b'{"content": {"every_camera": ' + deep.encode() + b"}}", b'{"content": {"every_camera": {"fps": NaN}}}'):
        answer = operator.put(f"{api}/configurations/fleet", data=body, content_type="application/json")
        assert answer.status_code in (400, 422), answer.data
