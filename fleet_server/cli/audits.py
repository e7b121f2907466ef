"""``rookery audit``: who did what, and when; whether the log is whole; the log as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.audit_times import WHEN_HELP, instant
from fleet_server.cli.errors import CONFLICT, FAILURE, USAGE, CliError
from fleet_server.cli.output import Row, clock, plain, print_items, print_one, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fleet_server.cli.audit_check import Judge
    from fleet_server.cli.client_http import Client

PAGE = 1000
"""Rows asked for at once."""


@click.group()
def audit() -> None:
    """Who did what, and when."""


@audit.command("list")
@click.option("--who", default="", metavar="NAME", help="Deeds of one account, device:ID, local:USER or server.")
@click.option("--target", default="", metavar="ID", help="Deeds to one thing, and to all below it: a device and its pictures.")
@click.option("--what", default="", metavar="KIND", help="One kind (rollout.create), or all of a word (rollout, crop.look).")
@click.option("--since", metavar="WHEN", help=WHEN_HELP)
@click.option("--until", metavar="WHEN", help="Before then.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@pass_session
def list_audit(
    session: Session, who: str, target: str, what: str, since: str | None, until: str | None, limit: int
) -> None:
    """List deeds, newest first, and what each changed.

    -o json has what stood before and what stands now as a whole.
    """
    client = session.client()
    items: list[Row] = []
    cursor: str | None = None
    while len(items) < limit:
        page = client.get(
            "/audit", who=who or None, target=target or None, what=what or None, since_s=instant(since, "--since"),
            until_s=instant(until, "--until"), limit=min(limit - len(items), PAGE), cursor=cursor,
        )  # fmt: skip
        items += page["items"]
        cursor = page.get("next")
        if not cursor:
            break
    columns = [
        ("id", lambda item: item.get("id")),
        ("time", lambda item: clock(item["at_s"])),
        ("who", lambda item: item["who"]),
        ("what", lambda item: item["what"]),
        ("target", lambda item: item.get("target")),
        ("from", lambda item: item.get("origin")),
        ("change", lambda item: _change(item.get("before"), item.get("after"))),
    ]
    print_items(items, columns, session.output)


@audit.command()
@click.option("--file", "file", type=click.Path(path_type=Path), metavar="FILE", help="Check an export, without a server.")
@click.option("--forget", is_flag=True, help="Begin anew: remember the present end, whatever this machine saw before.")
@pass_session
def verify(session: Session, file: Path | None, forget: bool) -> None:
    """Check that nobody has rewritten the audit.

    The chain of hashes over it is computed anew, and compared with what this machine saw last. A changed, missing or cut-off row
    is found from the log alone. Who owns the server's database can chain everything anew: that is found only by a machine that
    looked before, so look now and then, from a machine that is not the server. Exit code 5 where anything does not fit.
    """
    from fleet_server.cli.audit_check import Judge
    from fleet_server.cli.audit_heads_disk import remember, seen_heads

    seen = seen_heads()
    judge = Judge(seen)
    if file is not None:
        if forget:
            raise CliError(USAGE, "--forget is for a server: a file is compared, never remembered")
        _read_file(file, judge)
        _say(session, judge, str(file), judge.findings + judge.compare(None))
        if judge.check.first_id > 1:
            talk(f"it begins with row {judge.check.first_id}: what was before is not in it")
        return
    client = session.client()
    _read_server(client, judge)
    before = seen.get(client.server)
    differs = [] if forget else judge.compare(client.server)
    _say(session, judge, client.server, judge.findings + differs)
    assert judge.head is not None
    path = remember(client.server, judge.head)
    if before is None:
        talk(f"this machine had not looked at this audit before; from now on it remembers the end of it in {path}")
    elif forget:
        talk(f"what was seen before is forgotten: row {before.id} with hash {before.hash}, {clock(before.at_s)}")
    else:
        talk(f"what this machine saw last, row {before.id} of {clock(before.at_s)}, is still there")
        if before.keyid != judge.keyid:
            talk(f"it was signed by another key then: {before.keyid[:12]}; was the assignment key replaced? (rookery key status)")


@audit.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--since", metavar="WHEN", help=WHEN_HELP)
@click.option("--until", metavar="WHEN", help="Before then.")
@pass_session
def export(session: Session, file: Path, since: str | None, until: str | None) -> None:
    """Write the audit into a file, signed.

    One row a line (NDJSON), the server's signature at the end; needs the scope security. It is checked on the way. One that
    broke off goes on where it ended when the same command runs again. `rookery audit verify --file FILE` checks it later,
    without a server. The export stands in the audit, too.
    """
    from fleet_server.cli.audit_export_disk import Export

    client = session.client()
    with Export(file) as out:
        if out.rows:
            talk(f"going on behind row {out.judge.check.last_id}: {out.rows} rows were there already")
        query = {"after": out.judge.check.last_id, "since_s": instant(since, "--since"), "until_s": instant(until, "--until")}
        with client.stream("/audit/export", **query) as pieces:
            out.take(pieces)
    _say(session, out.judge, str(file), out.judge.findings)


def _read_server(client: "Client", judge: "Judge") -> None:
    head = client.get("/audit/head")
    last = head.get("id")
    if not isinstance(last, int):
        raise CliError(FAILURE, f"{client.server} told no head of its audit", "is it a Rookery server of this version?")
    while judge.check.last_id < last:
        at = judge.check.last_id
        for item in client.get("/audit", after=at, limit=PAGE)["items"]:
            if isinstance(item.get("id"), int) and item["id"] <= last:
                judge.entry(item)
        if judge.check.last_id <= at:
            break
    judge.end(head, head)


def _read_file(file: Path, judge: "Judge") -> None:
    from fleet_server.cli.audit_check import lines_of, read_lines
    from ota.plain_disk import CHUNK_BYTES, open_plain

    try:
        with open_plain(file) as stream:
            read_lines(lines_of(iter(lambda: stream.read(CHUNK_BYTES), b"")), judge)
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror or error}") from None


def _say(session: Session, judge: "Judge", name: str, findings: list[Any]) -> None:
    check = judge.check
    body = {
        "of": name, "ok": not findings, "rows": check.count, "first": check.first_id, "last": check.last_id,
        "hash": check.last_hash, "signed_by": judge.keyid or None,
        "findings": [{"row": one.id, "problem": one.problem} for one in findings],
    }  # fmt: skip
    print_one(body, [
        ("of", name), ("rows", f"{check.count}, the last is {check.last_id}"), ("hash", check.last_hash),
        ("signed", f"by key {judge.keyid}" if judge.keyid else "no signature that holds"),
        ("chain", "whole" if not findings else "BROKEN"),
    ], session.output, "hash")  # fmt: skip
    if findings:
        said = "\n".join(f"  row {one.id} {one.problem}" for one in findings)
        if check.faults > len(judge.findings):
            said += f"\n  and {check.faults - len(judge.findings)} more"
        raise CliError(CONFLICT, f"the audit of {name} is not what was written:\n{said}", "docs/security.md says what each means")


def _change(before: Any, after: Any, most: int = 70) -> str:
    """What a deed changed, in short: ``state: running → paused``."""
    old, new = (one if isinstance(one, dict) else {} for one in (before, after))
    parts = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) or key not in old:
            was = f"{_short(old[key])} → " if key in old else ""
            parts.append(f"{key}: {was}{_short(new[key]) if key in new else '–'}")
    said = plain(", ".join(parts))
    return said if len(said) <= most else said[: most - 1] + "…"


def _short(value: Any) -> str:
    said = str(value)
    return said if len(said) <= 40 else said[:39] + "…"
