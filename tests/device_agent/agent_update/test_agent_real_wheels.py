"""The slow tier of the agent's own update: the whole set of real wheels, and what needs patience."""

import subprocess

import pytest

from device_agent.launcher_disk import read_pointer, slot_fault
from tests.fakes.installed_wheels import device_distributions, installed_wheel, own_wheel
from tests.fakes.release_fleet import ReleaseFleet
from tests.fakes.wheels import publish_agent, thin_agent

pytestmark = [pytest.mark.system, pytest.mark.slow]
DEAF = """
import device_agent.link.api_http as module
from device_agent.errors import ServerError
def nothing(*given, **named):
    raise ServerError("this agent has forgotten how to ask")
module.DeviceApi.state = nothing
"""
SILENT = """
import time
time.sleep(3600)
"""


def test_a_whole_locked_set_of_real_wheels_becomes_the_agent(launched, fleet: ReleaseFleet) -> None:
    """numpy, OpenCV, the runtime, TUF and all the rest, as wheels, with our own of another version: unpacked by our rules into an
    environment that sees nothing of this checkout, proved, switched to, committed; then it is what runs."""
    wheels = dict([own_wheel("0.9"), *(installed_wheel(name) for name in device_distributions())])
    assert {name.partition("-")[0] for name in wheels} >= {"numpy", "msgspec", "tuf", "rookery", "paho_mqtt"}
    agent = publish_agent(fleet, "0.9", wheels, counter=2)
    launched.start()
    launched.assign(agent)
    ended = launched.wait_for_end(agent)
    assert (ended.state, ended.running) == ("committed", "rookery-agent@0.9"), launched.words()
    slot = launched.data / "agents" / agent.sha256
    assert slot_fault(slot) == ""
    code = "import device_agent, numpy, cv2; print(device_agent.__file__, numpy.__file__, cv2.__file__)"
    asked = [str(slot / "bin" / "python"), "-I", "-B", "-c", code]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert all(path.startswith(str(slot)) for path in found)
    facts = [batch.facts for batch in launched.door.state.report_batches if batch.facts is not None][-1]
    assert (facts.agent_version, facts.agent_release) == ("0.9", "rookery-agent@0.9")


def test_an_agent_that_cannot_reach_the_server_ends_with_the_one_before(launched, fleet: ReleaseFleet) -> None:
    """It starts, sees, and never hears an answer. That is no failure at once; when its time for it is over, the one before runs
    again, reaches the server, and brings the report along."""
    launched.limits(frames_s=120, link_s=6)
    deaf = publish_agent(fleet, "2", thin_agent("2", DEAF), counter=2)
    launched.start()
    launched.assign(deaf)
    ended = launched.wait_for_end(deaf)
    assert (ended.state, ended.reason) == ("rolled_back", "link"), launched.words()
    assert read_pointer(launched.data).current is None


def test_an_agent_that_hangs_at_its_start_is_killed_and_left(launched, fleet: ReleaseFleet) -> None:
    """Three starts, each killed when it has said nothing in its time."""
    launched.config.write_text(launched.config.read_text().replace("[trial]", "[trial]\nagent_alive_s = 4"))
    silent = publish_agent(fleet, "2", thin_agent("2", SILENT), counter=2)
    launched.start()
    launched.assign(silent)
    ended = launched.wait_for_end(silent)
    assert (ended.state, ended.reason) == ("rolled_back", "alive"), launched.words()
    assert "started 3 times" in ended.detail
