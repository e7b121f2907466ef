"""The file of an export: grows as ``FILE.part``, goes on where a broken one ended, and appears under its name only when whole."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from fleet_server.cli.audit_check import Judge, lines_of, read_lines
from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from ota.durable_disk import fsync_folder
from ota.plain_disk import CHUNK_BYTES, open_plain


class Export:
    """One export on its way; a context. ``judge`` has looked at every row of it, ``rows`` were there from before."""

    def __init__(self, file: Path) -> None:
        if file.exists():
            raise CliError(CONFLICT, f"{file} is there already", "an export never replaces a file: choose another name")
        self._file, self._part = file, file.with_name(f"{file.name}.part")
        self.judge = Judge({})
        self.rows = 0
        self._stream: int | None = None

    def __enter__(self) -> "Export":
        try:
            kept_bytes = self._read_part() if self._part.exists() else 0
            self._stream = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.ftruncate(self._stream, kept_bytes)
            os.lseek(self._stream, kept_bytes, os.SEEK_SET)
        except OSError as error:
            raise CliError(FAILURE, f"cannot write {self._part}: {error.strerror or error}") from None
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._stream is not None:
            os.close(self._stream)

    def take(self, pieces: Iterable[bytes]) -> None:
        """What the server tells, to its signed end; then the file has its name. What does not fit stays in the ``.part``."""
        assert self._stream is not None
        try:
            read_lines((self._keep(line) for line in lines_of(pieces)), self.judge)
            os.fsync(self._stream)
            if not self.judge.findings:
                self._part.replace(self._file)
                fsync_folder(self._file.parent)
        except OSError as error:
            raise CliError(FAILURE, f"cannot write {self._part}: {error.strerror or error}") from None

    def _keep(self, line: bytes) -> bytes:
        assert self._stream is not None
        view = memoryview(line)
        while view:
            view = view[os.write(self._stream, view) :]
        return line

    def _read_part(self) -> int:
        """The rows of an export that broke off, judged; answers how many bytes of them are whole lines."""
        with open_plain(self._part) as stream:
            kept_bytes = read_lines(lines_of(iter(lambda: stream.read(CHUNK_BYTES), b"")), self.judge)
        check = self.judge.check
        broken = [one for one in check.findings if "broke off" not in one.problem and "no line of" not in one.problem]
        if broken or self.judge.head is not None:
            raise CliError(CONFLICT, f"{self._part} holds what does not fit: it cannot go on", "remove it, and begin anew")
        check.findings.clear()
        check.faults = 0
        self.rows = check.count
        return kept_bytes
