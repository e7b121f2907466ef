"""``rookery detection``: events with their crops and verdicts."""

from pathlib import Path

import click

from fleet_server.cli.errors import NOT_FOUND, CliError
from fleet_server.cli.output import Row, clock, print_items, talk
from fleet_server.cli.session import Session, pass_session, segment

PAGE = 1000
"""Events asked for at once."""


@click.group()
def detection() -> None:
    """Events with their crops and verdicts."""


def _verdict(item: Row) -> str:
    verdicts = [crop["verdict"] for crop in item.get("crops", []) if crop.get("verdict")]
    return f"{verdicts[-1]['label']} {verdicts[-1]['score']:.2f}" if verdicts else "unverified"


COLUMNS = [
    ("time", lambda item: clock(item["started_at_s"])),
    ("device", lambda item: item.get("device_name") or item["device"]),
    ("camera", lambda item: item["camera"]),
    ("label", lambda item: item["label"]),
    ("score", lambda item: f"{item['score']:.2f}"),
    ("zone", lambda item: item.get("zone")),
    ("verdict", _verdict),
    ("release", lambda item: item["release"]),
    ("crops", lambda item: len(item.get("crops", []))),
    ("id", lambda item: item["id"]),
]


@detection.command("list")
@click.option("--device", metavar="NAME")
@click.option("--label", metavar="LABEL")
@click.option("--verdict", type=click.Choice(["agree", "disagree", "unverified"]))
@click.option("--kind", type=click.Choice(["zone", "dwell", "line", "trigger", "sample"]), help="sample: the recall samples.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@pass_session
def list_detections(
    session: Session, device: str | None, label: str | None, verdict: str | None, kind: str | None, limit: int
) -> None:
    """List events, newest first; recall samples only with --kind sample."""
    client = session.client()
    items: list[Row] = []
    cursor: str | None = None
    while len(items) < limit:
        page = client.get(
            "/detections", device=device, label=label, verdict=verdict, rule_kind=kind, limit=min(limit - len(items), PAGE),
            cursor=cursor,
        )
        items += page["items"]
        cursor = page.get("next")
        if not cursor or not page["items"]:
            break
    print_items(items, COLUMNS, session.output)


@detection.command()
@click.argument("event_id", metavar="ID")
@click.argument("out", type=click.Path(path_type=Path))
@pass_session
def crop(session: Session, event_id: str, out: Path) -> None:
    """Save the best crop of an event as a JPEG file."""
    client = session.client()
    crops = [item for item in client.get(f"/detections/{segment(event_id)}").get("crops", []) if item.get("url")]
    if not crops:
        raise CliError(NOT_FOUND, f"event {event_id} has no crop in the store (not yet, or it was deleted because of its age)")
    best = next((item for item in crops if item["kind"] == "best"), crops[-1])
    client.download(best["url"].removeprefix("/api/v1"), out)
    talk(f"{best['kind']} crop of {event_id} saved as {out}")
