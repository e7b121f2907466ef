"""`rookery account` and `rookery token`: people, a second factor at login, tokens; as a script types them."""

import json

import httpx
import pyotp

from tests.cli.conftest import Rookery
from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite

ENTERED = PASSWORD + "\n"


def test_the_story_of_an_account(signed_in: OperatorSite, rookery: Rookery) -> None:
    """Ada adds Ben, limits him, and removes him; each step is answered, each mistake named."""
    site = signed_in
    made = rookery("-o", "name", "account", "add", "ben", "--role", "operator", "--group", "north")
    assert made.code == 0, made.err
    assert made.out.startswith(f"{site.url}/welcome?token=")
    assert rookery("account", "add", "ben", "--role", "viewer").code == 5
    listed = json.loads(rookery("-o", "json", "account", "list").out)["items"]
    ben = next(one for one in listed if one["name"] == "ben")
    assert (ben["role"], ben["groups"], ben["state"]) == ("operator", ["north"], "invited")
    assert "north, south" in rookery("account", "groups", "ben", "south", "north").out
    assert rookery("account", "groups", "ben").code == 2
    assert "disabled" in rookery("account", "disable", "ben").err
    assert rookery("account", "remove", "ben").code == 2, "nobody can be asked: --yes must be said"
    assert rookery("account", "remove", "ben", "--yes").code == 0
    last = rookery("account", "role", NAME, "viewer")
    assert (last.code, "last admin" in last.err) == (5, True)


def test_tokens_of_ones_own_and_of_a_machine(signed_in: OperatorSite, rookery: Rookery) -> None:
    """A script gets a token that may look and nothing else; a machine's is made by an admin; both end when they are told to."""
    asked = rookery("token", "create", "watch", "--scope", "viewer")
    assert (asked.code, "--password-stdin" in asked.err) == (2, True)
    create = ("token", "create", "watch", "--scope", "viewer", "--out", "watch.token", "--password-stdin")
    assert rookery(*create, stdin="wrong\n").code == 4
    out = rookery(*create, stdin=ENTERED)
    assert out.code == 0, out.err
    again = rookery(*create, stdin=ENTERED)
    assert (again.code, "no token was made" in again.err) == (1, True), "the file is there: nothing may be made that nobody sees"
    mine = json.loads(rookery("-o", "json", "token", "list").out)["items"]
    assert [one["name"] for one in mine].count("watch") == 1
    assert rookery("account", "add", "robot", "--role", "viewer", "--machine").code == 0
    token = rookery("-o", "name", "token", "create", "first", "--for", "robot", "--scope", "viewer").out.strip()
    assert token.startswith("rkt_")
    as_robot = {"ROOKERY_SERVER": signed_in.url, "ROOKERY_TOKEN": token}
    assert rookery("account", "list", **as_robot).code == 4
    items = json.loads(rookery("-o", "json", "token", "list", "--for", "robot").out)["items"]
    assert [(one["name"], one["scopes"]) for one in items] == [("first", ["viewer"])]
    assert rookery("token", "end", items[0]["id"], "--for", "robot").code == 0
    assert rookery("whoami", **as_robot).code == 4


def test_a_second_factor_from_the_shell(signed_in: OperatorSite, rookery: Rookery) -> None:
    """Cleo has a telephone: `rookery login` takes its code from the second line, and the password alone no more."""
    signed_in.add_operator("cleo", "viewer")
    api = f"{signed_in.url}/api/v1"
    token = httpx.post(f"{api}/tokens", json={"name": "cleo", "password": PASSWORD}, timeout=60).json()["token"]
    with httpx.Client(base_url=api, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        telephone = pyotp.TOTP(client.post("/account/second-factor", json={"password": PASSWORD}).json()["secret"])
        codes = client.post("/account/second-factor/confirm", json={"code": telephone.now()}).json()["recovery_codes"]
    login = ("login", "--server", signed_in.url, "--name", "cleo", "--password-stdin", "--as", "cleo")
    assert rookery(*login, stdin=ENTERED).code == 4
    assert rookery(*login, stdin=f"{PASSWORD}\n{codes[0]}\n").code == 0
    hers = {"ROOKERY_CONTEXT": "cleo"}
    changed = rookery("account", "password", "--password-stdin", stdin=f"{PASSWORD}\n{codes[1]}\nwords of my own\n", **hers)
    assert changed.code == 0, changed.err
    off = rookery("account", "second-factor", "--remove", "--password-stdin", stdin=f"words of my own\n{codes[2]}\n", **hers)
    assert off.code == 0, off.err
