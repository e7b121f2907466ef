"""``rookery device live``: what a board sees just now, within a debug session and as far as the board's own policy goes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import FAILURE, TIMED_OUT, USAGE, CliError
from fleet_server.cli.output import lines, print_items, talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client

LOOK_EVERY_S = 1.0
SESSION_S = 300
SETTLE_LOOKS = 5
"""Without --camera nobody knows how many cameras answer: after the last answer it looks so many times more."""
_UNFIT = str.maketrans(dict.fromkeys("/\\\0", "_"))


@click.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the present picture to this file (JPEG).")
@click.option("--burst", type=click.Path(path_type=Path, file_okay=False), help="Write ten seconds of pictures into this folder.")
@click.option("--camera", metavar="NAME", help="Of this camera only; else of each.")
@click.option("--reason", default="", help="Why; it stands in the audit. Needed unless --session names an open one.")
@click.option("--session", "session_id", metavar="ID", help="Ask within this open debug session instead of a new one.")
@click.option("--wait", "wait_s", default=120, show_default=True, metavar="SECONDS", type=click.IntRange(1, 3600))
@pass_session
def live(
    session: Session, name: str, out: Path | None, burst: Path | None, camera: str | None, reason: str, session_id: str | None,
    wait_s: int,
) -> None:  # fmt: skip
    """Fetch annotated pictures from a board: with --out the present one, with --burst those of ten seconds.

    The board answers only if its own policy.toml has live_view = true, and only while the debug session lasts.
    """
    if (out is None) == (burst is None):
        raise CliError(USAGE, "say where to: either --out FILE or --burst DIR")
    if session_id is None and not reason.strip():
        raise CliError(USAGE, "say why: --reason stands in the audit")
    client = session.client()
    base = f"/devices/{segment(name)}/debug-sessions"
    wanted: dict[str, Any] = {"frames": "last" if out is not None else "burst", "camera": camera}
    if session_id is None:
        asked = client.post(base, {"log_level": "info", "duration_s": max(SESSION_S, wait_s + 60), "reason": reason, **wanted})
    else:
        asked = client.post(f"{base}/{segment(session_id)}/frames", wanted)
    here = f"{base}/{segment(str(asked['id']))}"
    talk(f"asked {name} within debug session {asked['id']}; waiting for its answer")
    try:
        answers = _wait(client, here, int(asked["frames_asked"]), wait_s, one=camera is not None)
    finally:
        if session_id is None:
            client.delete(here)
    _write(client, here, answers, out, burst)
    shown = [one | {"name": one["camera"]} for one in answers]
    print_items(shown, [
        ("camera", lambda one: one["camera"] or "-"), ("state", lambda one: one["state"]), ("reason", lambda one: one["reason"]),
        ("pictures", lambda one: len(one["pictures"])),
    ], session.output, "name")  # fmt: skip


def _wait(client: "Client", here: str, number: int, wait_s: float, *, one: bool) -> list[dict[str, Any]]:
    """The answers to request ``number``; CliError where none comes in time, or the board refused all."""
    until_s = time.monotonic() + wait_s
    answers: list[dict[str, Any]] = []
    looks_left = SETTLE_LOOKS
    while True:
        found = [each for each in client.items(f"{here}/frames") if each["asked"] == number]
        looks_left = SETTLE_LOOKS if len(found) > len(answers) else looks_left - 1
        answers = found
        if answers and (one or looks_left <= 0 or not answers[0]["camera"]):
            break
        if time.monotonic() > until_s:
            if answers:
                break
            hint = "is it online, and does it poll? The answer, if one comes later, stands on the device's page"
            raise CliError(TIMED_OUT, f"no answer within {wait_s:.0f} s", hint)
        time.sleep(LOOK_EVERY_S)
    if not any(each["pictures"] for each in answers):
        said = "; ".join(f"{each['camera'] or 'the board'}: {each['reason']} ({each['detail']})" for each in answers)
        hint = "what a board allows stands in its own policy.toml, which no server can change"
        raise CliError(FAILURE, lines(f"no picture: {said}"), hint if any(a["reason"] == "policy" for a in answers) else "")
    return answers


def _write(client: "Client", here: str, answers: list[dict[str, Any]], out: Path | None, burst: Path | None) -> None:
    pictures = [(answer["camera"], picture) for answer in answers for picture in answer["pictures"]]
    if out is not None:
        cameras = sorted({camera for camera, _ in pictures})
        for camera, picture in pictures:
            target = out if len(cameras) == 1 else out.with_name(f"{out.stem}-{_fit(camera)}{out.suffix}")
            client.download(f"{here}/pictures/{segment(picture['sha256'])}", target)
            talk(f"wrote {target}")
    if burst is not None:
        burst.mkdir(parents=True, exist_ok=True)
        for camera, picture in pictures:
            target = burst / f"{_fit(camera)}-{int(picture['frame']):08d}.jpg"
            client.download(f"{here}/pictures/{segment(picture['sha256'])}", target)
        talk(f"wrote {len(pictures)} pictures into {burst}")


def _fit(camera: str) -> str:
    """A camera's name, which a board chose, as part of a file's name: it leads into no other folder."""
    shown = "".join(character if character.isprintable() else "_" for character in camera.translate(_UNFIT))
    return shown.lstrip(".")[:60] or "_"
