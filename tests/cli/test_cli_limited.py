"""The command line with the token of somebody who is limited to one group."""

import json
import time

import pytest

from fleet_server.accounts import service as accounts
from tests.cli.conftest import Rookery
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet


@pytest.fixture(scope="module")
def fleet(site: OperatorSite) -> SeededFleet:
    return seed_fleet(site.context)


def test_a_limited_token_sees_its_group(site: OperatorSite, fleet: SeededFleet, rookery: Rookery) -> None:
    """A script of the house has a token for the house: it lists its boards, finds no other, and is told in words, and whom to
    ask, why it cannot change the whole fleet."""
    with site.context.database.write() as session:
        accounts.add_operator(
            session, name="house-script", password_hash="", role="operator", now_s=time.time(), groups=["house"], kind="machine"
        )
        token = accounts.open_grant(
            session, name="house-script", kind="token", token_name="t", ttl_s=3600, now_s=time.time()
        ).token

    def call(*arguments: str) -> tuple[int, str, str]:
        answer = rookery(*arguments, ROOKERY_SERVER=site.url, ROOKERY_TOKEN=token)
        return answer.code, answer.out, answer.err

    code, out, _ = call("--output", "json", "device", "list")
    assert code == 0
    assert {one["name"] for one in json.loads(out)["items"]} == {"dock-1", "dock-2", "office", "attic"}
    foreign, unknown = call("device", "show", "gate-north"), call("device", "show", "gate-nobody")
    assert foreign[0] == unknown[0] != 0
    assert foreign[2].replace("gate-north", "X") == unknown[2].replace("gate-nobody", "X")
    code, _, told = call("rollout", "create", "yard@2")
    assert code != 0
    assert "your account is limited to the group house" in told
    assert "name a group or devices" in told
    code, out, told = call("rollout", "create", "yard@2", "--group", "house", "--dry-run")
    assert code == 0, told
