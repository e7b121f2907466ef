"""Every page, in both themes and two widths: no breach of the content security policy, no failure, and all can be read."""

import pytest

from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import HASH_DETAIL, SeededFleet

pytestmark = pytest.mark.browser

# What axe would look at first: names of controls, tables, pictures, unique ids, headings, and contrast of every text.
BASICS = """() => {
  const faults = [];
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids.filter((one, index) => ids.indexOf(one) !== index))) faults.push("id twice: " + id);
  for (const one of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!one.labels.length && !one.ariaLabel) faults.push("no label: " + one.name);
  for (const one of document.querySelectorAll("table")) {
    if (!one.caption) faults.push("table without caption");
    for (const cell of one.querySelectorAll("th")) if (!cell.scope) faults.push("th without scope: " + cell.textContent);
  }
  for (const one of document.querySelectorAll("img")) if (!one.alt) faults.push("img without alt");
  for (const one of document.querySelectorAll("a, button"))
    if (!one.textContent.trim() && !one.ariaLabel && !one.querySelector("img[alt]")) faults.push("nameless " + one.outerHTML);
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.querySelector("[style]:not([data-series] *)")) faults.push("style attribute");
  if (!document.documentElement.lang) faults.push("no lang");
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > .99) return found;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [19, 23, 31] : [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const on = text.parentElement;
    if (!text.data.trim() || !on.checkVisibility({ visibilityProperty: true }) || on.matches("option, script")) continue;
    const [a, b] = [light(numbers(getComputedStyle(on).color)), light(ground(on))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${text.data.trim().slice(0, 40)}`);
  }
  return faults;
}"""


STILL = ("/account", "/account/second-factor", "/people", "/people/ada")
"""Pages that do not refresh themselves: nobody wants a form changed under the fingers."""


def paths(fleet: SeededFleet) -> list[str]:
    devices = [f"/devices/{fleet.devices[name]}" for name in ("gate-north", "office", "attic")]
    return [
        "/", "/devices", "/devices?state=offline&q=at", *devices, "/releases", "/rollouts", f"/rollouts/{fleet.paused_rollout}",
        "/detections", "/detections?verdict=disagree", "/detections?device=nobody", f"/detections/{fleet.event}", "/logs",
        "/logs?device=gate-north&level=debug", "/experiments", "/alerts",
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_breaks_a_rule(seeded: tuple[OperatorSite, SeededFleet], new_tab, scheme: str, width: int) -> None:
    """No CSP violation, no console error, no foreign request, no unlabelled control, no faint text, no sideways scrolling."""
    site, fleet = seeded
    tab = new_tab(site, scheme=scheme, width=width)
    faults: dict[str, list[str]] = {}
    for path in ("/login", "/setup", "/setup?token=abc", "/welcome", "/welcome?token=abc"):
        page = tab.open(path)
        faults[path] = tab.faults() + page.evaluate(BASICS)
    tab.sign_in()
    for path in [*paths(fleet), *STILL]:
        page = tab.open(path)
        if path not in STILL:
            page.wait_for_selector("html[data-live]")
        faults[path] = tab.faults() + page.evaluate(BASICS)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            faults[path].append("scrolls sideways")
        tab.errors.clear()
    assert {path: found for path, found in faults.items() if found} == {}


def test_the_chosen_theme_wins_over_the_systems(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """system -> light -> dark, kept over pages; the server renders it, so nothing flashes."""
    tab = new_tab(seeded[0], scheme="dark")
    tab.sign_in()
    page = tab.open("/devices?q=gate")
    for wanted in ("light", "dark"):
        page.get_by_role("button", name="Theme:").click()
        page.wait_for_selector(f"html[data-theme={wanted}]")
        assert page.url.endswith("/devices?q=gate")
    tab.open("/alerts")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert tab.faults() == []


def test_refusals_say_why(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A flipped byte is named on the rollout's and on the device's page: code, meaning and the device's own words."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/rollouts/{fleet.paused_rollout}")
    row = page.locator("tr", has_text="refused(hash)")
    assert "a file is not what the signed manifest says" in row.inner_text()
    assert HASH_DETAIL in row.inner_text()
    row.get_by_role("link").click()
    page.wait_for_selector("h2:has-text('What it runs')")
    assert page.get_by_text("refused(hash)").count() >= 2
    assert page.get_by_text(HASH_DETAIL).count() >= 2
    assert page.locator("tr", has_text="refused(hash)").count() == 1


def test_no_broker_has_its_price_on_the_page(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    tab = new_tab(seeded[0])
    tab.sign_in()
    text = tab.open("/").inner_text("main")
    assert "no broker" in text
    assert "What this costs: a device hears of a new rollout or debug session at its next poll, up to 30 min later" in text


def test_a_devices_words_are_text_and_never_script(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A device that was broken into logs a script; the page shows it as letters."""
    tab = new_tab(seeded[0])
    tab.sign_in()
    page = tab.open("/logs?device=gate-north")
    assert "<script>alert(1)</script>" in page.inner_text("pre")
    assert tab.faults() == []


def test_the_judge_of_pages_can_say_no(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """A page with faint text, a nameless field and an inline style is found at fault: the checks above are not blind."""
    tab = new_tab(seeded[0])
    page = tab.open("/login")
    page.evaluate("""() => {
        document.querySelector("h1").style.color = "#999";
        document.querySelector("main").append(document.createElement("input"), document.createElement("table"));
        document.querySelector("main").lastChild.setAttribute("style", "color: red");
    }""")
    faults = " ".join(page.evaluate(BASICS))
    for fault in ("contrast 2", "no label", "table without caption", "style attribute"):
        assert fault in faults
    assert any("style-src" in each for each in tab.faults())


def test_a_camera_that_does_not_see_says_so_on_its_devices_page(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """The board answers, its temperature is fine, and a coat hangs over the lens: state and lost frames stand there by name."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open(f"/devices/{fleet.devices['office']}")
    row = page.locator("section[aria-labelledby=eyes] tbody tr").first.inner_text()
    assert "covered" in row
    assert "1 hung, 3 late" in row
    assert "door in: 12 person" in row
