"""Claims by the thousand from a spreadsheet: ``serial,profile,group,name,expires``. All or none; faults name their line. Pure."""

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

COLUMNS = ("serial", "profile", "group", "name", "expires")
MAX_ROWS = 10_000
MAX_FAULTS = 100
"""Listed in one answer; the rest is counted."""
LONGEST_S = 400 * 86_400.0

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
NAME_RULE = "must be 1 to 63 letters, digits, blanks, '.', '_' or '-', and begin with a letter or digit"
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
SERIAL_RULE = "must be 1 to 64 letters, digits, '.', '_', ':', '/' or '-', and begin with a letter or digit"
PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
PROFILE_RULE = "must be the id of a board profile, such as rpi-5"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class WantedClaim:
    """One line: None binds to nothing; ``expires_s`` None: as long as the server's setting says."""

    serial: str | None
    profile: str | None
    group: str
    device_name: str | None
    expires_s: float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was read; ``faults`` is empty where all of it can be used. Each fault: {path: ``line 7, serial``, problem}."""

    claims: list[WantedClaim]
    faults: list[dict[str, str]]


def read(text: str, *, now_s: float, names_taken: Collection[str] = ()) -> Sheet:
    """The claims of a CSV text with a first line that names its columns (any order, any subset of ``COLUMNS``).

    ``names_taken``: names of devices; a claim cannot promise one of them. A byte-order mark, CRLF, quotes, blanks around
    values and empty lines are fine.
    """
    faults: list[dict[str, str]] = []
    claims: list[WantedClaim] = []
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True, skipinitialspace=True)
    try:
        header = [word.strip().lower() for word in next(reader, [])]
        faults += _header_faults(header)
        if not faults:
            _read_rows(reader, header, claims, faults, now_s, set(names_taken))
    except csv.Error as error:
        faults.append(_fault(reader.line_num, "", f"is not CSV: {error}"))
    if not claims and not faults:
        faults.append(_fault(1, "", "there is no line below the names of the columns"))
    return Sheet([] if faults else claims, _shortened(faults))


def _header_faults(header: list[str]) -> list[dict[str, str]]:
    wanted = f"the first line names the columns: {','.join(COLUMNS)} (any of them)"
    if not any(header):
        return [_fault(1, "", f"is empty; {wanted}")]
    unknown = [word for word in header if word not in COLUMNS]
    if unknown:
        hint = " (are the columns parted by semicolons or tabs? they must be commas)" if len(header) == 1 else ""
        return [_fault(1, "", f"{unknown[0][:60]!r} is no column; {wanted}{hint}")]
    twice = sorted({word for word in header if header.count(word) > 1})
    return [_fault(1, "", f"names the column {word} twice") for word in twice]


def _read_rows(
    reader: Any, header: list[str], claims: list[WantedClaim], faults: list[dict[str, str]], now_s: float,
    names_taken: set[str],
) -> None:  # fmt: skip
    seen: dict[str, dict[str, int]] = {"serial": {}, "name": {}}
    line = reader.line_num + 1
    for row in reader:
        at, line = line, reader.line_num + 1  # a quoted value may go over several lines: its row begins at the first
        values = [value.strip() for value in row]
        if not any(values):
            continue
        if len(claims) >= MAX_ROWS:
            faults.append(_fault(at, "", f"a file has at most {MAX_ROWS} claims"))
            return
        if len(values) != len(header):
            faults.append(_fault(at, "", f"has {len(values)} values; the first line names {len(header)} columns"))
            continue
        cells = dict(zip(header, values, strict=True))
        found = _cell_faults(cells, at, seen, names_taken)
        expires_s, problem = _expiry(cells.get("expires", ""), now_s)
        faults += found + ([_fault(at, "expires", problem)] if problem else [])
        claims.append(
            WantedClaim(
                cells.get("serial") or None, cells.get("profile") or None, cells.get("group") or "default",
                cells.get("name") or None, expires_s,
            )
        )  # fmt: skip


def _cell_faults(
    cells: Mapping[str, str], line: int, seen: dict[str, dict[str, int]], names_taken: set[str]
) -> list[dict[str, str]]:
    faults = [
        _fault(line, column, rule)
        for column, pattern, rule in (
            ("serial", SERIAL, SERIAL_RULE), ("profile", PROFILE, PROFILE_RULE), ("group", NAME, NAME_RULE),
            ("name", NAME, NAME_RULE),
        )
        if cells.get(column) and not pattern.fullmatch(cells[column])
    ]  # fmt: skip
    for column, of_column in seen.items():
        value = cells.get(column)
        if not value:
            continue
        if value in of_column:
            faults.append(_fault(line, column, f"{value[:64]!r} stands in line {of_column[value]} already"))
        of_column.setdefault(value, line)
    if cells.get("name") in names_taken:
        faults.append(_fault(line, "name", f"there is a device named {cells['name']!r} already"))
    return faults


def _expiry(text: str, now_s: float) -> tuple[float | None, str]:
    """The end of a day (UTC) for a date, else the instant; or what is wrong."""
    if not text:
        return None, ""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None, f"{text[:40]!r} is neither a date (2027-01-31) nor an instant (2027-01-31T12:00:00+00:00)"
    if _DATE.fullmatch(text):
        at = datetime.combine(at.date(), time.max)
    at_s = (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    if at_s <= now_s:
        return None, f"{text} has passed"
    if at_s > now_s + LONGEST_S:
        return None, f"{text} is more than {LONGEST_S / 86_400:.0f} days ahead"
    return at_s, ""


def _fault(line: int, column: str, problem: str) -> dict[str, str]:
    return {"path": f"line {line}" + (f", {column}" if column else ""), "problem": problem}


def _shortened(faults: list[dict[str, str]]) -> list[dict[str, str]]:
    more = len(faults) - MAX_FAULTS
    return faults if more <= 0 else [*faults[:MAX_FAULTS], {"path": "", "problem": f"and {more} more faults"}]
