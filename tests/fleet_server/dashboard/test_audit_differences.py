"""What a deed changed, as the page of the audit shows it."""

from fleet_server.dashboard.differing import Difference, differences


def test_only_what_differs_is_shown_and_instants_are_dates() -> None:
    before = {"state": "running", "same": 1, "until_s": 1_790_000_000.5, "deep": {"a": [1], "gone": None}}
    after = {"state": "paused", "same": 1, "until_s": 30, "deep": {"a": [1, 2]}, "new": {}}
    assert differences(before, after) == [
        Difference("deep.a", "changed", "[1]", "[1, 2]"),
        Difference("deep.gone", "removed", "null", ""),
        Difference("new", "added", "", "{}"),
        Difference("state", "changed", '"running"', '"paused"'),
        Difference("until_s", "changed", "2026-09-21 14:13:20 UTC", "30"),
    ]
    assert differences(None, None) == []
    assert differences(None, {"who": "zoë"}) == [Difference("who", "added", "", '"zoë"')]
