"""The page of the audit: with and without scripts, narrow and wide, in both themes; its filters, its check, its export."""

import json
import re
import time

import pytest
from sqlalchemy import text

from fleet_server.audit import service
from tests.browser.test_every_page import BASICS
from tests.fakes.operator_site import NAME, OperatorSite
from tests.fakes.seeded_fleet import SeededFleet

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def audited(seeded: tuple[OperatorSite, SeededFleet]) -> tuple[OperatorSite, SeededFleet]:
    """Deeds of many kinds, one with a long change and one with somebody's script in it."""
    site, fleet = seeded
    with site.context.database.write() as session:
        wide = {"content": {f"setting_{number}": number for number in range(12)}}
        service.record(session, who="carol", what="configuration.put", target="fleet", now_s=time.time(), before={}, after=wide,
                       origin="10.0.0.7")  # fmt: skip
        service.record(
            session, who="carol", what="rollout.pause", target=fleet.paused_rollout, now_s=time.time(), origin="10.0.0.7",
            before={"state": "running", "reason": HOSTILE}, after={"state": "paused", "reason": HOSTILE},
        )  # fmt: skip
    return site, fleet


@pytest.mark.parametrize(("scheme", "width", "scripts"), [("light", 1280, True), ("dark", 320, False)])
def test_the_page_says_who_did_what_and_what_changed(
    audited: tuple[OperatorSite, SeededFleet], new_tab, scheme: str, width: int, scripts: bool
) -> None:
    """Found by person, kind, time; running → paused stands there as a difference; nothing scrolls sideways, nothing is faint."""
    site, fleet = audited
    tab = new_tab(site, scheme=scheme, width=width, scripts=scripts)
    tab.sign_in()
    page = tab.open("/audit?who=carol&what=rollout")
    row = page.locator("ol.deeds > li").first
    said = row.inner_text()
    assert "rollout.pause" in said
    assert fleet.paused_rollout in said
    assert (row.locator("del").first.inner_text(), row.locator("ins").first.inner_text()) == ('"running"', '"paused"')
    assert "reason" not in said, "what did not change is no difference"
    page = tab.open("/audit?what=configuration.put&who=carol")
    page.get_by_text("12 values").first.click()
    assert page.get_by_text("content.setting_7").first.is_visible()
    page.get_by_label("To what").fill("fleet")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url(re.compile("[?&]target=fleet"))  # a click is over before the form's page has come
    assert page.locator("ol.deeds > li").count() >= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BASICS) == []
    assert tab.errors == []
    tab.open("/audit?since=2999-01-01T00:00")
    assert "Nothing here with this filter" in page.inner_text("main")
    tab.open("/audit?until=yesterday")
    assert "is no date and time" in page.inner_text("main")


def test_the_chain_is_checked_and_exported_from_the_page(audited: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    site, _ = audited
    tab = new_tab(site)
    tab.sign_in()
    page = tab.open("/audit")
    with page.expect_download() as begun:
        page.get_by_role("link", name=re.compile("Export")).click()
    lines = begun.value.path().read_text().splitlines()
    assert "end" in json.loads(lines[-1])
    page.get_by_role("link", name="Check the whole chain now").click()
    page.get_by_text(re.compile(r"all \d+ rows follow each other")).wait_for()
    with site.context.database.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER audit_update"))
        connection.execute(text("UPDATE audit SET who = 'eve' WHERE id = 2"))
    page = tab.open("/audit?check=1")
    assert "row 2 does not fit its hash" in page.inner_text("main")
    with site.context.database.engine.begin() as connection:
        old = json.loads(lines[1])["row"]["who"]
        connection.execute(text("UPDATE audit SET who = :who WHERE id = 2"), {"who": old})


def test_a_page_of_pictures_leaves_a_row_for_each_and_one_for_ten_minutes(
    audited: tuple[OperatorSite, SeededFleet], new_tab
) -> None:
    """Somebody scrolls through the detections, then does it again: each picture that was asked for stands in the audit once."""
    site, _ = audited

    def looks() -> list[str]:
        with site.context.database.read() as session:
            return sorted(one.target for one in service.entries(session, service.Wanted(who=NAME, what="crop.look")))

    tab = new_tab(site)
    tab.sign_in()
    for _ in range(2):
        page = tab.open("/detections")
        page.wait_for_selector("html[data-live]")
        for picture in page.locator("main img").all():
            picture.scroll_into_view_if_needed()
            picture.evaluate("one => one.decode()")
    shown = page.eval_on_selector_all("main img", "all => all.map((one) => new URL(one.src).pathname)")
    assert looks() == sorted({one.removeprefix("/api/v1/crops/") for one in shown})
    assert len(shown) >= 4
