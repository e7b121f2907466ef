"""Every page that there is, in Chromium: what the content security policy forbids is not tried by us, and stops who tries it."""

import re
from collections.abc import Iterator

import pytest

from fleet_server.app import create_operator_app
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import SeededFleet

pytestmark = pytest.mark.browser
PARAMETERS = {
    "device_id": lambda fleet: fleet.devices["gate-north"], "device": lambda fleet: fleet.devices["gate-north"],
    "rollout_id": lambda fleet: fleet.paused_rollout, "rollout": lambda fleet: fleet.paused_rollout,
    "event_id": lambda fleet: fleet.event, "event": lambda fleet: fleet.event, "scope": lambda _fleet: "fleet",
}  # fmt: skip
"""What stands in a page's address; another parameter gets a word, and its page may say that there is no such thing."""
REFUSE = {"/oidc/login": "status of 401", "/oidc/callback": "status of 401"}
"""Pages that refuse here by their status, which Chromium notes: there is no identity provider, and nobody comes back from one."""


def pages(site: OperatorSite, fleet: SeededFleet) -> Iterator[str]:
    """Every address of the pages' own blueprint that a browser may open: a page that comes later is walked, too."""
    for rule in create_operator_app(site.context).url_map.iter_rules():
        if "GET" not in (rule.methods or set()) or rule.rule.startswith(("/api/", "/static/", "/openapi", "/healthz")):
            continue
        yield re.sub(r"<(?:\w+:)?(\w+)>", lambda match: PARAMETERS.get(match[1], lambda _: "nothing")(fleet), rule.rule)


def test_no_page_does_what_the_policy_forbids(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Each page, then what is on it: scripts, styles, frames and handlers stand in files of ours alone."""
    site, fleet = seeded
    tab = new_tab(site)
    tab.sign_in()
    tab.page.wait_for_selector("html[data-live]")
    walked, faults = [], {}
    for path in sorted(set(pages(site, fleet))):
        try:
            page = tab.open(path)
        except Exception as error:  # a file that is downloaded is no page
            if "Download is starting" in str(error):
                continue
            raise
        walked.append(path)
        inline = page.evaluate("""() => [...document.querySelectorAll("*")].flatMap((one) => [
            ...[...one.attributes].filter((a) => /^on/i.test(a.name) || /^\\s*javascript:/i.test(a.value)).map((a) => a.name),
            ...(one.localName === "script" && !one.src ? ["inline script"] : []),
            ...(["iframe", "object", "embed", "base"].includes(one.localName) ? [one.localName] : []),
            ...(one.localName === "form" && new URL(one.action, location).origin !== location.origin ? ["goes elsewhere"] : []),
            ...(one.localName === "form" && one.method === "post" && !one.querySelector("[name=csrf_token]") ? ["no token"] : []),
            ...(one.localName === "a" && one.target === "_blank" && !/noopener/.test(one.rel) ? ["opener"] : []),
        ])""")
        expected = REFUSE.get(path, "status of 404")  # "nothing" is not there, and its page says so
        wrong = [fault for fault in tab.faults() if expected not in fault]
        if inline or wrong:
            faults[path] = [*inline, *wrong]
        tab.errors.clear()
    assert len(walked) >= 12, walked
    assert faults == {}


def test_the_policy_stops_what_somebody_smuggles_in(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Suppose that some text became markup after all: no script of it runs, no style, no frame, no form leads elsewhere."""
    tab = new_tab(seeded[0])
    page = tab.open("/login")
    page.evaluate("""() => {
        window.ran = [];
        const box = document.createElement("div");
        box.innerHTML = `<img src="/static/icon.svg" onload="ran.push('handler')"><a id=j href="javascript:ran.push('link')">x</a>
            <iframe srcdoc="<script>parent.ran.push('frame')<\\/script>"></iframe>
            <form id=f action="https://evil.example/" method=get><button>go</button></form>`;
        document.body.append(box);
        const script = document.createElement("script");
        script.textContent = "ran.push('inline')";
        document.body.append(script);
        const far = document.createElement("script");
        far.src = "https://evil.example/x.js";
        document.body.append(far);
        document.getElementById("j").click();
        document.getElementById("f").requestSubmit();
    }""")
    page.wait_for_function("violations.length >= 4")
    assert page.evaluate("ran") == []
    assert page.url.startswith(tab.url)
    assert {each.partition("-")[0] for each in page.evaluate("violations")} >= {"script", "form"}


def test_our_pages_are_in_nobody_elses_frame(seeded: tuple[OperatorSite, SeededFleet], new_tab) -> None:
    """Clickjacking: a page elsewhere (another origin on this machine) lays our buttons, invisible, under its own."""
    site = seeded[0]
    tab = new_tab(site)
    elsewhere = site.url.replace("127.0.0.1", "localhost") + "/elsewhere"
    body = f"<h1>a page elsewhere</h1><iframe src='{site.url}/login'></iframe>"
    tab.page.route(elsewhere, lambda route: route.fulfill(content_type="text/html", body=body))
    tab.page.goto(elsewhere)  # until its frames have loaded or were refused
    assert "a page elsewhere" in tab.page.content()
    assert len(tab.page.frames) == 2
    assert not tab.page.frames[1].url.startswith(site.url)
    assert "Sign in" not in tab.page.frames[1].content()
