"""``rookery claim``: one-time tokens with which boards enrol."""

from pathlib import Path

import click

from fleet_server.cli.errors import FAILURE, CliError
from fleet_server.cli.output import clock, print_items, talk
from fleet_server.cli.session import Session, pass_session


@click.group()
def claim() -> None:
    """One-time tokens with which boards enrol."""


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


@claim.command("list")
@pass_session
def list_claims(session: Session) -> None:
    """List claims; tokens are not shown again."""
    columns = [
        ("id", lambda item: item["id"]),
        ("state", lambda item: item.get("state")),
        ("device", lambda item: item.get("device")),
        ("group", lambda item: item.get("group")),
        ("profile", lambda item: item.get("profile")),
        ("until", lambda item: clock(item.get("expires_s"))),
    ]
    print_items(session.client().items("/claims"), columns, session.output)
