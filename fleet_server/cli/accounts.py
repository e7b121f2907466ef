"""``rookery account``: people and machines, and one's own password and second factor."""

from typing import Any

import click

from fleet_server.cli.output import Column, Row, ago, clock, print_items, print_one, talk
from fleet_server.cli.proofs import STDIN_HELP, line, new_password, read_proof
from fleet_server.cli.session import Session, pass_session, segment

ROLES = click.Choice(["viewer", "operator", "releaser", "security", "admin"])
_COLUMNS: list[Column] = [
    ("name", lambda item: item["name"]),
    ("kind", lambda item: item["kind"]),
    ("role", lambda item: item["role"]),
    ("devices", lambda item: _reach(item["groups"])),
    ("state", lambda item: item["state"]),
    ("2nd factor", lambda item: "-" if item["kind"] == "machine" else item["second_factor"]),
    ("last sign-in", lambda item: "-" if item["kind"] == "machine" else ago(item["signed_in_s"])),
]


@click.group()
def account() -> None:
    """People and machines that may sign in; your own password and second factor.

    Roles: viewer looks; operator lets boards in and runs devices; releaser also publishes; security takes boards out and in
    again, and exports the audit; admin does all.
    """


@account.command()
@click.argument("name")
@click.option("--role", type=ROLES, required=True)
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only devices of this group (may be said again).")
@click.option("--machine", is_flag=True, help="Not a person: it gets tokens (rookery token create --for NAME) and no password.")
@pass_session
def add(session: Session, name: str, role: str, groups: tuple[str, ...], machine: bool) -> None:
    """Add somebody. A person gets a one-time link, printed here once, that sets their first password."""
    body = {"name": name, "role": role, "groups": list(groups) or None, "kind": "machine" if machine else "person"}
    answer = session.client().post("/accounts", body)
    if machine:
        talk(f"{name} is added; its first token: rookery token create NAME --for {name} --scope viewer")
        print_one(answer, [("name", name)], session.output, "name")
        return
    talk(f"{name} is added. Hand over the link yourself: whoever opens it first sets the password")
    print_one(answer, [("link", answer["link"]), ("until", clock(answer["expires_s"]))], session.output, "link")


@account.command("list")
@pass_session
def list_accounts(session: Session) -> None:
    """List accounts."""
    print_items(session.client().items("/accounts"), _COLUMNS, session.output, "name")


@account.command()
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """Show one account."""
    _print(session, session.client().get(f"/accounts/{segment(name)}"))


@account.command()
@click.argument("name")
@click.argument("role", type=ROLES)
@pass_session
def role(session: Session, name: str, role: str) -> None:
    """Give an account another role; what the person has open ends."""
    _print(session, session.client().put(f"/accounts/{segment(name)}", {"role": role}))


@account.command()
@click.argument("name")
@click.argument("groups", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="No limit any more.")
@pass_session
def groups(session: Session, name: str, groups: tuple[str, ...], everything: bool) -> None:
    """Limit an account to the devices of these groups; what the person has open ends."""
    if everything == bool(groups):
        raise click.UsageError("name the groups, or say --all")
    body: dict[str, Any] = {"all_groups": True} if everything else {"groups": list(groups)}
    _print(session, session.client().put(f"/accounts/{segment(name)}", body))


@account.command()
@click.argument("name")
@pass_session
def disable(session: Session, name: str) -> None:
    """End all that an account has open, and let it in no more."""
    session.client().post(f"/accounts/{segment(name)}/disable")
    talk(f"{name} is disabled")


@account.command()
@click.argument("name")
@pass_session
def enable(session: Session, name: str) -> None:
    """Let a disabled account in again, with the password of before."""
    session.client().post(f"/accounts/{segment(name)}/enable")
    talk(f"{name} is enabled")


@account.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def remove(session: Session, name: str, yes: bool) -> None:
    """Remove an account; what it did stays in the audit. Disabling keeps the name taken."""
    session.confirm(yes, f"Remove {name}?")
    session.client().delete(f"/accounts/{segment(name)}")
    talk(f"{name} is removed")


@account.command()
@click.argument("name")
@click.option("--second-factor", is_flag=True, help="Following it removes the second factor, too: the telephone is lost.")
@pass_session
def link(session: Session, name: str, second_factor: bool) -> None:
    """Make a one-time link with which a person sets a new password. Look first who asks you for it."""
    answer = session.client().post(f"/accounts/{segment(name)}/link", {"second_factor": second_factor})
    print_one(answer, [("link", answer["link"]), ("until", clock(answer["expires_s"]))], session.output, "link")


@account.command()
@click.option("--password-stdin", is_flag=True, help="Read password, code (or an empty line), new password from standard input.")
@pass_session
def password(session: Session, password_stdin: bool) -> None:
    """Change your own password. Every other session and token of yours ends."""
    client = session.client()
    proof = read_proof(session, password_stdin, bool(client.get("/account")["second_factor"]))
    new = new_password(session, password_stdin)
    answer = client.post("/account/password", {"password": proof.password, "code": proof.code, "new_password": new})
    talk(f"your password is changed; {answer['ended']} other sessions and tokens have ended")


@account.command("second-factor")
@click.option("--remove", "removed", is_flag=True, help="Switch it off.")
@click.option("--of", "name", metavar="NAME", help="With --remove: that of somebody else, as an admin.")
@click.option("--recovery-codes", is_flag=True, help="Make new recovery codes; the old ones end.")
@click.option("--password-stdin", is_flag=True, help=STDIN_HELP + " To set it up: then the first code of the new one.")
@pass_session
def second_factor(session: Session, removed: bool, name: str | None, recovery_codes: bool, password_stdin: bool) -> None:
    """Set up your own second factor: a code of your telephone beside your password."""
    client = session.client()
    if name:
        if not removed:
            raise click.UsageError("--of goes with --remove: nobody sets up the second factor of somebody else")
        client.delete(f"/accounts/{segment(name)}/second-factor")
        talk(f"{name} has no second factor any more; all that {name} had open has ended")
        return
    on = bool(client.get("/account")["second_factor"])
    proof = read_proof(session, password_stdin, on)
    shown = {"password": proof.password, "code": proof.code}
    if removed:
        client.post("/account/second-factor/remove", shown)
        talk("your second factor is off; every other session and token of yours has ended")
        return
    if recovery_codes:
        _codes(session, client.post("/account/recovery-codes", shown))
        return
    begun = client.post("/account/second-factor", shown)
    talk("type this key into the authenticator app of your telephone, or open the address on it:")
    talk(f"  {begun['secret']}\n  {begun['uri']}")
    code = line() if password_stdin else str(click.prompt("the code that it shows now", err=True))
    _codes(session, client.post("/account/second-factor/confirm", {"code": code}))
    talk("your second factor is on; every other session and token of yours has ended")


def _codes(session: Session, answer: Row) -> None:
    talk("recovery codes: each stands in for a code once; print them, they are not shown again")
    columns: list[Column] = [("code", lambda item: item["code"])]
    print_items([{"code": code} for code in answer["recovery_codes"]], columns, session.output, "code")


def _print(session: Session, item: Row) -> None:
    print_one(item, [(title, value(item)) for title, value in _COLUMNS], session.output, "name")


def _reach(limit: list[str] | None) -> str:
    return "all" if limit is None else ", ".join(limit) or "none"
