"""``rookery claim``: one-time tokens with which boards enrol."""

from pathlib import Path

import click

from fleet_server.cli.errors import FAILURE, CliError
from fleet_server.cli.output import Row, clock, print_items, talk
from fleet_server.cli.session import Session, pass_session, segment


@click.group()
def claim() -> None:
    """One-time tokens with which boards enrol: create, csv, list, end."""


@claim.command()
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--profile", metavar="ID", help="Only a board of this profile may use it.")
@click.option("--serial", metavar="SERIAL", help="Only the board with this serial number may use it.")
@click.option("--group", metavar="NAME", help="Group that the device joins.")
@click.option("--name", "device_name", metavar="NAME", help="Name that the device gets.")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 365), help="How long it may wait to be used.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the one token into this file (0600) instead of printing it.")
@pass_session
def create(session: Session, count: int, profile: str | None, serial: str | None, group: str | None, device_name: str | None,
           days: int, out: Path | None) -> None:  # fmt: skip
    """Make claims. Each token is shown once, here."""
    if out and count != 1:
        raise click.UsageError("--out takes one token: leave --count at 1")
    body = {"count": count, "profile": profile, "serial": serial, "group": group, "device_name": device_name,
            "expires_in_s": days * 86_400}  # fmt: skip
    items = session.client().post("/claims", {key: value for key, value in body.items() if value is not None})["items"]
    if out:
        try:
            out.touch(mode=0o600, exist_ok=False)
            out.write_text(items[0]["token"] + "\n")
        except OSError as error:
            raise CliError(
                FAILURE, f"cannot write {out}: {error.strerror}", "the claim was made; it is worthless unused"
            ) from None
        talk(f"claim {items[0]['id']} written to {out}, valid until {clock(items[0]['expires_s'])}")
        return
    columns = [
        ("id", lambda item: item["id"]),
        ("token", lambda item: item["token"]),
        ("until", lambda item: clock(item["expires_s"])),
    ]
    print_items(items, columns, session.output, "token")


@claim.command("csv")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="Write the tokens into this new file, as CSV, for its owner alone.",
)  # fmt: skip
@click.option("--ask", is_flag=True, help="A person decides about each board that brings one of these claims.")
@pass_session
def of_csv(session: Session, file: Path, out: Path, ask: bool) -> None:
    """Make a claim for each line of FILE: serial,profile,group,name,expires (the first line names the columns).

    All or none: where a line is wrong each fault is named with its number. "expires" is a date (2027-01-31) or an instant with
    its time zone; empty: as long as the server's setting says.
    """
    from fleet_server.cli.claims_file_disk import read_sheet, reserved, token_sheet

    text = read_sheet(file)
    client = session.client()
    with reserved(out) as keep:  # first: a folder that cannot be written must not cost ten thousand tokens
        items = client.post("/claims/csv", {"csv": text, "accept": not ask})["items"]
        keep(token_sheet(items))
    talk(f"{len(items)} claims written to {out}; the tokens are shown nowhere else")
    if session.output != "table":
        print_items([{key: value for key, value in item.items() if key != "token"} for item in items], [], session.output)


def _purpose(item: Row) -> str:
    purpose = str(item.get("purpose", "enrol"))
    return purpose if purpose == "enrol" else f"{purpose} {item.get('for_device')}"


@claim.command("list")
@click.option("--state", type=click.Choice(["unused", "used", "expired", "ended"]))
@click.option("-q", "--query", metavar="TEXT", help="Part of an id, serial number, name or group.")
@pass_session
def list_claims(session: Session, state: str | None, query: str | None) -> None:
    """List claims; tokens are not shown again."""
    columns = [
        ("id", lambda item: item["id"]),
        ("state", lambda item: item.get("state")),
        ("to", _purpose),
        ("device", lambda item: item.get("device")),
        ("group", lambda item: item.get("group")),
        ("profile", lambda item: item.get("profile")),
        ("serial", lambda item: item.get("serial")),
        ("until", lambda item: clock(item.get("expires_s"))),
    ]
    print_items(session.client().items("/claims", state=state, q=query), columns, session.output)


@claim.command()
@click.argument("claims", nargs=-1, required=True, metavar="ID...")
@pass_session
def end(session: Session, claims: tuple[str, ...]) -> None:
    """Make claims worthless before they are used."""
    client = session.client()
    for each in claims:
        client.post(f"/claims/{segment(each)}/end")
        talk(f"claim {each} is ended")
