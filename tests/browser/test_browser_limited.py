"""Somebody whose account is limited to one group, in a browser: told so on every page, and shown nothing of the others."""

import re
import time

import pytest
from playwright.sync_api import expect

from fleet_server.accounts import service as accounts
from tests.fakes.operator_site import PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet

pytestmark = pytest.mark.browser

YARD = re.compile("gate-north|gate-south|yard-east|yard-west")


def limited(site: OperatorSite, name: str, groups: list[str]) -> None:
    with site.context.database.write() as session:
        accounts.add_operator(
            session, name=name, password_hash=accounts.hash_password(PASSWORD), role="operator", now_s=time.time(), groups=groups
        )


def test_a_limited_persons_dashboard(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """The caretaker of the house signs in: his four boards, his alert, his numbers; the yard's boards, their paused rollout and
    their pictures are on none of his pages, its device page is not there, and the fleet's settings he can read alone."""
    site, fleet = seeded
    limited(site, "caretaker", ["house"])
    tab = new_tab(site)
    tab.sign_in("caretaker")
    for path in ("/", "/devices", "/releases", "/rollouts", "/detections", "/configuration", "/experiments", "/logs", "/alerts"):
        page = tab.open(path)
        expect(page.locator("#limit")).to_have_text("Your account is limited: you see the group house.")
        assert YARD.search(page.inner_text("body")) is None, path
        assert YARD.search(page.content()) is None, path
        assert tab.faults() == [], path
    page = tab.open("/devices")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("caption")).to_contain_text("4 shown")
    assert page.locator("select[name=group] option").all_inner_texts() == ["any", "house"]
    expect(tab.open("/detections").locator("main")).to_contain_text("Nothing here yet, from devices of the group house.")
    expect(tab.open("/alerts").locator("tbody")).to_contain_text("attic is silent")
    page = tab.open("/configuration/fleet")
    expect(page.get_by_text("can read it")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    tab.errors.clear()
    page = tab.open(f"/devices/{fleet.devices['gate-north']}")
    expect(page.get_by_role("alert")).to_contain_text("There is no device")
    page = tab.open("/audit")
    expect(page.get_by_role("alert")).to_contain_text("your account is limited to the group house")
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)


def test_an_empty_list_says_why(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A group that has no board yet: the list is empty because of the limit, and says so, instead of "make a claim"."""
    site, _ = seeded
    limited(site, "newcomer", ["cellar"])
    tab = new_tab(site)
    tab.sign_in("newcomer")
    text = tab.open("/devices").inner_text("main")
    assert "No device that you may see: your account is limited to the group cellar. An admin can change that." in text
