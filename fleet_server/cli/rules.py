"""``rookery rule``: which boards are let in without a claim and without a person."""

import click

from fleet_server.cli.errors import CliError
from fleet_server.cli.output import Column, Row, clock, plain, print_items, print_one, talk
from fleet_server.cli.session import Session, pass_session, segment


@click.group()
def rule() -> None:
    """Which boards are let in without a claim and without a person: add, list, test, remove.

    What a board says of itself is its own word: a rule is a convenience for a network that you trust, so each one ends, and
    lets in only so many a day.
    """


def _pattern(item: Row) -> str:
    return str(item.get("serial") or "any")


COLUMNS: list[Column] = [
    ("id", lambda item: item["id"]),
    ("open", lambda item: item.get("open")),
    ("profile", lambda item: item.get("profile") or "any"),
    ("serial", _pattern),
    ("group", lambda item: item.get("group")),
    ("last 24 h", lambda item: f"{item.get('let_in')} of {item.get('most_per_day')}"),
    ("until", lambda item: clock(item.get("until_s"))),
    ("by", lambda item: item.get("created_by")),
]


@rule.command()
@click.option("--profile", default="", metavar="ID", help="Only boards of this profile.")
@click.option("--serial", default="", metavar="PATTERN", help="Only serial numbers like this; * and ? stand for anything.")
@click.option("--group", default="default", show_default=True, metavar="NAME", help="Group that the devices join.")
@click.option("--most-per-day", required=True, type=click.IntRange(1, 10_000), help="It lets in no more in any 24 h.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 400), help="It ends by itself after so long.")
@pass_session
def add(session: Session, profile: str, serial: str, group: str, most_per_day: int, days: int) -> None:
    """Let boards in that fit; those that wait already get in when they ask next."""
    body = {"profile": profile, "serial": serial, "group": group, "most_per_day": most_per_day, "days": days}
    item = session.client().post("/enrolment-rules", body)
    print_one(item, [(title, value(item)) for title, value in COLUMNS], session.output)


@rule.command("list")
@pass_session
def list_rules(session: Session) -> None:
    """List rules, in the order in which they are asked."""
    print_items(session.client().items("/enrolment-rules"), COLUMNS, session.output)


@rule.command()
@click.option("--serial", required=True, metavar="SERIAL")
@click.option("--profile", default="unknown", show_default=True, metavar="ID")
@pass_session
def test(session: Session, serial: str, profile: str) -> None:
    """Which rule would let such a board in now, or why none does. Changes nothing."""
    answer = session.client().post("/enrolment-rules/test", {"serial": serial, "profile": profile})
    if session.output != "table":
        print_one(answer, [], session.output, "rule")
    else:
        print("it would get in" if answer["rule"] else "it would wait until a person accepts it")
        for one in answer["reasons"]:
            print(plain(f"  {one['rule'] or 'no rule'}: {one['reason']}"))
    if not answer["rule"]:
        raise CliError(1, "no rule lets this board in")


@rule.command()
@click.argument("rules", nargs=-1, required=True, metavar="ID...")
@pass_session
def remove(session: Session, rules: tuple[str, ...]) -> None:
    """Take rules away; whom they have let in stays."""
    client = session.client()
    for each in rules:
        client.delete(f"/enrolment-rules/{segment(each)}")
        talk(f"rule {each} is removed")
