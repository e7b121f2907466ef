"""Boards without a claim: what rules say of them, and how many of them a stranger can make the server keep."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.audit import service as audit
from fleet_server.database import Database
from fleet_server.enrolment import rules, ruling, service
from fleet_server.enrolment.rules import Rule
from fleet_server.enrolment.service import Bounds, Issuer
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.inventory import service as inventory

NOW_S = 1_790_000_000.0
DAY_S = 86_400.0


def rule(**changed: Any) -> Rule:
    given = {"id": "r-1", "profile": "rpi-5", "serial": "1000*", "group": "yard", "most_per_day": 2, "until_s": NOW_S + DAY_S,
             "created_s": NOW_S, "created_by": "ada", **changed}  # fmt: skip
    return Rule(**given)


def verdict(*known: Rule, serial: str = "10000001", profile: str = "rpi-5", **given: Any) -> rules.Verdict:
    asked = {"let_in": {}, "taken_by": "", "now_s": NOW_S, **given}
    return rules.decide(known, serial=serial, profile=profile, **asked)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"profile": "rpi-4"}, "is for boards of profile rpi-5; this one is rpi-4"),
        ({"serial": "2000"}, "is for serial numbers like 1000"),
        ({"now_s": NOW_S + DAY_S + 1}, "has ended"),
        ({"let_in": {"r-1": 2}}, "has let in its 2 boards of a day"),
        ({"taken_by": "gate"}, "the device gate has this serial number"),
        ({"serial": ""}, "no serial number"),
    ],
)
def test_a_rule_says_why_it_does_not_let_a_board_in(given: dict[str, Any], words: str) -> None:
    found = verdict(rule(), **given)
    assert found.rule is None
    assert words in found.reasons[0][1]


def test_the_first_rule_that_fits_decides_and_the_others_say_why_not() -> None:
    found = verdict(rule(profile="rpi-4"), rule(id="r-2", group="dock"), rule(id="r-3"))
    assert found.rule is not None
    assert [name for name, _ in found.reasons] == ["r-1", "r-2"]
    assert found.rule.group == "dock"
    assert verdict().reasons == (("", "there is no rule"),)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=14))
def test_patterns_mean_what_a_shell_means(pattern: str, text: str) -> None:
    """Against the regular expression that the pattern stands for (short texts: there it is quick)."""
    import re

    meant = "".join({"*": ".*", "?": "."}.get(letter, letter) for letter in pattern)
    assert rules.fits(pattern, text) == (not pattern or re.fullmatch(meant, text) is not None)


def test_a_pattern_made_to_think_for_ever_is_answered_at_once() -> None:
    """A stranger's serial number against an unlucky pattern: steps grow with the product of the lengths, no faster."""
    assert not rules.fits("*a" * 30 + "b", "a" * 64)


def ask(database: Database, board: Any, issuer: Issuer, *, now_s: float = NOW_S, origin: str = "192.0.2.7",
        bounds: Bounds | None = None, **facts: Any) -> service.Outcome:  # fmt: skip
    with database.write() as session:
        return service.enrol(session, board.request("", **facts), issuer, origin=origin, now_s=now_s, bounds=bounds)


def add_rule(database: Database, **changed: Any) -> str:
    given = {"profile": "", "serial": "A*", "group": "yard", "most_per_day": 5, "until_s": NOW_S + DAY_S, "who": "ada",
             "origin": "", "now_s": NOW_S, **changed}  # fmt: skip
    with database.write() as session:
        return service.add_rule(session, **given).id


def waiting(database: Database) -> list[service.Enrolment]:
    with database.read() as session:
        return service.enrolments(session, state="pending")


def test_a_rule_lets_in_whom_it_fits_as_often_as_it_says(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Ten boards with one rule for three, all at the same moment: three get in, seven wait; a lost answer costs nothing."""
    made = add_rule(database, most_per_day=3)
    boards = [new_board() for _ in range(10)]
    outcomes: list[service.Outcome] = []
    barrier = threading.Barrier(len(boards))

    def knock(number: int) -> None:
        barrier.wait(60)
        outcomes.append(ask(database, boards[number], issuer, serial=f"A{number}"))

    threads = [threading.Thread(target=knock, args=(number,)) for number in range(len(boards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(one.status for one in outcomes) == ["accepted"] * 3 + ["pending"] * 7
    again = [ask(database, board, issuer, serial=f"A{number}") for number, board in enumerate(boards)]
    assert {one.certificate_pem for one in again} == {one.certificate_pem for one in outcomes}
    with database.read() as session:
        found = inventory.find(session, NOW_S, group="yard")
        assert len(found) == 3
        assert service.all_rules(session, NOW_S)[0].let_in == 3
        assert {entry.who for entry in audit.entries(session) if entry.what == "enrolment.accept"} == {f"rule:{made}"}
    assert ask(database, new_board(), issuer, now_s=NOW_S + 1, serial=found[0].serial).status == "pending", "a serial twice"
    later = [ask(database, board, issuer, now_s=NOW_S + DAY_S, serial=f"A{number}") for number, board in enumerate(boards)]
    assert sum(one.status == "accepted" for one in later) == 6, "the next day three more"


def test_a_rule_is_never_for_everybody_or_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that fits all, no end, too many: refused; what was removed stands in the audit."""
    monkeypatch.setattr(ruling, "MAX_RULES", 3)
    for wrong in ({"serial": "*"}, {"serial": ""}, {"until_s": NOW_S - 1}, {"until_s": NOW_S + 500 * DAY_S}, {"most_per_day": 0},
                  {"group": "../x"}, {"profile": "RPI 5"}, {"until_s": float("nan")}):  # fmt: skip
        with pytest.raises(InvalidError):
            add_rule(database, **wrong)
    made = add_rule(database)
    for _ in range(2):
        add_rule(database)
    with pytest.raises(ConflictError, match="3 rules"):
        add_rule(database)
    with database.write() as session:
        service.remove_rule(session, made, who="ada", origin="", now_s=NOW_S)
    with database.read() as session:
        assert audit.entries(session)[0].before == {
            "profile": "", "serial": "A*", "group": "yard", "most_per_day": 5, "until_s": NOW_S + DAY_S,
        }  # fmt: skip
    with pytest.raises(NotFoundError), database.write() as session:
        service.remove_rule(session, made, who="ada", origin="", now_s=NOW_S)


def test_a_stranger_does_not_fill_the_queue(database: Database, issuer: Issuer, new_board: Any) -> None:
    """One address sends boards without end: a few are kept, honest boards elsewhere wait beside them, and it is told."""
    bounds = Bounds(most=5, most_per_address=3, kept_s=3600)
    stranger = [ask(database, new_board(), issuer, origin="198.51.100.9", bounds=bounds, serial=f"X{n}").status for n in range(6)]
    assert stranger == ["pending"] * 3 + ["full"] * 3
    honest = new_board()
    assert ask(database, honest, issuer, bounds=bounds, serial="H1").status == "pending"
    assert ask(database, new_board(), issuer, bounds=bounds, serial="H2", origin="192.0.2.8").status == "pending"
    assert ask(database, new_board(), issuer, bounds=bounds, serial="H3", origin="192.0.2.9").status == "full"
    assert ask(database, honest, issuer, bounds=bounds, serial="H1").status == "pending", "who waits already is not turned away"
    with database.read() as session:
        assert service.turned_away(session) == (4, NOW_S)
    assert len(waiting(database)) == 5
    # An hour later the stranger's boards ask no more; whoever still asks stays.
    ask(database, honest, issuer, now_s=NOW_S + 3000, bounds=bounds, serial="H1")
    late = ask(database, new_board(), issuer, now_s=NOW_S + 3700, bounds=bounds, serial="H3", origin="192.0.2.9")
    assert late.status == "pending"
    assert {one.serial for one in waiting(database)} == {"H1", "H3"}


def test_a_line_of_ipv6_is_one_stranger(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Whoever has a /64 has addresses without end, and one share of the queue; the line beside it has its own."""
    bounds = Bounds(most=9, most_per_address=3)
    lines = [f"2001:db8::{n:x}" for n in range(5)]
    flood = [ask(database, new_board(), issuer, origin=one, bounds=bounds, serial=f"X{one[-1]}").status for one in lines]
    assert flood == ["pending"] * 3 + ["full"] * 2
    assert ask(database, new_board(), issuer, origin="2001:db8:0:1::1", bounds=bounds, serial="H1").status == "pending"
    # A card is written anew, and the board has another address of the same line: it is the same request still.
    ask(database, new_board(), issuer, origin="2001:db8:0:1::2", bounds=bounds, serial="H1")
    assert sorted(one.serial for one in waiting(database)) == ["H1", "X0", "X1", "X2"]


def test_a_board_that_is_wiped_while_it_waits_is_one_request(database: Database, issuer: Issuer, new_board: Any) -> None:
    """A new card, a new key, the same serial from the same address: the older request goes; from elsewhere it stays."""
    first = new_board()
    ask(database, first, issuer, serial="S1")
    ask(database, new_board(), issuer, serial="S1")
    assert len(waiting(database)) == 1
    ask(database, new_board(), issuer, serial="S1", origin="203.0.113.5")
    assert len(waiting(database)) == 2, "whoever says another's serial from elsewhere does not push it out"


def test_one_key_is_one_device_by_whatever_way_it_comes(database: Database, issuer: Issuer, new_board: Any) -> None:
    """A board with two claims, and none, at the same moment: one device, and what waits besides is gone."""
    board = new_board()
    assert ask(database, board, issuer, serial="K1").status == "pending"
    with database.write() as session:
        made = service.make_claims(session, count=4, terms=service.ClaimTerms(), ttl_s=60, who="t", now_s=NOW_S)
    outcomes, barrier = [], threading.Barrier(4)

    def bring(token: str) -> None:
        barrier.wait(60)
        try:
            with database.write() as session:
                outcomes.append(service.enrol(session, board.request(token), issuer, origin="", now_s=NOW_S).status)
        except ForbiddenError:
            outcomes.append("refused")

    threads = [threading.Thread(target=bring, args=(one.token,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == ["accepted", "refused", "refused", "refused"]
    assert waiting(database) == []
    with database.read() as session:
        assert inventory.counts(session, NOW_S).total == 1


def test_pages_of_the_queue_show_everybody_once(database: Database, issuer: Issuer, new_board: Any) -> None:
    """Seven wait, two are decided: three a page, in the order of the list, nobody twice and nobody lost."""
    for number in range(9):
        ask(database, new_board(), issuer, serial=f"P{number}", now_s=NOW_S + number // 2)
    for one in waiting(database)[:2]:
        with database.write() as session:
            service.reject(session, one.id, reason="no", who="ada", origin="", now_s=NOW_S)
    with database.read() as session:
        whole = [one.id for one in service.enrolments(session)]
        pages, after = [], ""
        while found := service.enrolments(session, 3, after=after):
            pages += [one.id for one in found]
            after = found[-1].id
        assert pages == whole
        assert len(set(whole)) == 9
        assert [one.serial for one in service.enrolments(session, text="P3")] == ["P3"]
        with pytest.raises(InvalidError):
            service.enrolments(session, after="e-none")
