"""A fault is shown under the line that it is about, wherever that stands in what a person wrote; any text can be shown."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_server.configuration.layers import leaves
from fleet_server.dashboard.places import lines_of, marked

TEXT = """{
  "every_camera": {"fps": 5,
    "zones": [
      {"name": "a", "polygon": [[0, 0],
        [1, 2]]},
      {"name": "b \\"quoted\\", with [brackets]"}
    ]
  },
  "cameras": {"front gate": {"fps": "x"}}, "log_level":
    "loud"
}"""


def test_each_fault_stands_at_its_line_and_a_missing_key_at_its_table() -> None:
    expected = {
        "every_camera": 2, "every_camera.fps": 2, "every_camera.zones": 3, "every_camera.zones[0].polygon": 4,
        "every_camera.zones[0].polygon[1]": 5, "every_camera.zones[1].name": 6, 'cameras["front gate"].fps': 9, "log_level": 9,
    }  # fmt: skip
    places = lines_of(TEXT)
    assert {path: places[path] for path in expected} == expected
    faults = [{"path": "every_camera.zones[1].polygon", "problem": "is missing"}, {"path": "", "problem": "too large"}]
    shown = marked(TEXT, faults)
    assert [line.text for line in shown] == TEXT.split("\n")
    assert {line.number: line.faults for line in shown if line.faults} == {
        1: ("the whole: too large",), 6: ("every_camera.zones[1].polygon: is missing",)
    }  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60) | st.text('{}[]:,"ab\n\\', max_size=60))
def test_any_text_can_be_marked(text: str) -> None:
    shown = marked(text, [{"path": "a.b[3]", "problem": "wrong"}])
    assert sum(len(line.faults) for line in shown) == 1


TREES = st.recursive(
    st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=5), TREES, max_size=3), st.sampled_from([None, 1, 2]))
def test_every_value_of_any_table_has_a_line(tree: dict[str, object], indent: int | None) -> None:
    text = json.dumps(tree, indent=indent)
    places = lines_of(text)
    for path, value in leaves(tree):
        line = text.split("\n")[places[path] - 1]
        assert json.dumps(value) in line or value == {}
