"""``rookery rollout``: a release on its way through the fleet."""

import time
from typing import Any

import click

from fleet_server.cli.errors import FAILURE, PARTIAL, TIMED_OUT, CliError
from fleet_server.cli.output import Row, clock, print_items, print_one, print_table, talk
from fleet_server.cli.session import Session, pass_session, segment

ENDED = ("finished", "aborted", "superseded")


@click.group()
def rollout() -> None:
    """A release on its way through the fleet."""


def _counts(item: Row) -> str:
    counts = item["counts"]
    return "  ".join(f"{name} {counts[name]}" for name in counts if counts[name]) or "nothing yet"


@rollout.command()
@click.argument("release", metavar="NAME@VERSION")
@click.option("--group", metavar="NAME", help="Devices of this group only.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="These devices only (repeat).")
@click.option(
    "--stages", default="5%,25%,100%", show_default=True, metavar="SHARES", help="Shares of the fleet, one after another."
)
@click.option("--max-failed", type=click.IntRange(0), help="Failures that a stage may have before the rollout pauses by itself.")
@click.option("--max-wait", "max_wait_s", type=click.IntRange(1), metavar="SECONDS", help="Held for a person after this long.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@pass_session
def create(session: Session, release: str, group: str | None, devices: tuple[str, ...], stages: str, max_failed: int | None,
           max_wait_s: int | None, dry_run: bool) -> None:  # fmt: skip
    """Send a release on its way, stage by stage."""
    selector: dict[str, Any] = {key: value for key, value in (("group", group), ("devices", list(devices))) if value}
    body: dict[str, Any] = {"release": release, "selector": selector, "stages": _shares(stages), "dry_run": dry_run}
    body |= {key: value for key, value in (("max_failed", max_failed), ("max_wait_s", max_wait_s)) if value is not None}
    answer = session.client().post("/rollouts", body)
    print_one(answer, [
        ("rollout", answer.get("id") or "(dry run: nothing changed)"), ("release", answer["release"]), ("state", answer["state"]),
        ("stages", ", ".join(f"{stage['share']:.0%}: {stage['devices']}" for stage in answer["stages"])),
    ], session.output)  # fmt: skip
    if not dry_run:
        talk(f"watch it with: rookery rollout watch {answer['id']}")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part.strip().rstrip("%")) / 100 for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--stages {text!r} is not a list of shares such as 5%,25%,100%") from None
    if not shares or shares != sorted(shares) or shares[-1] != 1.0 or shares[0] <= 0:
        raise click.UsageError("--stages must rise and end with 100%")
    return shares


@rollout.command("list")
@pass_session
def list_rollouts(session: Session) -> None:
    """List rollouts, newest first."""
    columns = [
        ("id", lambda item: item["id"]),
        ("release", lambda item: item["release"]),
        ("state", lambda item: item["state"]),
        ("result", _counts),
        ("created", lambda item: clock(item["created_s"])),
        ("reason", lambda item: item.get("reason")),
    ]
    print_items(session.client().items("/rollouts"), columns, session.output)


@rollout.command()
@click.argument("rollout_id", metavar="ID")
@pass_session
def status(session: Session, rollout_id: str) -> None:
    """Show a rollout: stages, and what became of it on each device."""
    _show(session, session.client().get(f"/rollouts/{segment(rollout_id)}"))


def _show(session: Session, item: Row) -> None:
    print_one(item, [("rollout", item["id"]), ("release", item["release"]), ("state", item["state"]),
                     ("reason", item.get("reason")), ("result", _counts(item))], session.output)  # fmt: skip
    if session.output == "table":
        rows = [[device["name"], str(device["stage"]), _state(device), device.get("reason") or "-", device.get("running") or "-",
                 device.get("detail") or ""] for device in item["devices"]]  # fmt: skip
        print_table(["device", "stage", "state", "reason", "runs now", "detail"], rows)


def _state(device: Row) -> str:
    return f"{device['state']}, behaviour unseen" if device.get("behaviour_unseen") else str(device["state"])


@rollout.command()
@click.argument("rollout_id", metavar="ID")
@click.option("--timeout", "timeout_s", default=3600, show_default=True, metavar="SECONDS", type=click.IntRange(1))
@pass_session
def watch(session: Session, rollout_id: str, timeout_s: int) -> None:
    """Follow a rollout until it ends or needs a person. Interrupting ends the watching, not the rollout."""
    client = session.client()
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        item = client.get(f"/rollouts/{segment(rollout_id)}")
        line = f"{item['id']} {item['release']}  {item['state']}  {_counts(item)}"
        if line != last:
            talk(f"{time.strftime('%H:%M:%S')}  {line}")
            last = line
        if item["state"] in ENDED or item["state"] in ("paused", "held"):
            break
        if time.monotonic() > deadline:
            raise CliError(
                TIMED_OUT, f"still {item['state']} after {timeout_s} s", f"go on with: rookery rollout watch {rollout_id}"
            )
        time.sleep(1.0)
    _show(session, item)
    if item["state"] in ("paused", "held", "aborted"):
        raise CliError(
            PARTIAL if item["counts"].get("committed") else FAILURE, f"rollout {item['state']}: {item.get('reason') or '-'}"
        )


def _act(session: Session, rollout_id: str, action: str) -> None:
    item = session.client().post(f"/rollouts/{segment(rollout_id)}/{action}")
    talk(f"{item['id']} is {item['state']}")


@rollout.command()
@click.argument("rollout_id", metavar="ID")
@pass_session
def pause(session: Session, rollout_id: str) -> None:
    """Let no further device begin."""
    _act(session, rollout_id, "pause")


@rollout.command()
@click.argument("rollout_id", metavar="ID")
@pass_session
def resume(session: Session, rollout_id: str) -> None:
    """Go on with a paused or held rollout."""
    _act(session, rollout_id, "resume")


@rollout.command()
@click.argument("rollout_id", metavar="ID")
@pass_session
def abort(session: Session, rollout_id: str) -> None:
    """End a rollout; devices that committed keep the release."""
    _act(session, rollout_id, "abort")
