"""Claims by the thousand: what a spreadsheet may hold, that it is all or none, and how the claims are listed and ended."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.database import Database
from fleet_server.enrolment import claims_csv, service
from fleet_server.enrolment.claims_csv import WantedClaim
from fleet_server.errors import ConflictError, FaultyError, ForbiddenError, InvalidError, NotFoundError

NOW_S = 1_790_000_000.0  # 2026-09-21
HEADER = "serial,profile,group,name,expires\n"


def read(text: str, **given: Any) -> claims_csv.Sheet:
    return claims_csv.read(text, now_s=NOW_S, **given)


def test_a_sheet_as_spreadsheets_save_it() -> None:
    """Byte-order mark, CRLF, quotes, blanks, empty lines, columns in another order, a date and an instant."""
    sheet = read('\ufeffname,expires , Serial\r\n "gate, no",2026-12-31,A-1\r\n\r\n,2026-10-01T12:00:00+02:00,B:2\r\n,,\r\n')
    assert sheet.faults[0]["path"] == "line 2, name", "a comma is in no name"
    sheet = read('\ufeffname,expires , Serial\r\n"gate ""x""",,A-1')
    assert "must be 1 to 63" in sheet.faults[0]["problem"]
    sheet = read('\ufeffname,expires , Serial\r\n "gate no",2026-12-31,A-1\r\n\r\n,2026-10-01T12:00:00+02:00,B:2\r\n,,\r\n')
    assert sheet.faults == []
    assert sheet.claims == [
        WantedClaim("A-1", None, "default", "gate no", pytest.approx(1798761600.0, abs=1)),
        WantedClaim("B:2", None, "default", None, 1790848800.0),
    ]


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("", "line 1", "is empty; the first line names the columns"),
        (HEADER, "line 1", "no line below"),
        ("serial;profile\nA;rpi-5\n", "line 1", "must be commas"),
        ("serial,colour\nA,red\n", "line 1", "'colour' is no column"),
        ("serial,serial\nA,A\n", "line 1", "names the column serial twice"),
        (HEADER + "A,rpi-5,yard,gate\n", "line 2", "has 4 values"),
        (HEADER + ",,,,\n\nA,RPI 5,,,\n", "line 4, profile", "must be the id of a board profile"),
        (HEADER + "A,,/etc,,\n", "line 2, group", "must be 1 to 63"),
        (HEADER + "A,,,x/../y,\n", "line 2, name", "must be 1 to 63"),
        (HEADER + "A,,,,yesterday\n", "line 2, expires", "neither a date"),
        (HEADER + "A,,,,2020-01-01\n", "line 2, expires", "has passed"),
        (HEADER + "A,,,,2099-01-01\n", "line 2, expires", "400 days"),
        (HEADER + "A,,,,\nB,,,,\nA,,,,\n", "line 4, serial", "stands in line 2 already"),
        (HEADER + "A,,,n,\nB,,,n,\n", "line 3, name", "stands in line 2 already"),
        (HEADER + "A,,,taken,\n", "line 2, name", "a device named 'taken' already"),
        (HEADER + "@SUM(A1),,,,\n", "line 2, serial", "must be 1 to 64"),
        (HEADER + '"A\nB",,,,\n', "line 2, serial", "must be 1 to 64"),
        (HEADER + '"A,,,,\n', "line 2", "is not CSV"),
        (HEADER + "A\x00,,,,\n", "line 2, serial", ""),
    ],
)
def test_every_fault_is_named_with_its_line(text: str, path: str, problem: str) -> None:
    sheet = read(text, names_taken={"taken"})
    assert sheet.claims == []
    assert (sheet.faults[0]["path"], problem in sheet.faults[0]["problem"]) == (path, True), sheet.faults


def test_all_faults_are_told_up_to_a_hundred() -> None:
    sheet = read(HEADER + "=x,,/,,\n" * 80)
    assert len(sheet.faults) == 101
    assert sheet.faults[-1]["problem"] == "and 139 more faults"
    assert read(HEADER + "".join(f"S{n},,,,\n" for n in range(10_001))).faults[0]["problem"].startswith("a file has at most")


@given(st.text(max_size=200))
def test_no_text_is_more_than_wrong(text: str) -> None:
    """Whatever comes is read or refused; nothing is made of what is refused."""
    sheet = read(text)
    assert bool(sheet.claims) != bool(sheet.faults)


@given(st.lists(st.tuples(*[st.text(max_size=8)] * 5), max_size=5))
def test_whatever_a_spreadsheet_writes_is_read_or_refused(rows: list[tuple[str, ...]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(claims_csv.COLUMNS)
    writer.writerows(rows)
    sheet = read(out.getvalue())
    for one in sheet.claims:
        assert one.serial is None or not one.serial.startswith(("=", "+", "-", "@"))


def make(database: Database, text: str, **given: Any) -> list[service.NewClaim]:
    with database.write() as session:
        return service.make_claims_of_csv(session, text, accept=True, ttl_s=60.0, who="ada", now_s=NOW_S, **given)


def test_ten_thousand_claims_or_none(database: Database) -> None:
    """The largest sheet in one transaction; the same with one wrong line makes none; each is listed once, page by page."""
    rows = [f"S{number:05},rpi-5,yard,cam {number}," for number in range(10_000)]
    with pytest.raises(FaultyError) as caught:
        make(database, HEADER + "\n".join([*rows[:-1], rows[0]]))
    assert caught.value.faults[0]["path"] == "line 10001, serial"
    with database.read() as session:
        assert service.claims(session, NOW_S) == []
    made = make(database, HEADER + "\n".join(rows))
    assert len({one.token for one in made}) == 10_000
    assert (made[7].serial, made[7].device_name, made[7].expires_s) == ("S00007", "cam 7", NOW_S + 60)
    seen: list[str] = []
    with database.read() as session:
        while page := service.claims(session, NOW_S, 2500, after=seen[-1] if seen else ""):
            seen += [one.id for one in page]
        assert sorted(seen) == sorted(one.id for one in made)
        assert [one.serial for one in service.claims(session, NOW_S, text="S00042")] == ["S00042"]
        assert len(service.claims(session, NOW_S + 61, 10, state="expired")) == 10
        assert service.claims(session, NOW_S, state="used") == []
        for wrong in ({"state": "lost"}, {"after": "c-none"}):
            with pytest.raises(InvalidError):
                service.claims(session, NOW_S, **wrong)  # type: ignore[arg-type]


def test_an_ended_claim_lets_nobody_in(database: Database, issuer: Any, new_board: Any) -> None:
    """Ended twice is ended once; a used one cannot be ended; what is foreign to a limited account is not there for it."""
    first, second = make(database, "serial,group\n0123456789abcdef,yard\n,yard\n")
    with database.write() as session:
        for _ in range(2):
            service.end_claim(session, first.id, who="ada", origin="", now_s=NOW_S)
    with pytest.raises(ForbiddenError, match="ended this claim"), database.write() as session:
        service.enrol(session, new_board().request(first.token), issuer, origin="", now_s=NOW_S)
    with database.write() as session:
        service.enrol(session, new_board().request(second.token), issuer, origin="", now_s=NOW_S)
    with pytest.raises(ConflictError, match="used already"), database.write() as session:
        service.end_claim(session, second.id, who="ada", origin="", now_s=NOW_S)
    for unknown, groups in (("c-none", None), (first.id, frozenset({"dock"}))):
        with pytest.raises(NotFoundError, match="there is no claim"), database.write() as session:
            service.end_claim(session, unknown, who="ada", origin="", now_s=NOW_S, groups=groups)
    with pytest.raises(FaultyError, match="no claim was made"):
        make(database, "group\nyard\n", groups={"dock"})
