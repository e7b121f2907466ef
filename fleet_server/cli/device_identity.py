"""``rookery device readmit|replace|decommission``: an operator's word about who a device is."""

from pathlib import Path
from typing import Any

import click

from fleet_server.cli.errors import USAGE, CliError
from fleet_server.cli.output import clock, print_one, talk
from fleet_server.cli.session import Session, pass_session, segment

OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the one token into this file (0600) instead of printing it.",
)  # fmt: skip
HOURS = click.option(
    "--hours", type=click.IntRange(1, 400 * 24), help="How long the claim may wait to be used (else the server's setting)."
)


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; it stands in the audit.")
@HOURS
@OUT
@pass_session
def readmit(session: Session, name: str, reason: str, hours: int | None, out: Path | None) -> None:
    """Let a wiped board in again as the device that it was.

    Makes a claim: put it on the board. When the board brings it, it is NAME again, with name, group and history, and every
    older certificate of NAME ends. Also for a device that was revoked and came back, and for the true one of two that share an
    identity.
    """
    _with_claim(session, name, "readmit", {"reason": reason}, hours, out)


@click.command()
@click.argument("name")
@click.option("--serial", metavar="SERIAL", help="Only the board with this serial number may use the claim.")
@click.option("--reason", default="", help="Why; it stands in the audit.")
@HOURS
@OUT
@pass_session
def replace(session: Session, name: str, serial: str | None, reason: str, hours: int | None, out: Path | None) -> None:
    """Put another board in the place of a dead one.

    Makes a claim: put it on the new board. When the board brings it, it takes over NAME's name, group, configuration (zones too),
    wanted release and history, and the old board is decommissioned. Until then nothing changes.
    """
    _with_claim(session, name, "replace", {"reason": reason, "serial": serial}, hours, out)


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; it stands in the audit.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def decommission(session: Session, name: str, reason: str, yes: bool) -> None:
    """End a device for good: keys worthless, name free, history kept. It never comes back."""
    if not yes:
        if not session.ask:
            raise CliError(USAGE, f"{name} would never come back, and nobody can be asked", "say --yes if you mean it")
        typed = click.prompt(f"{name} never comes back. Type its name to decommission it", err=True)
        if typed != name:
            raise CliError(USAGE, f"{typed!r} is not {name!r}: nothing was done")
    answer = session.client().post(f"/devices/{segment(name)}/decommission", {"reason": reason})
    talk(f"{name} ({answer['device']}) is decommissioned; its name is free")


def _with_claim(session: Session, name: str, verb: str, body: dict[str, Any], hours: int | None, out: Path | None) -> None:
    from fleet_server.cli.claims_file_disk import reserved

    if hours is not None:
        body["expires_in_s"] = hours * 3600
    path, sent = f"/devices/{segment(name)}/{verb}", {key: value for key, value in body.items() if value is not None}
    if out is not None:
        with reserved(out) as keep:
            claim = session.client().post(path, sent)["claim"]
            keep(f"{claim['token']}\n".encode())
        talk(f"claim {claim['id']} written to {out}, valid until {clock(claim['expires_s'])}")
        return
    answer = session.client().post(path, sent)
    claim = answer["claim"]
    lines = [
        ("device", answer["device"]), ("claim", claim["id"]), ("token", claim["token"]), ("until", clock(claim["expires_s"])),
    ]  # fmt: skip
    if session.output == "name":
        print_one(claim, [], "name", "token")
        return
    print_one(answer, lines, session.output)
