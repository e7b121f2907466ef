"""What changes on a page without reload; signing in, setting up, and doing it all by keyboard or without JavaScript."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from fleet_server.inventory import service as inventory
from fleet_server.rollouts import service as rollouts
from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet, enrol

pytestmark = pytest.mark.browser


def wait_live(page: Page) -> None:
    page.wait_for_selector("html[data-live]")


def test_a_new_device_appears_by_itself_and_focus_stays(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A board enrols while a person stands on a link of the list: the row comes, the focus stays, the page never reloads."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/devices")
    wait_live(page)
    page.evaluate("window.same = true")
    link = page.get_by_role("link", name="gate-north", exact=True)
    link.focus()
    with site.context.database.write() as session:
        fleet.devices["hall"] = enrol(site.context, session, "hall", 11, time.time())
    page.get_by_role("link", name="hall", exact=True).wait_for()
    assert page.evaluate("window.same") is True
    assert page.evaluate("document.activeElement.textContent") == "gate-north"
    assert tab.faults() == []


def test_open_details_and_charts_survive_an_update(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A device is held back while somebody reads its rules: the warning comes, the rules stay open, the charts stay drawn."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/devices/{fleet.devices['gate-south']}")
    wait_live(page)
    page.get_by_text("The rules, one by one").click()
    page.get_by_text("As a table").first.click()
    with site.context.database.write() as session:
        inventory.record_held(session, fleet.devices["gate-south"], "boot b-1 came back after another one")
    page.get_by_text("boot b-1 came back").first.wait_for()
    assert page.locator("#rules").get_attribute("open") is not None
    assert page.locator("details[open]").count() == 2
    expect(page.locator("[data-series] canvas")).to_have_count(4)
    assert tab.faults() == []


def test_a_rollout_goes_on_under_the_readers_eyes(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Resumed on the page, aborted by somebody else: the state follows without reload. Paused updates wait until resumed."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/rollouts/{fleet.paused_rollout}")
    page.get_by_role("button", name="Resume the rollout").click()
    expect(page.locator("h1")).to_contain_text("running")
    wait_live(page)
    page.get_by_role("button", name="Pause live updates").click()
    with site.context.database.write() as session:
        rollouts.abort(session, fleet.paused_rollout, who="bob", now_s=time.time())
    heard = site.context.database
    with heard.read() as session:
        assert rollouts.rollout(session, fleet.paused_rollout).state == "aborted"
    # A second tab proves that the news went round; only then does "nothing changed here" mean anything.
    other = new_tab(site)
    other.sign_in()
    assert "aborted" in other.open(f"/rollouts/{fleet.paused_rollout}").inner_text("h1")
    page.wait_for_timeout(2500)  # the stream looks once a second: this is how long news takes at most
    assert "running" in page.inner_text("h1")
    page.get_by_role("button", name="Resume live updates").click()
    expect(page.locator("h1")).to_contain_text("aborted")
    assert tab.faults() == []


def test_typing_is_not_disturbed(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """While somebody writes why they debug, the page waits; when they leave the field, it catches up."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/devices/{fleet.devices['dock-1']}")
    wait_live(page)
    field = page.get_by_label("Why (stands in the audit)")
    field.press_sequentially("INC-4")
    with site.context.database.write() as session:
        inventory.record_held(session, fleet.devices["dock-1"], "watched for a test")
    page.wait_for_timeout(2500)  # as above: the news is here, and held back
    assert page.get_by_text("watched for a test").count() == 0
    assert field.input_value() == "INC-4"
    field.blur()
    page.get_by_text("watched for a test").first.wait_for()


def test_the_setup_link_works_once(empty_site: OperatorSite, new_tab) -> None:
    """The first admin sets a password by the printed link and is in; the link is dead from then on, for everybody."""
    token = empty_site.setup_token()
    tab = new_tab(empty_site)
    assert "Nobody can sign in yet" in tab.open("/").inner_text("main")
    page = tab.open(f"/setup?token={token}")
    page.get_by_label("Password", exact=True).fill("a long enough one")
    page.get_by_label("Password once more").fill("a long enough two")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("alert")).to_have_text("The two passwords differ.")
    page.get_by_label("Password", exact=True).fill("a long enough one")
    page.get_by_label("Password once more").fill("a long enough one")
    page.get_by_role("button", name="Set the password").click()
    expect(page.locator("h1")).to_have_text("Overview")
    thief = new_tab(empty_site)
    assert "the first administrator exists" in thief.open(f"/setup?token={token}").inner_text("main")
    assert tab.faults()[1:] == []  # the first is Chromium's own word about the 400 of the two passwords


def test_a_wrong_password_says_so_plainly(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    tab = new_tab(seeded[0])
    tab.sign_in(password="wrong")
    expect(tab.page.get_by_role("alert")).to_contain_text("Name, password or code is wrong.")
    assert tab.page.get_by_label("Name").input_value() == NAME
    assert tab.page.get_by_label("Password").input_value() == ""


def test_the_way_in_leads_where_one_wanted_to_go(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A shared link survives the sign-in; one that leads to another site does not."""
    site, _ = seeded
    tab = new_tab(site)
    page = tab.open("/devices?q=gate&state=online")
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/devices\?q=gate&state=online$"))
    page.get_by_role("button", name="Sign out").click()
    tab.open("/login?next=//evil.example/")
    assert page.locator("#live input[name=next]").input_value() == "/"


def test_by_keyboard_alone(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Skip link first, then every main action can be reached and is visible when it has the focus."""
    site, _ = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim()"))
        assert page.evaluate("document.activeElement === document.body || document.activeElement.checkVisibility()")
    for name in ("Devices", "Alerts", "Sign out ada", "Pause live updates", "Acknowledge device silent", "Accept 100000000009"):
        assert name in seen
    page.get_by_role("button", name="Accept").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Accept")).to_have_count(0)
    assert tab.faults() == []


def test_all_of_it_works_without_javascript(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Reading, filtering, acknowledging and a debug session are plain links and forms."""
    site, fleet = seeded
    tab = new_tab(site, scripts=False)
    tab.sign_in()
    page = tab.page
    expect(page.locator("h1")).to_have_text("Overview")
    page.get_by_role("button", name="Acknowledge rollout paused").click()
    expect(page.locator("h1")).to_have_text("Alerts")
    expect(page.locator("td", has_text="ada")).to_have_count(1)
    tab.open(f"/devices/{fleet.devices['dock-2']}")
    page.get_by_label("Why (stands in the audit)").fill("INC-7")
    page.get_by_role("button", name="Begin a debug session").click()
    expect(page.locator("h1")).to_contain_text("Logs of dock-2")
    assert "INC-7" in page.inner_text("main")


def test_nine_tabs_do_not_lock_the_operator_out(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A browser gives one server six connections. With a stream per tab the seventh tab would never load; all stay fresh."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    pages = [tab.page.context.new_page() for _ in range(9)]
    for page in pages:
        page.goto(f"{site.url}/devices", timeout=15_000)
    for page in pages:
        wait_live(page)
    with site.context.database.write() as session:
        fleet.devices["porch"] = enrol(site.context, session, "porch", 12, time.time())
    for page in pages:
        page.get_by_role("link", name="porch", exact=True).wait_for()
    pages.pop(0).close()
    tab.page.close()  # whoever listened is gone: another tab takes over
    with site.context.database.write() as session:
        fleet.devices["shed"] = enrol(site.context, session, "shed", 13, time.time())
    for page in pages:
        page.get_by_role("link", name="shed", exact=True).wait_for()


def test_plain_http_from_another_machine_is_live_too(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Without TLS a browser offers no locks between tabs: each then listens for itself, as long as somebody looks at it."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.page.add_init_script("delete Navigator.prototype.locks;")
    tab.sign_in()
    page = tab.open("/devices")
    wait_live(page)
    with site.context.database.write() as session:
        fleet.devices["roof"] = enrol(site.context, session, "roof", 14, time.time())
    page.get_by_role("link", name="roof", exact=True).wait_for()
    assert tab.faults() == []


def test_a_silent_server_is_said_and_the_page_stays(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """The server goes away: what was there stays readable, and the page says that it may be old; then it catches up."""
    site, _ = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/devices")
    wait_live(page)
    page.route("**/devices", lambda route: route.abort())
    for name in ("Pause live updates", "Resume live updates"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("#fresh")).to_have_text("the server does not answer; this may be old")
    assert page.get_by_role("link", name="gate-north", exact=True).is_visible()
    page.unroute("**/devices")
    page.route("**/devices", lambda route: route.fulfill(status=503, body="{}", content_type="application/problem+json"))
    for name in ("Pause live updates", "Resume live updates"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("#fresh")).to_have_text("the server answered 503; this may be old")
    assert page.get_by_role("link", name="gate-north", exact=True).is_visible()
    page.unroute("**/devices")
    for name in ("Pause live updates", "Resume live updates"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("#fresh")).to_contain_text("as of")


def test_signed_out_elsewhere_means_the_sign_in_page(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """The session ends in another tab: this one shows the sign-in, whole, and leads back here afterwards."""
    site, _ = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/devices?q=gate")
    wait_live(page)
    other = page.context.new_page()
    other.goto(site.url)
    other.get_by_role("button", name="Sign out").click()
    expect(other.locator("h1")).to_have_text("Sign in")
    for name in ("Pause live updates", "Resume live updates"):
        page.get_by_role("button", name=name).click()
    expect(page).to_have_url(re.compile(r"/login\?next="))
    tab.page.get_by_label("Name").fill(NAME)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/devices\?q=gate$"))
