"""``rookery experiment``: two releases compared on sticky shares of the fleet."""

import click

from fleet_server.cli.output import print_items, print_one, print_table, talk
from fleet_server.cli.session import Session, pass_session, segment


@click.group()
def experiment() -> None:
    """Two releases compared on sticky shares of the fleet."""


@experiment.command()
@click.argument("name")
@click.argument("release_a", metavar="A")
@click.argument("release_b", metavar="B")
@click.option("--share", default=0.5, show_default=True, type=click.FloatRange(0.01, 0.99), help="Share of devices that run B.")
@click.option("--group", metavar="NAME")
@pass_session
def create(session: Session, name: str, release_a: str, release_b: str, share: float, group: str | None) -> None:
    """Compare two releases, each NAME@VERSION."""
    body = {"name": name, "a": release_a, "b": release_b, "share_b": share, "selector": {"group": group} if group else {}}
    answer = session.client().post("/experiments", body)
    talk(f"experiment {answer['id']} is running; see it with: rookery experiment show {answer['id']}")


@experiment.command("list")
@pass_session
def list_experiments(session: Session) -> None:
    """List experiments."""
    columns = [(key, lambda item, key=key: item.get(key)) for key in ("id", "name", "state", "a", "b")]
    print_items(session.client().get("/experiments")["items"], columns, session.output)


@experiment.command()
@click.argument("experiment_id", metavar="ID")
@pass_session
def show(session: Session, experiment_id: str) -> None:
    """Show events and detection rate of each arm."""
    item = session.client().get(f"/experiments/{segment(experiment_id)}")
    print_one(item, [("experiment", item["id"]), ("name", item["name"]), ("state", item.get("state"))], session.output)
    if session.output == "table":
        keys = ["arm", "release", "devices", "events", "gated_frames", "frames_with_detection", "rate"]
        print_table(keys, [[str(arm.get(key, "-")) for key in keys] for arm in item["arms"]])
