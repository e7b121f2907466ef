"""``rookery config``: what cameras are told, in three layers: the fleet, a group, a device."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, USAGE, CliError
from fleet_server.cli.output import clock, plain, print_items, print_one, talk
from fleet_server.cli.session import Session, pass_session, segment

LARGEST_BYTES = 1024 * 1024
LAYER_HELP = "LAYER is fleet, group:NAME, device:NAME, or the name of a device."


@click.group()
def config() -> None:
    """What cameras are told: zones, lines, triggers, masks, rates. The nearest layer wins: fleet, then group, then device."""


def _path(layer: str, rest: str = "") -> str:
    scope = layer if layer == "fleet" or ":" in layer else f"device:{layer}"
    return f"/configurations/{segment(scope)}{rest}"


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


@config.command(epilog=LAYER_HELP)
@click.argument("layer", default="fleet")
@click.option("--version", type=click.IntRange(0), help="As it was at this version.")
@pass_session
def get(session: Session, layer: str, version: int | None) -> None:
    """Print what one layer says, as JSON that ``set`` takes again."""
    found = session.client().get(_path(layer), version=version)
    if session.output != "table":
        print_one(found, [], session.output, "scope")
        return
    talk(f"{found['scope']}, version {found['version']}" + (f", by {found['changed_by']}" if found["version"] else ""))
    print("\n".join(plain(line) for line in _pretty(found["content"]).split("\n")))


@config.command("list")
@pass_session
def list_layers(session: Session) -> None:
    """List the layers that say something."""
    columns = [
        ("layer", lambda item: item["scope"]),
        ("version", lambda item: item["version"]),
        ("changed", lambda item: clock(item["changed_s"])),
        ("by", lambda item: item["changed_by"]),
        ("why", lambda item: item["why"]),
    ]
    print_items(session.client().get("/configurations")["items"], columns, session.output, "scope")


@config.command("set", epilog=LAYER_HELP)
@click.argument("layer")
@click.argument("file", metavar="FILE|-")
@click.option("--if-version", type=click.IntRange(0), help="Only if the layer still has this version.")
@click.option("--why", default="", help="It stands in the history.")
@click.option("--dry-run", is_flag=True, help="Only say what is wrong with it.")
@pass_session
def put(session: Session, layer: str, file: str, if_version: int | None, why: str, dry_run: bool) -> None:
    """Replace what one layer says by a TOML or JSON file. All faults are told at once (exit code 5), and nothing is changed."""
    body = {"content": _read(file), "version": if_version, "why": why, "dry_run": dry_run}
    answer = session.client().put(_path(layer), body)
    if not dry_run:
        _said(session, answer)
        return
    faults = answer["faults"]
    columns = [("where", lambda item: item["path"] or "the whole"), ("what", lambda item: item["problem"])]
    if faults or session.output != "table":
        print_items(faults, columns, session.output, "path")
    if faults:
        raise CliError(CONFLICT, f"{len(faults)} fault{'s' if len(faults) != 1 else ''}; nothing was changed")
    talk("no faults; nothing was changed")


@config.command(epilog=LAYER_HELP)
@click.argument("layer", default="fleet")
@click.option("--why", default="", help="It stands in the history.")
@pass_session
def edit(session: Session, layer: str, why: str) -> None:
    """Change what one layer says in your editor; it comes up again while there are faults."""
    if not session.ask:
        raise CliError(USAGE, "nobody can be asked to edit", "use rookery config set LAYER FILE")
    client = session.client()
    before = client.get(_path(layer))
    text = _pretty(before["content"]) + "\n"
    while True:
        changed = click.edit(text, extension=".json")
        if changed is None or changed == text:
            talk("nothing was changed")
            return
        text = changed
        try:
            content = _parse(text, "what you wrote")
            _said(session, client.put(_path(layer), {"content": content, "version": before["version"], "why": why}))
        except CliError as error:
            talk(error.message)
            if error.code not in (CONFLICT, FAILURE) or not click.confirm("Edit again?", default=True, err=True):
                raise
        else:
            return


@config.command()
@click.argument("left")
@click.argument("right", required=False)
@pass_session
def diff(session: Session, left: str, right: str | None) -> None:
    """What differs between two of LAYER, LAYER@VERSION, effective:DEVICE; with one LAYER: from the version before to now."""
    client = session.client()
    if right is None:
        right, version = left, client.get(_path(left))["version"]
        left = f"{left}@{max(version - 1, 0)}"
    found = client.get("/configuration-diff", left=_full(left), right=_full(right))["items"]
    columns = [
        ("where", lambda item: item["path"]),
        ("kind", lambda item: item["kind"]),
        ("before", lambda item: "" if item["kind"] == "added" else json.dumps(item["before"])),
        ("after", lambda item: "" if item["kind"] == "removed" else json.dumps(item["after"])),
    ]
    print_items(found, columns, session.output, "path")


def _full(name: str) -> str:
    return name if ":" in name or name.partition("@")[0] == "fleet" else f"device:{name}"


@config.command(epilog=LAYER_HELP)
@click.argument("layer", default="fleet")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@pass_session
def history(session: Session, layer: str, limit: int) -> None:
    """Who changed what, when and why; the newest first."""
    columns = [
        ("version", lambda item: item["version"]),
        ("when", lambda item: clock(item["changed_s"])),
        ("by", lambda item: item["changed_by"]),
        ("why", lambda item: item["why"]),
    ]
    print_items(session.client().get(_path(layer, "/history"), limit=limit)["items"], columns, session.output, "version")


@config.command(epilog=LAYER_HELP)
@click.argument("layer")
@click.option("--to", "to_version", type=click.IntRange(0), help="Say again what this version said; default the one before.")
@click.option("--if-version", type=click.IntRange(0), help="Only if the layer still has this version.")
@click.option("--why", default="", help="It stands in the history.")
@pass_session
def undo(session: Session, layer: str, to_version: int | None, if_version: int | None, why: str) -> None:
    """Go back: a new version that says what an older one said."""
    body = {"to_version": to_version, "version": if_version, "why": why}
    _said(session, session.client().post(_path(layer, "/undo"), body))


@config.command()
@click.argument("device")
@pass_session
def effective(session: Session, device: str) -> None:
    """What a device is told in the end, which layer each value comes from, and what the device says of it."""
    found = session.client().get(f"/devices/{segment(device.removeprefix('device:'))}/configuration/effective")
    if session.output in ("json", "ndjson"):
        print_one(found, [], session.output)
        return
    columns = [
        ("where", lambda item: item["path"]),
        ("value", lambda item: json.dumps(item["value"])),
        ("from", lambda item: item["origin"]),
    ]
    print_items(found["settings"], columns, session.output, "path")
    said = found["said"]
    if found["in_force"]:
        talk("the device runs with this" + (f"; {said['reason']}" if said["reason"] else ""))
    elif said is None:
        talk("the device has not said yet whether it runs with this")
    elif said["digest"] != found["digest"]:
        talk(f"the device has not heard of this yet; of the one before it says: {said['state']} {said['reason']}".rstrip())
    else:
        talk(f"the device says: {said['state'].replace('_', ' ')}: {said['reason']}")


def _said(session: Session, layer: dict[str, Any]) -> None:
    talk(f"{layer['scope']} has version {layer['version']} now")
    print_one(layer, [("layer", layer["scope"]), ("version", layer["version"])], session.output, "scope")


def _read(file: str) -> dict[str, Any]:
    from ota.plain_disk import read_plain

    try:
        data = sys.stdin.buffer.read(LARGEST_BYTES + 1) if file == "-" else read_plain(Path(file), LARGEST_BYTES)
    except OSError as error:
        raise CliError(USAGE, f"{file} cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_BYTES:
        raise CliError(USAGE, f"{file} has more than {LARGEST_BYTES} bytes: that is no configuration")
    try:
        return _parse(data.decode(), "standard input" if file == "-" else file)
    except UnicodeDecodeError:
        raise CliError(USAGE, f"{file} is not text") from None


def _parse(text: str, source: str) -> dict[str, Any]:
    """JSON where it begins like JSON, else TOML."""
    kind = "JSON" if text.lstrip().startswith("{") else "TOML"
    try:
        found: dict[str, Any] = json.loads(text) if kind == "JSON" else tomllib.loads(text)
        json.dumps(found, allow_nan=False)
    except RecursionError:
        raise CliError(USAGE, f"{source} is nested too deep") from None
    except ValueError as error:
        raise CliError(USAGE, f"{source} is not {kind}: {error}") from None
    except TypeError:
        raise CliError(USAGE, f"{source} holds a date or time that is not in quotes") from None
    return found
