"""``rookery``: the operators' command. Verbs are loaded when they are called, so that help and completion stay quick."""

import importlib
import os
import sys

import click

from fleet_server.cli.errors import FAILURE, INTERRUPTED, CliError
from fleet_server.cli.output import lines
from fleet_server.cli.session import Session

COMMANDS = {
    "login": ("fleet_server.cli.sessions:login", "Log in to a fleet server and remember it."),
    "whoami": ("fleet_server.cli.sessions:whoami", "Show who you are to the server, and what you may do."),
    "account": ("fleet_server.cli.accounts:account", "Who may sign in; your own password and second factor."),
    "token": ("fleet_server.cli.tokens:token", "What programs sign in with: scopes, groups, an end."),
    "device": ("fleet_server.cli.devices:device", "Boards of the fleet: list, show, why-not, logs, debug, replace, revoke."),
    "claim": ("fleet_server.cli.claims:claim", "One-time tokens with which boards enrol: create, csv, list, end."),
    "enrolment": ("fleet_server.cli.enrolments:enrolment", "The boards that ask to join: list, accept, reject."),
    "rule": ("fleet_server.cli.rules:rule", "Which boards are let in without a claim: add, list, test, remove."),
    "key": ("fleet_server.cli.keys:key", "Keys and roles: ceremonies, rotation, revocation, what ends when."),
    "root": ("fleet_server.cli.roots:root", "The ceremony's verbs under their first names; see key."),
    "policy": ("fleet_server.cli.policies:policy", "Boards' policies that travel, signed offline: sign, push."),
    "channel": ("fleet_server.cli.channels:channel", "Signed lines that releases are published on."),
    "bundle": ("fleet_server.cli.bundles:bundle", "Releases: build, sign, verify, info, diff, push, yank, carry on a stick."),
    "config": ("fleet_server.cli.configurations:config", "What cameras are told, by fleet, group and device."),
    "rollout": ("fleet_server.cli.rollouts:rollout", "A release on its way through the fleet."),
    "experiment": ("fleet_server.cli.experiments:experiment", "Two releases compared on sticky shares of the fleet."),
    "detection": ("fleet_server.cli.detections:detection", "Events with their crops and verdicts."),
    "alert": ("fleet_server.cli.alerts:alert", "What needs a person."),
    "audit": ("fleet_server.cli.audits:audit", "Who did what, and when."),
}


class LazyGroup(click.Group):
    """Imports a verb's module when the verb is called; its one-line help stands in ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of ``COMMANDS``: what a newcomer needs first comes first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The real command, loaded now; None for an unknown verb."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--server", metavar="URL", help="Fleet server (else ROOKERY_SERVER, else the context in use).")
@click.option("-c", "--context", metavar="NAME", help="Remembered server to use.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "ndjson", "name"]), default="table", show_default=True)
@click.option("--no-input", is_flag=True, help="Never ask; a question ends with exit code 2.")
@click.version_option(package_name="rookery", prog_name="rookery")
@click.pass_context
def cli(ctx: click.Context, server: str | None, context: str | None, output: str, no_input: bool) -> None:
    """Run a fleet of cameras that see for themselves.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 login needed or denied, 5 conflict (signature, version, hash),
    6 some devices failed, 7 timed out waiting, 130 interrupted.
    """
    ctx.obj = Session(server, context, output, not no_input and sys.stdin.isatty())


def main() -> None:
    """Entry point: every expected failure ends with a sentence, a hint and its exit code; never with a stack trace."""
    try:
        cli.main(standalone_mode=False)
    except CliError as error:
        click.echo(f"rookery: {lines(error.message)}", err=True)
        if error.hint:
            click.echo(f"         {lines(error.hint)}", err=True)
        sys.exit(error.code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("rookery: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (BrokenPipeError, KeyboardInterrupt) as error:
        sys.exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILURE)
    except Exception as error:
        if os.environ.get("ROOKERY_TRACE"):
            raise
        click.echo(f"rookery: unexpected {type(error).__name__}: {lines(str(error))}", err=True)
        click.echo("         this is a fault of rookery; ROOKERY_TRACE=1 shows where", err=True)
        sys.exit(FAILURE)


if __name__ == "__main__":
    main()
