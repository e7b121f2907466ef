"""Who may see and do what on the pages; pages of an empty server; problems said to people and to programs."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_server.rollouts import reports
from fleet_server.rollouts import service as rollouts
from ota.wire.deployments import DeploymentReport, ReportBatch
from tests.fakes.operator_site import PASSWORD, OperatorSite, operator_site
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet

PAGES = ("/", "/devices", "/releases", "/rollouts", "/detections", "/logs", "/experiments", "/alerts")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorSite]:
    with operator_site(tmp_path_factory.mktemp("pages") / "data") as made:
        made.add_operator("ada")
        made.add_operator("vera", role="viewer")
        yield made


@pytest.fixture(scope="module")
def fleet(site: OperatorSite) -> SeededFleet:
    return seed_fleet(site.context)


def browser(site: OperatorSite) -> httpx.Client:
    return httpx.Client(base_url=site.url, follow_redirects=True, headers={"Accept": "text/html,*/*;q=0.8"})


def token_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def sign_in(site: OperatorSite, name: str) -> httpx.Client:
    client = browser(site)
    token = token_of(client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": token, "name": name, "password": PASSWORD, "next": "/"})
    assert "Overview" in answer.text
    return client


def test_a_stranger_sees_the_sign_in_and_nothing_else(site: OperatorSite, fleet: SeededFleet) -> None:
    client = browser(site)
    for path in (*PAGES, f"/devices/{fleet.devices['attic']}", f"/rollouts/{fleet.paused_rollout}", "/detections/ev0"):
        answer = client.get(path)
        assert answer.url.path == "/login"
        assert "attic" not in answer.text


def test_a_viewer_sees_no_button_that_would_refuse_him_and_cannot_press_it_all_the_same(
    site: OperatorSite, fleet: SeededFleet
) -> None:
    client = sign_in(site, "vera")
    page = client.get(f"/rollouts/{fleet.paused_rollout}").text
    assert "Resume" not in page
    for path in ("/", "/alerts", f"/devices/{fleet.devices['office']}"):
        assert re.findall(r'action="(?!/theme|/logout)', client.get(path).text) == []
    answer = client.post(f"/rollouts/{fleet.paused_rollout}/abort", data={"csrf_token": token_of(page)})
    assert (answer.status_code, "Traceback" in answer.text) == (403, False)
    assert "paused" in client.get(f"/rollouts/{fleet.paused_rollout}").text


def test_a_form_from_elsewhere_is_refused(site: OperatorSite, fleet: SeededFleet) -> None:
    """No token, a wrong token, another site's header: the rollout stays as it is."""
    client = sign_in(site, "ada")
    token = token_of(client.get("/").text)
    path = f"/rollouts/{fleet.paused_rollout}/abort"
    assert client.post(path).status_code == 400
    assert client.post(path, data={"csrf_token": token[:-4] + "AAAA"}).status_code == 400
    assert client.post(path, data={"csrf_token": token}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert "paused" in client.get(f"/rollouts/{fleet.paused_rollout}").text


def test_problems_are_pages_for_people_and_documents_for_programs(site: OperatorSite, fleet: SeededFleet) -> None:
    client = sign_in(site, "ada")
    token = token_of(client.get("/").text)
    page = client.get("/devices/nobody")
    assert (page.status_code, "There is no device" in page.text) == (404, True)
    assert client.get("/nowhere").headers["content-type"].startswith("text/html")
    assert client.get("/api/v1/devices/nobody").headers["content-type"] == "application/problem+json"
    assert client.get("/nowhere", headers={"Accept": "application/json"}).headers["content-type"] == "application/problem+json"
    path = f"/devices/{fleet.devices['attic']}/debug"
    answer = client.post(path, data={"csrf_token": token, "duration_s": "60", "reason": " "})
    assert (answer.status_code, "Say why" in answer.text) == (400, True)
    answer = client.post(path, data={"csrf_token": token, "duration_s": "nan", "reason": "x"})
    assert answer.status_code == 400
    assert client.post(f"/rollouts/{fleet.paused_rollout}/explode", data={"csrf_token": token}).status_code == 404
    assert client.post("/enrolments/none/explode", data={"csrf_token": token}).status_code == 404
    assert client.post("/enrolments/none/accept", data={"csrf_token": token}).status_code == 404


def test_strange_addresses_break_no_page(site: OperatorSite, fleet: SeededFleet) -> None:
    client = sign_in(site, "ada")
    for path in (
        "/devices?state=flying", "/devices?q=%25%00%5C&cursor=zzz", "/detections?cursor=x", "/detections?cursor=WzEsMiwzXQ",
        "/detections?device=%00", "/detections?verdict=maybe", "/logs?device=gate-north&level=loud", "/detections/%00",
        "/devices?q=" + "a" * 3000, "/setup?token=" + "a" * 3000, "/static/../views.py", "/static/%2e%2e/views.py",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code < 500, path
        assert "Traceback" not in answer.text
        assert "def home" not in answer.text


def test_an_empty_server_has_pages_that_say_what_to_do(tmp_path: Path) -> None:
    """The first minutes: no device, no release, no root of trust; every page stands and names the next command."""
    with operator_site(tmp_path / "data") as site:
        site.add_operator("ada")
        client = sign_in(site, "ada")
        text = " ".join(client.get(path).text for path in PAGES)
    for command in ("rookery claim create", "rookery root create", "rookery bundle build", "rookery rollout create"):
        assert command in text


def test_the_policy_is_strict_on_every_answer(site: OperatorSite) -> None:
    client = sign_in(site, "ada")
    for path in (*PAGES, "/login", "/nowhere", "/static/live.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_a_commit_that_nobody_saw_at_work_is_marked_on_the_pages(site: OperatorSite, fleet: SeededFleet) -> None:
    """The trial ended in an empty yard: both pages say that nobody saw how the release behaves."""
    with site.context.database.write() as session:
        device = next(one for one in rollouts.rollout(session, fleet.paused_rollout).devices if one.stage == 1)
        said = DeploymentReport(
            sequence=2, at_s=1.0, assignment_seq=1, target_sha256=fleet.releases["yard@2"], target="yard@2", state="committed",
            running_sha256=fleet.releases["yard@2"], running="yard@2", behaviour_unseen=True,
        )  # fmt: skip
        batch = ReportBatch(boot_id="boot-1", counter=2, highest_seq=1, reports=[said])
        reports.store_reports(session, device.device, batch, now_s=site.context.clock())
    client = sign_in(site, "vera")
    for page in (f"/rollouts/{fleet.paused_rollout}", f"/devices/{device.device}"):
        assert "behaviour unseen" in client.get(page).text
