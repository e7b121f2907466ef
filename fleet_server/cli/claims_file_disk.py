"""Files of claims: the sheet that goes up, and the tokens that come back, for their owner alone."""

import contextlib
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.new_file_disk import new_file

LIMIT_BYTES = 1_500_000
"""What the server takes in one request: ten thousand full lines."""
COLUMNS = ("id", "token", "serial", "profile", "group", "name", "expires")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by a spreadsheet when it is opened."""


def read_sheet(file: Path) -> str:
    """The text of a CSV file, with or without a byte-order mark. CliError in words for what is none."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
    if len(data) > LIMIT_BYTES:
        raise CliError(CONFLICT, f"{file} has more than {LIMIT_BYTES:,} bytes", "part it: 10,000 claims go into one file")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CliError(CONFLICT, f"{file} is UTF-16", 'save it as "CSV UTF-8"')
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CliError(CONFLICT, f"{file} is not UTF-8 in line {line}", 'save it as "CSV UTF-8"') from None


def reserved(out: Path) -> contextlib.AbstractContextManager[Callable[[bytes], None]]:
    """Hold the name of a new file for the tokens of claims."""
    made = "the claims were made and are worthless unused: rookery claim list --state unused"
    return new_file(out, nothing="no claim was made; name another file", made=made)


def token_sheet(items: Sequence[Mapping[str, Any]]) -> bytes:
    """The claims with their tokens as CSV, safe to open in a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        until = datetime.fromtimestamp(item["expires_s"], UTC).isoformat(timespec="seconds")
        cells = (item["id"], item["token"], item["serial"], item["profile"], item["group"], item["device_name"], until)
        writer.writerow([harmless(cell) for cell in cells])
    return text.getvalue().encode()


def harmless(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
