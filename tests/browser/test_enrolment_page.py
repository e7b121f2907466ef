"""Enrolment in a browser: boards that wait are compared and decided, claims and rules made, a device's identity changed."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.inventory import service as inventory
from ota.wire.enrolment import EnrolRequest, fingerprint
from tests.browser.test_every_page import BASICS
from tests.fakes.operator_site import PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet, _csr, facts

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)


def knock(site: OperatorSite, number: int, claim: str = "") -> enrolment.Outcome:
    context = site.context
    issuer = enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)
    request = EnrolRequest(claim=claim, csr_pem=_csr(), facts=facts(number))
    with context.database.write() as session:
        return enrolment.enrol(session, request, issuer, origin="192.0.2.7", now_s=context.clock())


def waiting(site: OperatorSite) -> dict[str, Any]:
    with site.context.database.read() as session:
        return {one.serial: one for one in enrolment.enrolments(session, state="pending")}


def test_boards_that_wait_are_compared_ticked_and_decided(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Three boards from an image without a claim, one with the serial of a device: two are accepted at once, one is refused."""
    site, _ = seeded
    for number in (50, 51, 0):
        assert knock(site, number).status == "pending"
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/enrolment")
    assert page.evaluate(BASICS) == []
    row = page.get_by_role("row", name=facts(50).serial)
    expect(row).to_contain_text(fingerprint(waiting(site)[facts(50).serial].key_sha256))
    expect(row).to_contain_text("no claim")
    expect(page.get_by_role("row", name=facts(0).serial)).to_contain_text("as gate-north")
    for number in (50, 51):
        page.get_by_role("row", name=facts(number).serial).get_by_role("checkbox").check()
    page.get_by_label("Group they join").fill("docks")
    page.get_by_role("button", name="Accept those ticked").click()
    expect(page.get_by_role("row", name=facts(50).serial)).to_have_count(0)
    assert set(waiting(site)) >= {facts(0).serial}
    page.get_by_role("row", name=facts(0).serial).get_by_role("checkbox").check()
    page.get_by_label("Why not").fill("not ours")
    page.get_by_role("button", name="Reject those ticked").click()
    expect(page.get_by_role("row", name=facts(0).serial)).to_have_count(0)
    page.get_by_text("Decided last").click()
    expect(page.locator("#decided")).to_contain_text("not ours")
    with site.context.database.read() as session:
        assert len(inventory.find(session, site.context.clock(), group="docks")) == 2
    page.get_by_role("button", name="Accept those ticked").click()
    expect(page.get_by_role("alert")).to_contain_text("No board was ticked")
    assert [fault for fault in tab.faults() if "400" not in fault] == []


def test_a_claim_is_shown_once_and_ended_and_a_rule_comes_and_goes(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    site, _ = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/enrolment")
    page.get_by_text("Make claims").click()
    page.get_by_label("Name of the device").fill("pier")
    page.get_by_role("button", name="Make them").click()
    token = page.locator("code.token").inner_text()
    assert re.fullmatch(r"rkc_[\w-]{32}", token)
    assert page.evaluate(BASICS) == []
    page.get_by_role("link", name="Back").click()
    row = page.get_by_role("row", name="pier")
    expect(row).to_contain_text("unused")
    assert token not in page.content()
    row.get_by_role("button", name="End claim").click()
    expect(page.get_by_role("row", name="pier")).to_contain_text("ended")
    page.get_by_text("Add a rule").click()
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("a rule needs a profile")
    page.get_by_text("Add a rule").click()
    page.get_by_label("Serial numbers like").fill("20000000*")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("row", name="20000000*")).to_contain_text("0 of 10")
    assert page.evaluate(BASICS) == []
    page.get_by_role("button", name="Remove rule").click()
    expect(page.get_by_text("No rules: every board")).to_be_visible()


def test_a_dead_board_is_replaced_and_another_goes_for_good(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """From the device's page: the new board takes the name and shows the old one's events; the end asks for the name."""
    site, fleet = seeded
    old = fleet.devices["gate-south"]
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/devices/{old}")
    page.get_by_role("link", name="Let in again, replace, decommission").click()
    assert page.evaluate(BASICS) == []
    page.get_by_label("Serial number of the new board").fill(facts(61).serial)
    page.get_by_role("button", name="replaces gate-south").click()
    expect(page.get_by_role("heading", name="Replace gate-south")).to_be_visible()
    new = knock(site, 61, page.locator("code.token").inner_text()).device_id
    page = tab.open("/devices/gate-south")
    expect(page.get_by_role("definition").filter(has_text="took the place of")).to_contain_text(old)
    assert page.locator("ul.cards > li").count() >= 1, "what the old board saw is the new one's history"
    page = tab.open(f"/devices/{old}")
    expect(page.get_by_text("Its place was taken by").first).to_be_visible()
    page = tab.open(f"/devices/{new}/identity")
    page.get_by_label("Type gate-south to confirm").fill("gate-north")
    page.get_by_role("button", name="Decommission gate-south").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    page.get_by_label("Type gate-south to confirm").fill("gate-south")
    page.get_by_role("button", name="Decommission gate-south").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("decommissioned")
    assert [fault for fault in tab.faults() if "400" not in fault] == []


def test_who_may_only_look_finds_no_button_and_reads_it_on_a_telephone(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    site, fleet = seeded
    site.add_operator("vera-e", role="viewer")
    knock(site, 70)
    tab = new_tab(site, width=390, scheme="dark")
    tab.sign_in("vera-e", PASSWORD)
    for path in ("/enrolment", f"/devices/{fleet.devices['office']}/identity"):
        page = tab.open(path)
        assert page.evaluate(BASICS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for verb in ("Accept", "Make them", "Add it", "End claim", "Decommission", "Replace"):
            assert page.get_by_role("button", name=verb).count() == 0, verb
    expect(page.get_by_text("There are three ways on")).to_be_visible()
    assert tab.faults() == []
