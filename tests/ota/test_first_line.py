"""A passphrase comes from a file, or from a pipe that a password store fills: and never from what has no end or no beginning."""

import os
import threading
from pathlib import Path

import pytest

from ota.plain_disk import read_first_line


def test_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"correct horse\r\nnot this\n")
    assert read_first_line(tmp_path / "words") == b"correct horse"


def test_a_pipe_of_a_password_store() -> None:
    """``--passphrase-file <(pass show fleet)``: the shell hands a pipe whose writer is slow, and stays open behind the line."""
    out, back = os.pipe()
    writer = threading.Thread(target=lambda: [os.write(back, piece) for piece in (b"correct ", b"horse", b"\n")])
    writer.start()
    try:
        assert read_first_line(Path(f"/dev/fd/{out}")) == b"correct horse"
    finally:
        writer.join()
        os.close(back)
        os.close(out)


@pytest.mark.parametrize("case", ["empty", "folder", "device", "endless", "silent"])
def test_what_holds_no_passphrase_says_so(tmp_path: Path, case: str) -> None:
    """Nothing waits for ever, and nothing without end is read to its end."""
    place = tmp_path / case
    if case == "folder":
        place.mkdir()
    elif case == "device":
        place = Path("/dev/zero")
    elif case == "silent":
        os.mkfifo(place)
    else:
        place.write_bytes(b"" if case == "empty" else b"a" * 200_000)
    with pytest.raises(OSError, match=r"no line|no end|neither|within|directory"):
        read_first_line(place, deadline_s=0.05)
