"""A shadow on the device's page: what it found beside the current model; a board without one says nothing of it."""

from collections.abc import Iterator

import httpx
import pytest

from fleet_server.telemetry import service as telemetry
from ota.wire.heartbeat import Heartbeat, ShadowHealth, ShadowPair
from tests.fakes.operator_site import OperatorSite, operator_site
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet
from tests.fleet_server.dashboard.test_dashboard_doors import sign_in


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorSite]:
    with operator_site(tmp_path_factory.mktemp("shadow") / "data") as made:
        made.add_operator("vera", role="viewer")
        yield made


@pytest.fixture(scope="module")
def fleet(site: OperatorSite) -> SeededFleet:
    return seed_fleet(site.context)


def beat(site: OperatorSite, device: str, shadow: ShadowHealth | None) -> None:
    now_s = site.context.clock()
    heartbeat = Heartbeat(
        sequence=1, boot_id="boot-2", at_s=now_s, uptime_s=1.0, window_s=30.0, state="idle", shadow=shadow
    )  # fmt: skip
    with site.context.database.write() as session:
        telemetry.store_heartbeats(session, [(device, heartbeat, now_s)])


def page(site: OperatorSite, fleet: SeededFleet, name: str) -> str:
    client: httpx.Client = sign_in(site, "vera")
    return str(client.get(f"/devices/{fleet.devices[name]}").text)


def test_what_a_shadow_saw_stands_on_the_page(site: OperatorSite, fleet: SeededFleet) -> None:
    """A candidate that finds 11 small persons the current model misses, paused by heat; a label with a script."""
    shadow = ShadowHealth(
        release="yard@3", state="paused", reason="hot: 78 °C", frames=412, core_share=0.083, invoke_ms=21.0,
        pairs=[
            ShadowPair(label="person", size="small", both=12, only_current=2, only_candidate=11),
            ShadowPair(label="<script>alert(1)</script>", size="large", both=1),
        ],
    )  # fmt: skip
    beat(site, fleet.devices["dock-1"], shadow)
    text = page(site, fleet, "dock-1")
    assert "What runs beside it" in text
    assert "yard@3" in text
    assert "412 frames compared, 8.3 % of a core" in text
    assert "hot: 78 °C" in text
    row = text[text.index('<th scope="row">person</th>') :]
    assert row.startswith('<th scope="row">person</th><td>small</td><td>12</td><td>2</td><td>11</td>')
    assert "<script>alert" not in text


def test_a_board_without_a_shadow_says_nothing_of_one(site: OperatorSite, fleet: SeededFleet) -> None:
    """Most boards have none; neither have agents of the version before."""
    beat(site, fleet.devices["dock-2"], None)
    assert "What runs beside it" not in page(site, fleet, "dock-2")
    assert "What runs beside it" not in page(site, fleet, "attic")
