"""``rookery token``: what programs sign in with."""

from pathlib import Path
from typing import Any

import click

from fleet_server.cli.new_file_disk import new_file
from fleet_server.cli.output import Column, ago, clock, print_items, print_one, talk
from fleet_server.cli.proofs import STDIN_HELP, read_proof
from fleet_server.cli.session import Session, pass_session, segment

SCOPES = click.Choice(["viewer", "operator", "releaser", "security", "admin", "account"])


@click.group()
def token() -> None:
    """API tokens, for your programs: never wider than the account, with an end, shown once."""


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, required=True, help="What it may do (may be said again). account: "
              "your own password, sessions and tokens.")  # fmt: skip
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only devices of this group (may be said again).")
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(0, 400, min_open=True), help="Until it ends.")
@click.option("--for", "machine", metavar="MACHINE", help="For a machine's account, as an admin.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it into this new file (0600) instead of printing it.")
@click.option("--password-stdin", is_flag=True, help=STDIN_HELP)
@pass_session
def create(session: Session, name: str, scopes: tuple[str, ...], groups: tuple[str, ...], days: float, machine: str | None,
           out: Path | None, password_stdin: bool) -> None:  # fmt: skip
    """Make a token called NAME. Your own asks for your password."""
    body = {"token_name": name, "scopes": list(scopes), "groups": list(groups) or None, "expires_s": days * 86_400}
    if out is None:
        answer = _made(session, body, machine, password_stdin)
        print_one(answer, [("token", answer["token"]), ("until", clock(answer["expires_s"]))], session.output, "token")
        return
    hint = f"the token {name!r} was made: end it (rookery token list)"
    with new_file(out, nothing="no token was made; name another file", made=hint) as keep:
        answer = _made(session, body, machine, password_stdin)
        keep(f"{answer['token']}\n".encode())
    talk(f"token {name!r} is in {out}, valid until {clock(answer['expires_s'])}")


def _made(session: Session, body: dict[str, Any], machine: str | None, password_stdin: bool) -> Any:
    client = session.client()
    if machine:
        return client.post(f"/accounts/{segment(machine)}/tokens", body)
    mine = client.get("/account")
    proof = read_proof(session, password_stdin, bool(mine["second_factor"])) if mine["kind"] == "person" else None
    given = {"password": proof.password if proof else "", "code": proof.code if proof else ""}
    return client.post("/account/tokens", body | given)


@token.command("list")
@click.option("--for", "machine", metavar="NAME", help="Those of another account, as an admin.")
@pass_session
def list_tokens(session: Session, machine: str | None) -> None:
    """List tokens; what opens the door is not shown again."""
    columns: list[Column] = [
        ("id", lambda item: item["id"]),
        ("name", lambda item: item["name"]),
        ("may", lambda item: ", ".join(item["scopes"]) if item["scopes"] is not None else "all of the role"),
        ("devices", lambda item: ", ".join(item["groups"]) if item["groups"] is not None else "as the account"),
        ("last used", lambda item: ago(item["seen_s"])),
        ("until", lambda item: clock(item["expires_s"])),
    ]
    path = f"/accounts/{segment(machine)}/tokens" if machine else "/account/tokens"
    print_items(session.client().items(path), columns, session.output)


@token.command()
@click.argument("token_id")
@click.option("--for", "machine", metavar="NAME", help="Of another account, as an admin.")
@pass_session
def end(session: Session, token_id: str, machine: str | None) -> None:
    """End a token now, by its id."""
    base = f"/accounts/{segment(machine)}/tokens" if machine else "/account/tokens"
    session.client().delete(f"{base}/{segment(token_id)}")
    talk(f"token {token_id} has ended")
