"""*My account* and *People* in Chromium: a second factor set up and used, an invitation followed, all without scripts, too."""

import re

import pyotp
import pytest
from playwright.sync_api import expect

from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet

THIRTY_S = 30_000


@pytest.mark.parametrize(("scripts", "width", "scheme"), [(True, 1280, "light"), (False, 320, "dark")])
def test_a_person_is_invited_and_sets_up_a_second_factor(
    seeded: tuple[OperatorSite, SeededFleet], new_tab, scripts: bool, width: int, scheme: str
) -> None:
    """Ada invites Ben; he sets a password by the link, signs in, scans the picture, and from then on needs his telephone.
    On a wide screen, and on a telephone without scripts."""
    site, _ = seeded
    name = f"ben-{width}"
    ada = new_tab(site, width=width, scheme=scheme, scripts=scripts)
    ada.page.set_default_timeout(THIRTY_S)
    ada.sign_in()
    page = ada.open("/people")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Role").select_option("operator")
    page.get_by_role("button", name="Add").click()
    link = page.locator("#once").inner_text()
    assert link.startswith(site.url + "/welcome?token=")
    ben = new_tab(site, width=width, scheme=scheme, scripts=scripts)
    ben.page.set_default_timeout(THIRTY_S)
    page = ben.open(link.removeprefix(site.url))
    page.get_by_label("Password", exact=True).fill("words that are mine alone")
    page.get_by_label("Password once more").fill("words that are mine alone")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("status")).to_contain_text("Your password is set")
    assert page.get_by_label("Name").input_value() == name
    ben.sign_in(name, "words that are mine alone")
    page = ben.open("/account")
    page.get_by_role("button", name="Set up a second factor").click()
    page.get_by_role("button", name="Show the picture").click()
    picture = page.locator("p.qr svg")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] >= 150, "a telephone's camera must see the dots"
    assert box["x"] + box["width"] <= width
    telephone = pyotp.TOTP(page.locator("#secret").inner_text())
    page.get_by_label("The code that it shows now").fill("000000" if telephone.now() != "000000" else "000001")
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong or too old")
    page.get_by_label("The code that it shows now").fill(telephone.now())
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator("#codes li")).to_have_count(10)
    codes = page.locator("#codes li").all_inner_texts()
    page.get_by_role("button", name="I have them").click()
    expect(page.locator("dl.facts")).to_contain_text("10 recovery codes left")
    assert page.evaluate("document.documentElement.scrollWidth") <= width if scripts else True
    page.get_by_role("button", name=re.compile("^Sign out")).click()
    page.wait_for_url("**/login*")
    ben.sign_in(name, "words that are mine alone")
    expect(page.get_by_role("alert")).to_contain_text("Name, password or code is wrong")
    page.get_by_label("Password").fill("words that are mine alone")
    page.get_by_label("Code of your second factor").fill(codes[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator("h1")).to_have_text("Overview")
    if scripts:
        assert [fault for fault in ben.faults() if "401" not in fault and "403" not in fault] == []
    page = ada.open(f"/people/{name}")
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("dl.facts")).to_contain_text("disabled")
    assert "Sign in" in ben.open("/devices").inner_text("h1")


def test_a_token_is_shown_once_and_ended(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Ada makes a token for a program, sees it once, finds it in the list without its secret, and ends it."""
    site, _ = seeded
    tab = new_tab(site)
    tab.page.set_default_timeout(THIRTY_S)
    tab.sign_in()
    page = tab.open("/account")
    page.get_by_text("Make a token").click()
    page.get_by_label("Name").fill("backup of the office")
    page.get_by_role("button", name="Make the token").click()
    token = page.locator("#once").inner_text()
    assert token.startswith("rkt_")
    page.get_by_role("button", name="I have it").click()
    expect(page.get_by_role("region", name="Tokens")).to_contain_text("backup of the office")
    assert token not in page.content()
    page.get_by_role("button", name="End the token backup of the office").click()
    expect(page.get_by_role("status").first).to_contain_text("Ended")
    expect(page.get_by_role("region", name="Tokens")).not_to_contain_text("backup of the office")
    page.get_by_label("Your password").first.fill(PASSWORD)
    assert tab.faults() == []
    assert NAME in page.inner_text("main")
