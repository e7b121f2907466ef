"""``rookery login`` and ``whoami``."""

import os
import socket
from pathlib import Path

import click

from fleet_server.cli.output import clock, print_one, talk
from fleet_server.cli.proofs import STDIN_HELP, read_proof
from fleet_server.cli.session import Session, pass_session
from fleet_server.cli.settings_disk import Target, choose_target, save_context


@click.command()
@click.option("--server", metavar="URL", help="For instance http://127.0.0.1:8080.")
@click.option("--name", "account", metavar="NAME", help="Account name (else asked).")
@click.option("--password-stdin", is_flag=True, help=STDIN_HELP)
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 365), help="How long the token lives.")
@click.option("--ca-file", metavar="PEM", help="Authority of the server's certificate, its pki/ca.pem (else ROOKERY_CA_FILE).")
@click.option("--as", "context_name", default="default", show_default=True, help="Name to remember this server by.")
@pass_session
def login(
    session: Session, server: str | None, account: str | None, password_stdin: bool, days: int, ca_file: str | None,
    context_name: str,
) -> None:  # fmt: skip
    """Log in to a fleet server and remember it.

    The password (and the code of your second factor, where you have one) buys a token, which is kept in the configuration file
    (0600); the password is not kept.
    """
    from fleet_server.cli.client_http import Client

    url = server or session.server or choose_target(None, session.context).server
    name = account or (click.prompt("name", err=True) if session.ask else session.secret("--name", "the account name"))
    proof = read_proof(session, password_stdin, None)
    trusted = ca_file or os.environ.get("ROOKERY_CA_FILE") or ""
    trusted = str(Path(trusted).absolute()) if trusted else ""
    client = Client(Target(url.rstrip("/"), "", trusted))
    token_name = f"rookery on {socket.gethostname()}"
    shown = {"name": name, "password": proof.password, "code": proof.code}
    answer = client.post("/tokens", {**shown, "token_name": token_name, "expires_s": days * 86_400})
    path = save_context(context_name, Target(url.rstrip("/"), answer["token"], trusted))
    talk(f"logged in to {url} until {clock(answer['expires_s'])}; remembered in {path}")


@click.command()
@pass_session
def whoami(session: Session) -> None:
    """Show who you are to the server, and what you may do."""
    client = session.client()
    me = client.get("/whoami")
    lines = [("server", client.server), *((key, me[key]) for key in ("name", "role"))]
    lines.append(("scopes", ", ".join(me.get("scopes") or [])))
    print_one(me, lines, session.output, "name")
