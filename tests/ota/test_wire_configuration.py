"""The server's word about cameras: judged as a whole, each fault at its place; nothing sent can do more than be refused."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ota.wire.configuration import Configuration, digest_of, for_camera, laid_over
from ota.wire.configuration_faults import ConfigurationError, faults, parse, problems
from ota.wire.typed_faults import MAX_FAULTS

SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
BOW_TIE = [[0, 0], [1, 1], [1, 0], [0, 1]]
WHOLE = {
    "every_camera": {"blur": ["person"], "gate": {"sensitivity": 0.7, "keepalive_s": 2}, "timezone": "Europe/Zurich"},
    "cameras": {
        "gate": {
            "enabled": True, "fps": 5, "recall_per_day": 3, "min_score": {"person": 0.6},
            "sureness": 0.2, "sure_after_s": 3,
            "zones": [{
                "name": "door", "polygon": SQUARE, "inside": True, "inertia_s": 0.5, "dwell_s": 3, "classes": ["person"],
                "min_share": 0.01, "min_px": 20, "min_score": 0.5, "cooldown_s": 10, "cooldown_per_class": True,
                "schedule": [{"days": ["mon", "sun"], "from": "22:00", "to": "06:00"}, {"from": "00:00", "to": "24:00"}],
            }],
            "lines": [{"name": "sill", "points": [[0, 0.5], [1, 0.5]], "right": "in", "left": "out", "classes": ["car"]}],
            "triggers": {
                "first_today": {}, "low_confidence": {"below": 0.1, "above": 0.1, "burst": False},
                "near_miss": {"pairs": [["person", "car"]], "per_hour": 3}, "disagreement": {"cooldown_s": 5},
            },
            "masks": [{"name": "window", "polygon": SQUARE}],
            "crops": {"longest_side_px": 320, "jpeg_quality": 70, "max_bytes": 50_000},
        }
    },
    "shadow_duty": 0.1, "local_output": {"gpio": False}, "log_level": "debug",
}  # fmt: skip
LABELS = ["person", "car"]


def paths(value: object, cameras: list[str] | None = None, labels: list[str] | None = None) -> set[str]:
    return {fault.path for fault in faults(value, cameras, labels)}


def test_a_whole_configuration_has_no_fault_and_keeps_every_word() -> None:
    assert problems(WHOLE, ["gate"], LABELS) == []
    made = parse(WHOLE)
    gate = for_camera(made, "gate")
    assert (gate.fps, gate.blur, gate.timezone) == (5.0, ["person"], "Europe/Zurich"), "every_camera holds for gate, too"
    assert for_camera(made, "yard").fps != 5.0


def test_all_faults_are_told_at_once_each_at_its_place() -> None:
    """Somebody wrote a whole file at night: one answer names all that is wrong, so that one more try is enough."""
    gate = {
        "zones": [
            {"name": "a", "polygon": SQUARE}, {"name": "b", "polygon": SQUARE, "dwel_s": 3, "classes": ["forklift"]},
            {"name": "a", "polygon": BOW_TIE, "dwell_s": -1},
        ],
        "lines": [{"name": "b", "points": [[0, 0], [0, 0]], "left": "in"}],
        "gate": {"sensitivity": 7}, "fps": "fast", "min_score": {"persn": 0.5, "car": 2},
        "triggers": {"near_mis": {}, "near_miss": {"pairs": [["person", "dog"]]}},
        "masks": [{"polygon": [[0, 0], [1, 2], [1, 0]]}],
    }  # fmt: skip
    wrong = {"cameras": {"gate": gate, "gaet": {}, "front gate": 5}, "log_level": "loud", "live_view": True}
    found = faults(wrong, ["gate"], LABELS)
    assert {fault.path for fault in found} == {
        "live_view", "log_level", "cameras.gaet", 'cameras["front gate"]', "cameras.gate.fps", "cameras.gate.gate.sensitivity",
        "cameras.gate.zones[1].dwel_s", "cameras.gate.zones[1].classes[0]", "cameras.gate.zones[2].dwell_s",
        "cameras.gate.zones[2].polygon", "cameras.gate.zones[2].name", "cameras.gate.lines[0].points",
        "cameras.gate.lines[0].left", "cameras.gate.lines[0].name", "cameras.gate.min_score.persn", "cameras.gate.min_score.car",
        "cameras.gate.triggers.near_mis", "cameras.gate.triggers.near_miss.pairs[0][1]", "cameras.gate.masks[0].polygon[1]",
    }  # fmt: skip
    said = {fault.path: fault.problem for fault in found}
    assert "did you mean dwell_s?" in said["cameras.gate.zones[1].dwel_s"]
    assert "crosses" in said["cameras.gate.zones[2].polygon"]
    assert "it has gate" in said["cameras.gaet"]
    assert said["log_level"].startswith("must be one of")
    with pytest.raises(ConfigurationError) as caught:
        parse(wrong, ["gate"], LABELS)
    assert len(caught.value.faults) == len(found)


def test_what_only_the_board_may_say_is_no_setting() -> None:
    """A captured server asks for the live view, another host, no masks: there is no word for it."""
    for key in ("live_view", "upload_hosts", "server_hosts", "policy", "unmask"):
        assert paths({key: True}) == {key}
        assert paths({"every_camera": {key: True}}) == {f"every_camera.{key}"}
    assert paths({"local_output": {"mqtt": "broker.example"}}) == {"local_output.mqtt"}


def test_one_name_over_zones_and_lines_also_when_one_stands_in_every_camera() -> None:
    """An event names its rule; two of one name could not be told apart."""
    assert paths({"every_camera": {"zones": [{"name": "a", "polygon": SQUARE}, {"name": "a", "polygon": BOW_TIE}]}}) == {
        "every_camera.zones[1].polygon", "every_camera.zones[1].name"
    }  # fmt: skip
    line = {"name": "door", "points": [[0, 0], [0, 1]]}
    zone = {"name": "door", "polygon": SQUARE}
    assert paths({"every_camera": {"zones": [zone]}, "cameras": {"gate": {"lines": [line]}}}) == {"cameras.gate.lines[0].name"}
    assert paths({"every_camera": {"zones": [zone]}, "cameras": {"gate": {"lines": [line], "zones": []}}}) == set()


def deep(levels: int) -> object:
    found: object = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize("monster", [
    deep(100_000), {"every_camera": deep(5000)}, {"cameras": {f"c{n}": {} for n in range(50_000)}},
    {"every_camera": {"fps": 10**400}}, {"every_camera": {"fps": float("nan")}}, {"every_camera": {"zones": [{}] * 30_000}},
    {"every_camera": {"blur": ["\ud800"]}}, {"every_camera": {"zones": [{"name": "a", "polygon": [deep(3000), 1, 2]}]}},
    {"cameras": {"\0": {}}}, {5: 6}, None, "all", [], 7,
], ids=lambda monster: repr(type(monster)))  # fmt: skip
def test_a_monster_is_refused_in_words(monster: object) -> None:
    """Ten thousand brackets, numbers of 400 digits, text that no database takes: refused, quickly, without falling over."""
    found = problems(monster, ["gate"], LABELS)
    assert 1 <= len(found) <= MAX_FAULTS + 1
    assert all(len(sentence) < 500 for sentence in found)


def test_ten_thousand_faults_are_counted_not_listed() -> None:
    found = problems({"every_camera": {f"k{n}": n for n in range(9000)}})
    assert len(found) == MAX_FAULTS + 1
    assert found[-1] == f"and {9000 - MAX_FAULTS} more faults"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["cameras", "gate", "zones", "polygon", "name", "classes", "from", "points", "pairs", "triggers", "x"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


def swapped(value: object, at: int, by: object) -> tuple[object, int]:
    """The value with its at-th node replaced, counted in depth-first order; and how many nodes there were."""
    if at == 0:
        return by, 1
    seen = 1
    if isinstance(value, dict):
        made: dict[object, object] = {}
        for key, inner in value.items():
            made[key], count = swapped(inner, at - seen, by)
            seen += count
        return made, seen
    if isinstance(value, list):
        listed = []
        for inner in value:
            done, count = swapped(inner, at - seen, by)
            listed.append(done)
            seen += count
        return listed, seen
    return value, seen


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_nothing_that_is_json_makes_the_judge_fall(value: object) -> None:
    found = faults(value, ["gate"], LABELS)
    if not found:
        assert isinstance(parse(value, ["gate"], LABELS), Configuration)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 110), JSON)
def test_one_damaged_place_in_a_good_configuration_is_found_or_harmless(at: int, damage: object) -> None:
    """Whatever stands at any place of a good configuration: it is refused, or it is a configuration."""
    value, _ = swapped(WHOLE, at, damage)
    found = faults(value, ["gate"], LABELS)
    if found:
        with pytest.raises(ConfigurationError):
            parse(value, ["gate"], LABELS)
    else:
        parse(value, ["gate"], LABELS)


LAYERS = st.fixed_dictionaries({}, optional={
    "every_camera": st.deferred(lambda: CAMERA),
    "cameras": st.dictionaries(st.sampled_from(["gate", "yard"]), st.deferred(lambda: CAMERA)),
    "log_level": st.sampled_from(["debug", "info"]), "shadow_duty": st.floats(0, 0.5),
    "local_output": st.dictionaries(st.sampled_from(["mqtt", "gpio"]), st.booleans()),
})  # fmt: skip
CAMERA = st.fixed_dictionaries({}, optional={
    "enabled": st.booleans(), "fps": st.integers(1, 30), "blur": st.lists(st.sampled_from(LABELS), max_size=2),
    "gate": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "sensitivity": st.floats(0, 1)}),
    "min_score": st.dictionaries(st.sampled_from(LABELS), st.floats(0, 1)),
    "zones": st.lists(st.sampled_from(["a", "b"]).map(lambda name: {"name": name, "polygon": SQUARE}), max_size=1),
    "triggers": st.dictionaries(
        st.sampled_from(["near_miss", "first_today"]), st.fixed_dictionaries({}, optional={"burst": st.booleans()})
    ),
})  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LAYERS, LAYERS, LAYERS)
def test_layers_can_be_laid_in_any_grouping_and_stay_valid(fleet: dict, group: dict, device: dict) -> None:
    """Fleet under group under device: which two are joined first must not matter, and the whole is as valid as its parts."""
    left = laid_over(laid_over(fleet, group), device)
    assert left == laid_over(fleet, laid_over(group, device))
    assert laid_over({}, left) == left == laid_over(left, left)
    assert problems(left, ["gate", "yard"], LABELS) == []
    parse(left)


def test_tables_are_joined_and_all_else_is_replaced() -> None:
    lower = {"every_camera": {"fps": 5, "gate": {"enabled": True}, "zones": [{"name": "a"}]}, "log_level": "info"}
    upper = {"every_camera": {"gate": {"sensitivity": 1}, "zones": []}}
    assert laid_over(lower, upper) == {
        "every_camera": {"fps": 5, "gate": {"enabled": True, "sensitivity": 1}, "zones": []}, "log_level": "info",
    }  # fmt: skip


def test_a_digest_is_of_the_meaning_not_of_the_order() -> None:
    assert digest_of(WHOLE) == digest_of(json.loads(json.dumps(dict(reversed(WHOLE.items())))))
    assert digest_of(WHOLE) != digest_of({**WHOLE, "log_level": "info"})
