"""A real agent under the real launcher updates itself, over the real wire, from a really signed release.

Here a release is one small wheel whose environment falls through to this checkout and its packages (``thin_agent``): only tests
do that. The whole set of real wheels is installed in the slow tier.
"""

from pathlib import Path

import pytest

from device_agent.launcher_disk import read_pointer
from tests.fakes.release_fleet import ReleaseFleet
from tests.fakes.wheels import make_wheel, publish_agent, thin_agent

pytestmark = pytest.mark.system
CRASHES = "os.write(2, b'this agent is broken\\n')\nos._exit(7)"
BLIND = """
import device_agent.vision.open_camera as module
from device_agent.errors import BoardError
def nothing(*given, **named):
    raise BoardError("this agent has forgotten how to open a camera")
module.open_camera = nothing
"""
DEAF = """
import device_agent.link.api_http as module
from device_agent.errors import ServerError
def nothing(*given, **named):
    raise ServerError("this agent has forgotten how to speak")
module.DeviceApi.state = nothing
"""


def unreadable(folder: Path) -> list[str]:
    """Files that an agent had to set aside because it could not read them."""
    return [path.name for path in folder.rglob("*") if path.name.endswith((".unreadable", ".torn"))]


def test_a_broken_agent_is_left_a_good_one_stays_and_a_tampered_one_is_left(launched, fleet: ReleaseFleet) -> None:
    """One board's week. An agent that crashes at its start: three starts, and the one before tells why. A good one: committed,
    and told in the board's facts. Then somebody changes a file of it on the card: at the next start the agent before runs again,
    tells it, and does not take the same release again by itself."""
    bad = publish_agent(fleet, "2", thin_agent("2", CRASHES), counter=2)
    launched.start()
    launched.assign(bad)
    ended = launched.wait_for_end(bad)
    assert (ended.state, ended.reason, ended.kind, ended.running) == ("rolled_back", "start", "agent", "")
    assert "started 3 times" in ended.detail
    assert "it ended with 7" in ended.detail
    states = [one.state for one in launched.reports(bad)]
    assert states == ["offered", "downloading", "verifying", "staging", "selftest", "trial", "rolled_back"]
    assert launched.agent_of_last_facts() == ""

    good = publish_agent(fleet, "3", thin_agent("3"), counter=3)
    launched.wait_for_frames()
    launched.assign(good)
    ended = launched.wait_for_end(good)
    assert (ended.state, ended.reason, ended.running) == ("committed", "", "rookery-agent@3"), launched.words()
    assert not ended.behaviour_unseen
    assert launched.agent_of_last_facts() == "rookery-agent@3"
    assert read_pointer(launched.data).current == good.sha256
    assert {path.name for path in (launched.data / "agents").iterdir()} == {good.sha256}
    assert unreadable(launched.data) == []

    launched.stop()
    changed = next((launched.data / "agents" / good.sha256).rglob("rookery_hand/__init__.py"))
    changed.write_text("import os\nos.system('mine coins')\n")
    launched.start()
    ended = launched.wait_for_end(good, 2)
    assert (ended.state, ended.reason, ended.running) == ("rolled_back", "hash", "")
    assert "rookery_hand/__init__.py is not what was installed" in ended.detail
    assert read_pointer(launched.data).current is None
    assert unreadable(launched.data) == []


def test_a_broken_wheel_and_wheels_of_another_python_are_refused(launched, fleet: ReleaseFleet) -> None:
    """Signed, and still no agent: a wheel that is no zip, one whose RECORD says something else, wheels for another Python, a
    model's release in the agent's place. Each is refused with its reason before anything is started, and the agent goes on."""
    no_zip = {"rookery-2-py3-none-any.whl": b"PK this is no zip"}
    wrong = dict([make_wheel("rookery", "3", {"device_agent/__init__.py": b"", "a.py": b"1"}, record={"a.py": b"2"})])
    other = {"rookery-4-cp399-cp399-any.whl": next(iter(thin_agent("4").values()))}
    _, model = fleet.publish("9", counter=9)
    stories = [
        (publish_agent(fleet, "2", no_zip, counter=2), "wheel", "rookery-2-py3-none-any.whl is no whole zip"),
        (publish_agent(fleet, "3", wrong, counter=3), "wheel", "a.py is not what RECORD says"),
        (publish_agent(fleet, "4", other, counter=4, abi="cp399"), "variant", "cp399"),
        (publish_agent(fleet, "5", other, counter=5, lock_abi="cp399"), "abi", "the wheels are for cp399"),
        (model, "mismatch", "model"),
    ]
    launched.start()
    for agent, reason, words in stories:
        launched.assign(agent)
        ended = launched.wait_for_end(agent)
        assert (ended.state, ended.reason, ended.kind) == ("refused", reason, "agent"), (ended, launched.words())
        assert words in ended.detail
    assert not list((launched.data / "agents").glob("[0-9a-f]*"))
    assert launched.agent_of_last_facts() == ""


def test_an_agent_that_sees_no_frames_ends_with_the_one_before(launched, fleet: ReleaseFleet) -> None:
    """It starts, reaches the server, and its camera gives nothing, though it did before: back, with the camera's name."""
    launched.limits(frames_s=3, link_s=120)
    blind = publish_agent(fleet, "2", thin_agent("2", BLIND), counter=2)
    launched.start()
    launched.wait_for_frames()
    launched.assign(blind)
    ended = launched.wait_for_end(blind)
    assert (ended.state, ended.reason) == ("rolled_back", "frames"), launched.words()
    assert "camera yard gave frames before" in ended.detail
    polls = launched.door.state.polls
    assert launched.door.wait(lambda: launched.door.state.polls > polls + 1, 60)
    assert read_pointer(launched.data).current is None
    assert launched.agent_of_last_facts() == ""
