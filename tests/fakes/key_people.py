"""People with keys and the command line at hand, in one process: ceremonies of many sittings are many commands."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click

from fleet_server.cli.errors import USAGE, CliError
from fleet_server.cli.main import cli
from ota.trust.keys import key_to_dict
from ota.trust.keys_disk import generate_key

ONLINE = ("snapshot", "timestamp", "assignment")


@dataclass(frozen=True)
class Said:
    """How a command ended; ``err`` has the error's sentence and hint, too."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Everything that it said."""
        return self.out + self.err


class Desk:
    """``desk("key", "sign", …)`` in ``folder``, with settings and environment of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {"ROOKERY_CONFIG": str(folder / "settings" / "config.toml"), **environment}

    def __call__(self, *arguments: object, **environment: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ROOKERY_", "AWS_"))}
        with (
            mock.patch.dict(os.environ, kept | self.environment | environment, clear=True),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = self._run([str(one) for one in arguments], err)
        return Said(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: object, **environment: str) -> Said:
        """The same; it must end well."""
        said = self(*arguments, **environment)
        assert said.code == 0, said.err
        return said

    def person(self, name: str) -> Path:
        """Make a key in the clear for a person: ``<name>.pem`` and ``<name>.pem.pub``."""
        self.ok("key", "generate", f"{name.lower()}.pem", "--name", name, "--no-passphrase")
        return self.folder / f"{name.lower()}.pem"

    def online(self) -> Path:
        """The public online keys of a server that is not there."""
        keys = {role: generate_key(self.folder / "server" / f"{role}.pem", None) for role in ONLINE}
        path = self.folder / "online.json"
        path.write_text(json.dumps({role: key_to_dict(key) for role, key in keys.items()} | {"next": {}}))
        return path

    def _run(self, arguments: list[str], err: io.StringIO) -> int:
        try:
            cli.main(arguments, prog_name="rookery", standalone_mode=False)
        except CliError as error:
            err.write(f"{error.message}\n{error.hint}\n")
            return error.code
        except click.exceptions.Exit as error:
            return error.exit_code
        except click.ClickException as error:
            err.write(error.format_message())
            return USAGE
        return 0


@contextlib.contextmanager
def another_machine(desk: Desk, folder: Path) -> Iterator[Desk]:
    """A desk elsewhere, with settings of its own."""
    folder.mkdir()
    yield Desk(folder)
