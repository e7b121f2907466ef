"""What every verb is handed: where to talk to, how to print, and whether it may ask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from fleet_server.cli.errors import USAGE, CliError

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client


@dataclass(slots=True)
class Session:
    """What every verb needs: where to, how to print, and whether it may ask."""

    server: str | None
    context: str | None
    output: str
    ask: bool

    def client(self) -> "Client":
        """A client for the chosen server; raises CliError when none is known."""
        from fleet_server.cli.client_http import Client
        from fleet_server.cli.settings_disk import choose_target

        return Client(choose_target(self.server, self.context))

    def secret(self, flag: str, prompt: str) -> str:
        """Ask for a secret without showing it; where nobody can be asked, say which flag takes it instead."""
        if not self.ask:
            raise CliError(USAGE, f"{prompt} is needed and nobody can be asked", f"give it with {flag}")
        return str(click.prompt(prompt, hide_input=True, err=True))

    def secret_is_asked(self, flag: str, prompt: str) -> None:
        """Say which flag takes a secret where nobody can be asked for it."""
        if not self.ask:
            raise CliError(USAGE, f"{prompt} is needed and nobody can be asked", f"give it with {flag}")

    def confirm(self, yes: bool, question: str) -> None:
        """Ask before what cannot be undone; where nobody can be asked, ``--yes`` must have been said."""
        if yes:
            return
        if not self.ask:
            raise CliError(USAGE, f"{question} nobody can be asked", "say --yes")
        click.confirm(question, abort=True, err=True)


pass_session = click.make_pass_decorator(Session)


def segment(text: str) -> str:
    """A name or id as one part of a path: what a person types cannot lead to another route."""
    return quote(text, safe="")
