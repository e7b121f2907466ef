"""``rookery device``: boards of the fleet."""

import time
from typing import Any

import click

from fleet_server.cli.device_identity import decommission, readmit, replace
from fleet_server.cli.live import live
from fleet_server.cli.output import Row, ago, clock, plain, print_items, print_one, talk
from fleet_server.cli.session import Session, pass_session, segment


@click.group()
def device() -> None:
    """Boards of the fleet: list, show, why-not, logs, debug, live; readmit, replace, revoke, unhold, decommission."""


for verb in (live, readmit, replace, decommission):
    device.add_command(verb)


def _running(item: Row) -> str:
    running = item.get("running") or {}
    return f"{running['release']} ({running['variant']})" if running else "-"


def _accelerator(item: Row) -> str:
    accelerator = item.get("accelerator") or {}
    wanted, running = accelerator.get("wanted") or "none", accelerator.get("running") or "-"
    return running if wanted in ("none", running) else f"{running}, {wanted} missing"


def _deployment(item: Row) -> str:
    deployment = item.get("deployment") or {}
    reason = deployment.get("reason")
    return f"{deployment.get('state', '-')}({reason})" if reason else str(deployment.get("state", "-"))


def _configuration(session: Session, name: str) -> str:
    """What became of the wanted configuration, by the device's own word."""
    found = session.client().get(f"/devices/{segment(name)}/configuration/effective")
    wanted, said = found["digest"][:12], found["said"]
    if said is None:
        return f"wanted {wanted}; the device has not said anything of it"
    if said["digest"] != found["digest"]:
        return f"wanted {wanted}; not heard of yet, runs {str(said.get('running') or said['digest'])[:12]}"
    state = str(said["state"]).replace("_", " ")
    return f"wanted {wanted}: {state}" + (f": {said['reason']}" if said["reason"] else "")


COLUMNS = [
    ("name", lambda item: item["name"]),
    ("state", lambda item: item["state"]),
    ("last seen", lambda item: ago(item.get("last_seen_s"))),
    ("board", lambda item: item["profile"]),
    ("running", _running),
    ("wanted", lambda item: item.get("wanted")),
    ("deployment", _deployment),
    ("accelerator", _accelerator),
]


@device.command("list")
@click.option("-q", "--query", metavar="TEXT", help="Part of a name, profile or release.")
@click.option("--group", metavar="NAME")
@click.option("--state", type=click.Choice(["online", "offline", "pending", "revoked", "decommissioned"]))
@pass_session
def list_devices(session: Session, query: str | None, group: str | None, state: str | None) -> None:
    """List devices."""
    items = session.client().items("/devices", q=query, group=group, state=state)
    print_items(items, COLUMNS, session.output)
    talk(f"{len(items)} device{'s' if len(items) != 1 else ''}")


@device.command()
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """Show one device: what it is, what it runs, how it is."""
    item = session.client().get(f"/devices/{segment(name)}")
    running: dict[str, Any] = item.get("running") or {}
    accelerator: dict[str, Any] = item.get("accelerator") or {}
    deployment: dict[str, Any] = item.get("deployment") or {}
    print_one(item, [
        ("id", item["id"]), ("name", item["name"]), ("group", item.get("group")),
        ("state", f"{item['state']}, last seen {ago(item.get('last_seen_s'))}"),
        ("board", f"{item['profile']} ({item.get('board_model') or '-'})"),
        ("accelerator", f"{accelerator.get('running') or '-'} {accelerator.get('reason') or ''}".strip()),
        ("runtime", item.get("runtime")),
        ("running", f"{_running(item)} in slot {running.get('slot', '-')}"),
        ("variant", running.get("variant_reason")),
        ("wanted", item.get("wanted")),
        ("deployment", f"{_deployment(item)} {deployment.get('detail') or ''}".strip()),
        ("configuration", _configuration(session, name) if session.output == "table" else None),
        ("log level", item.get("log_level")),
        ("enrolled", clock(item.get("enrolled_s"))),
        ("replaces", item.get("replaces")),
        ("held back", item.get("held")),
    ], session.output)  # fmt: skip


@device.command("why-not")
@click.argument("name")
@pass_session
def why_not(session: Session, name: str) -> None:
    """Why does this device not run what is wanted? Answered from the evaluated rules and the device's own report."""
    answer = session.client().get(f"/devices/{segment(name)}/why-not")
    if session.output != "table":
        print_one(answer, [], session.output, "device")
        return
    for sentence in answer["sentences"]:
        print(plain(sentence))
    for rule in answer.get("rules", []):
        print(plain(f"  {'ok ' if rule['ok'] else 'NOT'} {rule['rule']}: {rule['detail']}"))


@device.command()
@click.argument("name")
@click.option("--level", type=click.Choice(["debug", "info", "warning", "error"]), help="This level and above.")
@click.option("--since", "since_s", metavar="SECONDS", type=float, help="Lines of the last SECONDS only.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 5000))
@pass_session
def logs(session: Session, name: str, level: str | None, since_s: float | None, limit: int) -> None:
    """Read a device's log from afar."""
    since = time.time() - since_s if since_s else None
    items = session.client().get(f"/devices/{segment(name)}/logs", level=level, since_s=since, limit=limit)["items"]
    columns = [
        ("time", lambda line: clock(line["at_s"])),
        ("level", lambda line: line["level"]),
        ("logger", lambda line: line["logger"]),
        ("text", lambda line: line["text"]),
    ]
    print_items(items, columns, session.output, "sequence")


@device.command()
@click.argument("name")
@click.option("--level", default="debug", show_default=True, type=click.Choice(["debug", "info"]))
@click.option("--for", "duration_s", default=60, show_default=True, metavar="SECONDS", type=click.IntRange(10, 86_400))
@click.option("--reason", required=True, help="Why; it stands in the audit.")
@pass_session
def debug(session: Session, name: str, level: str, duration_s: int, reason: str) -> None:
    """Raise a device's log level for a while; it falls back by itself."""
    body = {"log_level": level, "duration_s": duration_s, "reason": reason}
    answer = session.client().post(f"/devices/{segment(name)}/debug-sessions", body)
    talk(f"log level {level} until {clock(answer['until_s'])}; read it with: rookery device logs {name} --level {level}")
    print_one(answer, [("session", answer["id"]), ("until", clock(answer["until_s"]))], session.output)


@device.command()
@click.argument("name")
@click.confirmation_option("-y", "--yes", prompt="Its certificate will never be accepted again. Revoke?")
@pass_session
def revoke(session: Session, name: str) -> None:
    """Shut a device out, now. Its certificates are worthless; only an operator's word (readmit) lets a new key in."""
    session.client().post(f"/devices/{segment(name)}/revoke")
    talk(f"{name} is revoked")


@device.command()
@click.argument("name")
@pass_session
def unhold(session: Session, name: str) -> None:
    """Let a device that was held back as a suspected clone take part in updates again."""
    session.client().post(f"/devices/{segment(name)}/unhold")
    talk(f"{name} takes part in updates again")
