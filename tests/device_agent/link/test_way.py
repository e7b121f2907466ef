"""The first steps of the way to the server: what the kernel's tables say, and what a trial makes of it."""

from pathlib import Path

import pytest

from device_agent.duties.watching_way import WatchingWay
from device_agent.link.way_linux import Way, default_gateway, look_at_way, neighbour_answered
from device_agent.update.health import Before, Trial, TrialLimits, judge

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
"""
ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.168.1.7      0x1         0x2         aa:bb:cc:dd:ee:07     *        eth0
192.168.1.1      0x1         {flags}         aa:bb:cc:dd:ee:01     *        eth0
"""


def test_the_gateway_is_read_from_the_kernels_table() -> None:
    """A default route, none at all (the cable is out), and lines that are no routes."""
    assert default_gateway(ROUTES) == "192.168.1.1"
    assert default_gateway("\n".join(ROUTES.splitlines()[:2])) is None
    assert default_gateway("Iface\nhalf a line\neth0 zz zz zz\n") is None


def test_a_gateway_that_answers_is_told_from_one_that_is_silent() -> None:
    """The neighbour table has it complete, incomplete, or (a modem's line without ARP) not at all."""
    assert neighbour_answered(ARP.format(flags="0x2"), "192.168.1.1") is True
    assert neighbour_answered(ARP.format(flags="0x0"), "192.168.1.1") is False
    assert neighbour_answered(ARP.format(flags="0x2"), "10.0.0.1") is None


def test_a_board_without_a_route_and_with_a_name_that_nobody_knows(tmp_path: Path) -> None:
    """No default route: the gateway is gone. A reserved name (RFC 6761) resolves nowhere; an address needs no names."""
    (tmp_path / "route").write_text(ROUTES.splitlines()[0] + "\n")
    (tmp_path / "arp").write_text("")
    assert look_at_way("https://fleet.invalid:8443", tmp_path) == Way(gateway=False, names=False)
    assert look_at_way("https://127.0.0.1:8443", tmp_path) == Way(gateway=False, names=None)
    assert look_at_way("https://localhost:8443", tmp_path / "none") == Way(gateway=None, names=True)


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (Way(True, True), Way(True, True), False),
        (Way(True, True), Way(False, True), True),
        (Way(True, True), Way(True, False), True),
        (Way(False, False), Way(False, False), False),
        (Way(None, None), Way(False, False), False),
        (Way(True, True), Way(None, None), False),
    ],
)
def test_only_what_is_known_to_have_worked_can_get_worse(before: Way, now: Way, worse: bool) -> None:
    assert now.worse_than(before) is worse


def test_a_release_after_which_the_names_are_gone_fails_where_a_dead_server_would_not() -> None:
    """The server is out of reach for a whole day of trial: with names gone too the release goes back, else it is kept, unseen."""
    state = {"trial": False, "reached": True, "way": Way(True, True)}
    way = WatchingWay(lambda: state["way"], reached=lambda: state["reached"], on_trial=lambda: state["trial"])
    way.once()
    state.update(trial=True, reached=False)
    way.once()
    assert not way.worse, "gateway and names are as before: it is the server's outage"
    day_s = 25 * 3600.0
    assert judge(Trial(link=False, link_worse=way.worse), Before(), TrialLimits(), day_s).outcome == "unseen"
    state["way"] = Way(True, False)
    way.once()
    assert way.worse
    assert judge(Trial(link=False, link_worse=way.worse), Before(), TrialLimits(), day_s).outcome == "fail"
    state["reached"] = True
    way.once()
    assert not way.worse, "who reaches the server has a way"


def test_a_trial_that_a_restart_interrupted_has_nothing_to_compare_with() -> None:
    """The agent starts in the midst of a trial with the names gone: that they worked before is not known here."""
    way = WatchingWay(lambda: Way(False, False), reached=lambda: False, on_trial=lambda: True)
    way.once()
    assert not way.worse
