"""Claims by the thousand, boards without a claim, rules, and what becomes of a device's identity: from the command line."""

import contextlib
import csv
import io
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet_server.cli import main as command
from fleet_server.cli.claims_file_disk import harmless
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.inventory import service as inventory
from ota.wire.enrolment import EnrolRequest
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import _csr, facts


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def verb(signed_in: OperatorSite, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """A verb in this process: the same entry point, without a second's start for each of forty calls."""
    monkeypatch.setenv("ROOKERY_CONFIG", str(workplace / "config.toml"))
    monkeypatch.chdir(workplace)
    for name in [name for name in os.environ if name.startswith("ROOKERY_") and name != "ROOKERY_CONFIG"]:
        monkeypatch.delenv(name)

    def call(*arguments: str) -> Ended:
        out, err, code = io.StringIO(), io.StringIO(), 0
        monkeypatch.setattr(sys, "argv", ["rookery", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                command.main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Ended(code, out.getvalue(), err.getvalue())

    return call


def knock(site: OperatorSite, claim: str = "", number: int = 0, csr_pem: str | None = None) -> enrolment.Outcome:
    """A board asks, as over the device door."""
    context = site.context
    issuer = enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)
    request = EnrolRequest(claim=claim, csr_pem=csr_pem or _csr(), facts=facts(number))
    with context.database.write() as session:
        return enrolment.enrol(session, request, issuer, origin="192.0.2.7", now_s=context.clock())


def device(site: OperatorSite, name: str) -> Any:
    with site.context.database.read() as session:
        return inventory.get(session, name, site.context.clock())


def test_a_spreadsheet_becomes_claims_in_a_file_for_its_owner_alone(verb, signed_in: OperatorSite, workplace: Path) -> None:
    """As a spreadsheet saves it: byte-order mark, CRLF, quotes, blanks. Tokens stand in the new file and nowhere else."""
    sheet = workplace / "boards.csv"
    rows = ["serial, profile ,group,name,expires", 'A1,rpi-5,"yard ",gate west,2026-12-31', "", " B2 ,,,,"]
    sheet.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    answer = verb("claim", "csv", "boards.csv", "--out", "tokens.csv")
    assert (answer.code, answer.out) == (0, ""), answer.err
    tokens = workplace / "tokens.csv"
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o600
    found = list(csv.DictReader(tokens.open()))
    assert [(one["serial"], one["profile"], one["group"], one["name"]) for one in found] == [
        ("A1", "rpi-5", "yard", "gate west"), ("B2", "", "default", ""),
    ]  # fmt: skip
    assert found[0]["expires"].startswith("2026-12-31T23:59:59")
    assert all(one["token"].startswith("rkc_") and one["token"] not in answer.err for one in found)
    again = verb("claim", "csv", "boards.csv", "--out", "tokens.csv")
    assert (again.code, "File exists" in again.err, "no claim was made" in again.err) == (1, True, True)
    assert list(csv.DictReader(tokens.open())) == found


def test_a_wrong_spreadsheet_makes_nothing_and_names_every_line(verb, signed_in: OperatorSite, workplace: Path) -> None:
    before = json.loads(verb("-o", "json", "claim", "list").out)["items"]
    (workplace / "wrong.csv").write_text("serial,name\nX1,one\n=cmd(),two\nX1,three\nX4\n")
    answer = verb("claim", "csv", "wrong.csv", "--out", "never.csv")
    assert answer.code == 5
    for words in ("line 3, serial: must be", "line 4, serial: 'X1' stands in line 2", "line 5: has 1 values"):
        assert words in answer.err
    assert not (workplace / "never.csv").exists()
    assert json.loads(verb("-o", "json", "claim", "list").out)["items"] == before
    (workplace / "wide.csv").write_bytes("serial\nA1\n".encode("utf-16"))
    assert "UTF-16" in verb("claim", "csv", "wide.csv", "--out", "never.csv").err
    assert verb("claim", "csv", "missing.csv", "--out", "never.csv").code == 1


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_run_by_a_spreadsheet(cell: str) -> None:
    """A server that was broken into answers with formulas: what is written into the file of tokens is text."""
    assert harmless(cell) == f"'{cell}"
    assert harmless("A1-7") == "A1-7"


def test_a_claim_is_ended_before_it_is_used(verb, signed_in: OperatorSite) -> None:
    """A list of tokens was sent to the wrong person."""
    token = verb("-o", "name", "claim", "create", "--name", "lost one").out.strip()
    claim = json.loads(verb("-o", "json", "claim", "list", "-q", "lost one").out)["items"][0]
    assert verb("claim", "end", claim["id"]).code == 0
    assert verb("claim", "end", "c-none").code == 3
    assert json.loads(verb("-o", "json", "claim", "list", "--state", "ended").out)["items"][0]["id"] == claim["id"]
    with pytest.raises(Exception, match="an operator has ended this claim"):
        knock(signed_in, token, 1)


def test_boards_without_a_claim_wait_and_are_decided(verb, signed_in: OperatorSite) -> None:
    """Two boards from an image without a claim: the fingerprint to compare is shown, one gets in, one does not."""
    keys = [_csr(), _csr()]
    for number, key in enumerate(keys, start=20):
        assert knock(signed_in, number=number, csr_pem=key).status == "pending"
    shown = verb("enrolment", "list", "--state", "pending")
    items = json.loads(verb("-o", "json", "enrolment", "list", "--state", "pending").out)["items"]
    assert len(items) == 2
    assert items[0]["fingerprint"] in shown.out
    assert len(items[0]["fingerprint"].split()) == 8
    good, bad = sorted(items, key=lambda one: one["serial"])
    assert verb("enrolment", "accept", good["id"], "--group", "yard").code == 0
    assert verb("enrolment", "reject", bad["id"], "--reason", "not ours").code == 0
    twice = verb("enrolment", "accept", good["id"], bad["id"])
    assert (twice.code, "accepted already" in twice.out, "rejected already" in twice.out) == (6, True, True)
    let_in = knock(signed_in, number=20, csr_pem=keys[0])
    assert (let_in.status, device(signed_in, str(let_in.device_id)).group) == ("accepted", "yard")
    with pytest.raises(Exception, match="not ours"):
        knock(signed_in, number=21, csr_pem=keys[1])
    assert verb("enrolment", "accept", "--all").code == 0  # nobody waits: nothing to ask
    assert verb("enrolment", "accept").code == 2


def test_a_rule_lets_boards_in_and_says_why_not(verb, signed_in: OperatorSite) -> None:
    refused = verb("rule", "add", "--most-per-day", "5")
    assert (refused.code, "needs a profile" in refused.err) == (1, True)
    made = json.loads(verb("-o", "json", "rule", "add", "--serial", "10000000*1?", "--most-per-day", "1", "--group", "dock").out)
    told = verb("rule", "test", "--serial", "100000000000001e", "--profile", "rpi-4")
    assert (told.code, "it would get in" in told.out, made["id"] in told.out) == (0, True, True)
    other = verb("rule", "test", "--serial", "ffff")
    assert (other.code, "is for serial numbers like 10000000*1?" in other.out) == (1, True)
    let_in = knock(signed_in, number=0x1E)
    assert (let_in.status, device(signed_in, str(let_in.device_id)).group) == ("accepted", "dock")
    assert knock(signed_in, number=0x1F).status == "pending", "one a day"
    assert "has let in its 1 boards" in verb("rule", "test", "--serial", "100000000000001f").out
    assert "1 of 1" in verb("rule", "list").out
    assert verb("rule", "remove", made["id"]).code == 0
    assert verb("rule", "remove", made["id"]).code == 3


def test_a_suspected_clone_goes_on_when_a_person_says_so(verb, signed_in: OperatorSite) -> None:
    """A card was restored from a copy and reported from two places: held back until somebody says that it may go on."""
    copied = knock(signed_in, verb("-o", "name", "claim", "create", "--name", "twin").out.strip(), 60).device_id
    with signed_in.context.database.write() as session:
        inventory.record_held(session, str(copied), "two cards bear this identity")
    assert "two cards" in verb("device", "show", "twin").out
    done = verb("device", "unhold", "twin")
    assert (done.code, "twin takes part in updates again" in done.err) == (0, True), done.err
    assert device(signed_in, "twin").held is None
    assert verb("device", "unhold", "nowhere").code == 3


def test_a_device_is_readmitted_replaced_and_decommissioned(verb, signed_in: OperatorSite, workplace: Path) -> None:
    """A wiped card, a dead board, an end for good: what each does to name and id."""
    token = verb("-o", "name", "claim", "create", "--name", "well", "--group", "yard").out.strip()
    first = knock(signed_in, token, 40).device_id
    answer = verb("device", "readmit", "well", "--reason", "new card", "--out", "again")
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert stat.S_IMODE((workplace / "again").stat().st_mode) == 0o600
    assert knock(signed_in, (workplace / "again").read_text().strip(), 40).device_id == first
    token = verb("-o", "name", "device", "replace", "well", "--serial", facts(41).serial).out.strip()
    with pytest.raises(Exception, match="another serial"):
        knock(signed_in, token, 42)
    second = knock(signed_in, token, 41).device_id
    assert second != first
    new = device(signed_in, "well")
    assert (new.id, new.group, new.replaces) == (second, "yard", first)
    assert str(first) in verb("device", "show", "well").out
    gone = json.loads(verb("-o", "json", "device", "list", "--state", "decommissioned").out)["items"]
    assert [one["id"] for one in gone] == [first]
    unsure = verb("device", "decommission", "well")
    assert (unsure.code, "--yes" in unsure.err) == (2, True)
    assert verb("device", "decommission", "well", "--yes", "--reason", "sold").code == 0
    assert verb("device", "readmit", str(second)).code == 5
    token = verb("-o", "name", "claim", "create", "--name", "well").out.strip()
    assert device(signed_in, str(knock(signed_in, token, 43).device_id)).name == "well", "the name is free"
