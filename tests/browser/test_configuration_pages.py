"""The configuration in a browser: a person draws a zone wrongly, is shown where, sets it right, compares, and goes back."""

import pytest
from playwright.sync_api import expect

from fleet_server.configuration import service as configuration
from fleet_server.telemetry import service as telemetry
from ota.wire.configuration import digest_of
from ota.wire.heartbeat import ConfigurationHealth, Heartbeat
from tests.browser.test_every_page import BASICS
from tests.fakes.operator_site import PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)

WRONG = """{
  "every_camera": {
    "fps": 0,
    "zones": [
      {"name": "door", "polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}
    ]
  }
}"""
RIGHT = WRONG.replace("0,\n", "4,\n").replace("[1, 1], [1, 0], [0, 1]", "[1, 0], [1, 1], [0, 1]")


def test_faults_stand_under_their_lines_and_a_version_comes_back(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """By keyboard and form alone: the text survives a refusal, the second try is version 1, and going back makes version 3."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/configuration")
    page.get_by_role("link", name="the fleet").click()
    page.get_by_label("Settings as JSON").fill(WRONG)
    page.get_by_role("button", name="Save as version 1").click()
    expect(page.get_by_role("alert")).to_contain_text("2 faults")
    marked = page.locator("ol.source > li")
    expect(marked.nth(2)).to_contain_text("every_camera.fps: must be a number")
    expect(marked.nth(4)).to_contain_text("crosses or touches itself")
    expect(page.get_by_label("Settings as JSON")).to_have_value(WRONG)
    assert page.evaluate(BASICS) == []
    page.get_by_label("Settings as JSON").fill(RIGHT)
    page.get_by_label("Why").fill("a door was built in")
    page.get_by_role("button", name="Save as version 1").click()
    expect(page.get_by_role("heading", name="What this layer says: version 1")).to_be_visible()
    expect(page.get_by_role("img", name="every camera: zone door")).to_be_visible()
    page.get_by_label("Settings as JSON").fill(RIGHT.replace("4,\n", "6,\n"))
    page.get_by_role("button", name="Save as version 2").click()
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("region", name="Differences")).to_contain_text("every_camera.fps")
    page.get_by_role("button", name="Go back to version 1").click()
    expect(page.get_by_role("heading", name="version 3")).to_be_visible()
    expect(page.get_by_role("region", name="Versions")).to_contain_text("undo: as version 1")
    # A refusal is answered with 422, which a browser writes on its console.
    assert [fault for fault in tab.faults() if "422" not in fault] == []
    _a_device_shows_origins_and_its_own_word(site, fleet, tab)


def _a_device_shows_origins_and_its_own_word(site: OperatorSite, fleet: SeededFleet, tab) -> None:
    device = fleet.devices["gate-north"]
    with site.context.database.read() as session:
        told = configuration.effective(session, device)
    said = ConfigurationHealth(digest=digest_of(told), state="rolled_back", reason="camera gate: no answer")
    beat = Heartbeat(sequence=9000, boot_id="c", at_s=1, uptime_s=1, window_s=1, state="idle", configuration=said)
    with site.context.database.write() as session:
        telemetry.store_heartbeats(session, [(device, beat, site.context.clock())])
    page = tab.open(f"/devices/{device}")
    expect(page.get_by_text("camera gate: no answer")).to_be_visible()
    page.get_by_role("link", name="What it is told, and why").click()
    row = page.get_by_role("row", name="every_camera.fps")
    expect(row).to_contain_text("4")
    expect(row.get_by_role("link", name="fleet")).to_be_visible()
    expect(page.get_by_role("definition").first).to_contain_text("rolled back")
    assert page.evaluate(BASICS) == []


def test_the_pages_can_be_read_on_a_telephone_and_in_the_dark(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """No sideways scrolling, enough contrast; who may only look finds no button."""
    site, fleet = seeded
    site.add_operator("vera-c", role="viewer")
    tab = new_tab(site, width=390, scheme="dark")
    tab.sign_in("vera-c", PASSWORD)
    for path in ("/configuration", "/configuration/fleet", f"/configuration/device:{fleet.devices['office']}"):
        page = tab.open(path)
        assert page.evaluate(BASICS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.get_by_role("button", name="Save").count() == 0
    assert tab.faults() == []


def test_a_zone_is_drawn_with_clicks_and_saved(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Four clicks, one of them wrong and taken back; the zone lands in the settings where it was drawn, and is stored."""
    site, _ = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/configuration/group:docks")
    page.get_by_text("Draw a zone").click()
    board = page.get_by_role("img", name="each click is a corner")
    size = board.bounding_box()
    assert size is not None
    for x, y in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.1, 0.9)):
        board.click(position={"x": size["width"] * x, "y": size["height"] * y})
    page.get_by_role("button", name="Take back a corner").click()
    page.get_by_label("Name of the zone").fill("ramp")
    page.get_by_role("button", name="Put it into the settings").click()
    expect(page.get_by_role("status")).to_contain_text("ramp stands in the settings")
    page.get_by_role("button", name="Save as version 1").click()
    expect(page.get_by_role("img", name="every camera: zone ramp")).to_be_visible()
    with site.context.database.read() as session:
        zone = configuration.get(session, "group:docks").content["every_camera"]["zones"][0]
    assert zone["name"] == "ramp"
    for (x, y), (wanted_x, wanted_y) in zip(zone["polygon"], ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75)), strict=True):
        assert abs(x - wanted_x) < 0.02
        assert abs(y - wanted_y) < 0.02
    assert tab.faults() == []
    page.get_by_text("Draw a zone").click()
    assert page.evaluate(BASICS) == []
