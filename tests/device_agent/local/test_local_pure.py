"""Local output without the world: what is where, what is said of it, and a queue that makes nobody wait."""

import json
import re
import threading
from pathlib import Path

import pytest

from device_agent.errors import SettingsError
from device_agent.local import words
from device_agent.local.mailbox import Mailbox
from device_agent.local.open_linux import open_local, read_secret
from device_agent.local.output import LocalOutput
from device_agent.local.places import MAX_OPEN, Places, PlaceState
from device_agent.local.settings import LocalSection, local_faults, parse_local
from device_agent.local.webhook_http import address_problem, signature
from device_agent.local.wires import Wire, WireStates


def test_a_zone_counts_who_is_in_it_and_who_ever_was(update) -> None:
    """Two walk in, one walks out, one better crop comes: one is there, two were."""
    places = Places()
    seen = [
        places.told(update(*one))
        for one in ((1, "start"), (2, "start"), (1, "update"), (1, "end"))
    ]
    assert [(place.occupancy, place.count, began) for place, began in seen] == [
        (1, 1, True), (2, 2, True), (2, 2, False), (1, 2, False),
    ]  # fmt: skip


def test_a_line_counts_its_crossings_by_direction_and_nobody_is_in_it(update) -> None:
    places = Places()
    for number, way in enumerate(("in", "in", "out"), 1):
        places.told(update(number, "end", rule="door", rule_kind="line", direction=way))
        state, began = places.told(update(number, "end", rule="door", rule_kind="line", direction=way, revision=1))
        assert not began
    assert (state.count, state.occupancy, state.directions) == (3, 0, (("in", 2), ("out", 1)))
    assert words.states_of(state, "cam") == {
        "rookery/cam/yard/door/count": "3", "rookery/cam/yard/door/count/in": "2", "rookery/cam/yard/door/count/out": "1",
    }  # fmt: skip


def test_events_that_never_end_do_not_fill_the_memory(update) -> None:
    places = Places()
    for number in range(MAX_OPEN + 50):
        state, _ = places.told(update(number))
    assert (state.occupancy, state.count) == (MAX_OPEN, MAX_OPEN + 50)


def test_a_zone_that_the_configuration_drops_is_gone_with_its_state(update) -> None:
    places = Places()
    places.configure("yard", ["gate"], ["door"])
    places.told(update(1))
    present, gone = places.configure("yard", ["lawn"], ["door"])
    assert [one.name for one in present] == ["lawn", "door"]
    assert [(one.name, one.occupancy) for one in gone] == [("gate", 1)]
    assert places.configure("shed", [], []) == ([], [])


def test_a_name_is_one_level_of_a_topic_and_two_names_never_meet() -> None:
    """A zone called "#" or "a/b" must not become a wildcard or another topic."""
    assert words.level("gate-1.b") == "gate-1.b"
    names = ["a b", "a_b", "a/b", "#", "+", "", "ä", "x" * 500]
    levels = [words.level(name) for name in names]
    assert len(set(levels)) == len(names)
    assert all(level and not set(level) & set("/#+ \0") for level in levels)


def test_an_event_as_json_says_all_but_the_picture(update) -> None:
    body = words.event_body(update(7, "end"), "front door")
    assert body["box"] == [10.0, 20.0, 30.0, 60.0]
    assert (body["device"], body["kind"], body["ended_at_s"], body["open"]) == ("front door", "end", 1001.5, False)
    assert words.event_body(update(7), "d")["ended_at_s"] is None
    assert "picture" not in json.dumps(body)


def test_home_assistant_is_told_of_a_zone_in_its_own_words() -> None:
    told = words.discovery_of(PlaceState("yard", "gate", True), "cam 1", "homeassistant")
    sensors = {topic.split("/")[1]: json.loads(body) for topic, body in told.items()}
    assert set(sensors) == {"binary_sensor", "sensor"}
    assert sensors["binary_sensor"]["state_topic"] == words.place_topic("cam 1", "yard", "gate", "state")
    assert sensors["binary_sensor"]["availability_topic"] == words.availability_topic("cam 1")
    assert all(len(topic.split("/")) == 5 for topic in told)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("yard_gate", "x"), ("yard", "gate_x")), (("a.b", "z"), ("a_b", "z")), (("a", "b.c"), ("a", "b_c"))],
)
def test_two_zones_are_two_sensors_for_home_assistant(one: tuple[str, str], other: tuple[str, str]) -> None:
    """The gate of one camera showed as on because somebody stood in front of another: two names met once they were joined."""
    first, second = (words.discovery_of(PlaceState(camera, zone, True), "pi", "ha") for camera, zone in (one, other))
    assert not set(first) & set(second)
    ids = [json.loads(body)["unique_id"] for told in (first, second) for body in told.values()]
    assert len(set(ids)) == 4
    assert first == words.discovery_of(PlaceState(*one, True), "pi", "ha"), "the same after a restart"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", topic.split("/")[2]) for topic in (*first, *second))


def test_a_full_mailbox_loses_the_oldest_and_counts_it_and_stale_letters_are_not_delivered() -> None:
    """Nobody reads for an hour while a crowd walks by."""
    now = [0.0]
    box: Mailbox[int] = Mailbox("mqtt", 3, lambda: now[0])
    for number in range(5):
        now[0] = number
        box.put(number)
    assert box.wait(0.0)
    assert box.take(fresh_s=1.5) == 3
    assert box.take(fresh_s=1.5) == 4
    assert box.take(fresh_s=1.5) is None
    assert box.dropped() == {"mqtt_full": 2, "mqtt_stale": 1}
    box.ring()
    assert not box.wait(60.0), "a ring ends the wait at once"


class Stuck:
    """A teller whose receiver never answers: its mailbox is all that the cameras meet."""

    kind, name, silence_s = "stuck", "stuck", 60.0

    def __init__(self) -> None:
        self.box: Mailbox[object] = Mailbox("stuck", 10, lambda: 0.0)

    def run(self, stop, progress) -> None:
        raise AssertionError("never run")

    def take_event(self, event, place, began) -> None:
        self.box.put((event, place, began))

    def take_places(self, present, gone) -> None:
        self.box.ring()

    def dropped(self) -> dict[str, int]:
        return self.box.dropped()


def test_telling_waits_for_nobody_keeps_no_pictures_and_loses_no_count(update) -> None:
    """Four cameras tell ten thousand events while nobody reads: all are counted, memory holds ten, without their pictures."""
    stuck = Stuck()
    local = LocalOutput([stuck])
    local.places("yard", ["gate"])

    def see(camera: int) -> None:
        for number in range(2500):
            local.tell(update(number + camera * 10_000, "start" if number % 2 else "end"))

    threads = [threading.Thread(target=see, args=(camera,)) for camera in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert local.dropped() == {"stuck_full": 9990}
    event, place, _ = stuck.box.take(1e9)
    assert event.event.crops == ()
    assert place.count > 9000
    local.tell(update(99_999, rule_kind="sample"))
    assert local.dropped() == {"stuck_full": 9990}, "a recall sample is no event on the spot"


def test_wires_hold_and_pulse() -> None:
    hold, pulse = Wire("c", 1, "yard", "gate"), Wire("c", 2, "yard", "gate", mode="pulse", pulse_s=2.0)
    other = Wire("c", 3, "shed", "gate")
    states = WireStates([hold, pulse, other])

    def on(now_s: float) -> list[bool]:
        return [states.on(wire, now_s) for wire in states.wires]

    there = PlaceState("yard", "gate", True, occupancy=1, count=1)
    assert states.pulses(there)
    assert not states.pulses(PlaceState("shed", "gate", True))
    states.is_now(there)
    states.began(there, 10.0)
    assert on(10.0) == [True, True, False]
    assert states.next_change_s(10.0) == 12.0
    assert on(12.0) == [True, False, False]
    states.is_now(PlaceState("yard", "gate", True, occupancy=0, count=1))
    assert on(13.0) == [False, False, False]
    assert states.next_change_s(13.0) is None


def test_a_secret_that_others_can_read_is_refused_and_stands_in_no_message(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n")
    secret.chmod(0o644)
    with pytest.raises(SettingsError) as caught:
        read_secret(secret, "local.webhook.secret_file")
    assert "chmod 600" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    secret.chmod(0o600)
    assert read_secret(secret, "x") == b"s3cr3t"
    for content in (b"", b"\xff\xfe"):
        secret.write_bytes(content)
        with pytest.raises(SettingsError):
            read_secret(secret, "x")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_secret(tmp_path / "nothing", "x")


def test_secrets_are_not_shown_by_what_carries_them(tmp_path: Path, steady) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    secret.chmod(0o600)
    faults: list[str] = []
    table = {
        "mqtt": {"host": "h", "user": "u", "password_file": "secret"},
        "webhook": {"url": "https://h/x", "secret_file": "secret"},
    }
    settings = parse_local(table, tmp_path, faults)
    assert faults == []
    assert settings.hosts == ["h:1883", "h:443"]
    made = open_local(settings, name="cam", now_s=lambda: 0.0, steady_s=steady)
    assert len(made.duties) == 2
    assert "s3cr3t" not in repr([vars(duty) for duty in made.duties])


def test_every_fault_of_the_settings_is_told_at_once(tmp_path: Path) -> None:
    faults: list[str] = []
    parse_local(
        {
            "mqtt": {"host": "a b", "password_file": "x"}, "webhook": {"url": "ftp://h", "retries": 3}, "smoke": {},
            "gpio": [{"line": 4, "camera": "yard", "rule": "gate"}, {"line": 4, "camera": "yard", "rule": "x", "mode": "blink"},
                     {"line": 4, "camera": "y", "rule": "z"}],
        },
        tmp_path, faults,
    )  # fmt: skip
    text = "\n".join(faults)
    for piece in ("local.smoke", "local.mqtt.host", "local.webhook.url", "retries", "local.gpio[2].mode", "given twice"):
        assert piece in text, piece
    assert parse_local(5, tmp_path, faults) == LocalSection()
    good: list[str] = []
    wired = parse_local({"gpio": [{"line": 4, "camera": "yrad", "rule": "gate"}]}, tmp_path, good)
    assert good == []
    assert local_faults(wired, ["yard"]) == ["local.gpio[1].camera: there is no camera 'yrad'"]


@pytest.mark.parametrize(
    ("address", "listed", "allowed"),
    [
        ("127.0.0.1", [], False), ("127.0.0.1", ["hook"], True), ("10.0.0.9", ["10.0.0.9"], True), ("169.254.169.254", [], False),
        ("::1", [], False), ("::ffff:10.0.0.9", [], False), ("::ffff:10.0.0.9", ["10.0.0.9"], True), ("fe80::1%eth0", [], False),
        ("224.0.0.1", ["hook"], False), ("0.0.0.0", ["hook"], False), ("93.184.215.14", [], True), ("nonsense", ["hook"], False),
        ("64:ff9b::c0a8:101", [], False), ("64:ff9b:1::1", [], False), ("64:ff9b:1:c0a8:1:100::", [], False),
        ("2002:c0a8:101::1", [], False), ("fec0::1", [], False), ("::127.0.0.1", [], False), ("::ffff:0:c0a8:101", [], False),
        ("2001:0:5ef5:79fd:0:59e:3f57:fefe", [], False), ("fd00::1", [], False), ("fd00::1", ["fd00::1"], True),
        ("64:ff9b::c0a8:101", ["192.168.1.1"], True), ("64:ff9b::c0a8:101", ["hook"], True), ("64:ff9b::e000:1", ["hook"], False),
        ("64:ff9b::5db8:d70e", [], True), ("2606:2800:21f::1", [], True),
    ],
)  # fmt: skip
def test_a_webhook_goes_into_a_private_network_only_where_that_is_listed(address: str, listed: list[str], allowed: bool) -> None:
    """A name that suddenly points at the router's own page, or at a cloud's metadata address, also through NAT64 or 6to4."""
    assert (address_problem(address, "hook", listed) is None) == allowed


def test_the_signature_is_bound_to_the_time_and_the_body() -> None:
    one = signature(b"key", b"{}", 1000.7)
    assert one.startswith("t=1000,v1=")
    assert len({one, signature(b"key", b"{}", 1001.7), signature(b"key", b"[]", 1000.7), signature(b"kez", b"{}", 1000.7)}) == 4
