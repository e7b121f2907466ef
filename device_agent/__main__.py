"""``rookery-agent``: run, detect, simulate, doctor, repair, local-install. Every error is words, never a stack trace.

Exit codes: 0 ended on purpose · 2 settings or usage · 3 claim or identity · 4 the server refuses · 5 board, camera or model ·
1 a dry run of repair found what it would mend · 6 a local install ended without its release ·
70 a fault of ours (the log has the details) · 75 an outage, or the launcher is to start another agent · 130, 143 Ctrl-C, SIGTERM
ended a run without a server.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from device_agent.errors import AgentError, BoardError, SettingsError
from device_agent.vision.light_numpy import lighten
from ota.redaction import log_redacted

MOST_FPS = 240.0
"""As for cameras (`camera_disk.MAX_FPS`, which would load OpenCV for a line of help)."""
LOCAL_INSTALL = """\
Install a model's release from a USB stick or an air gap, without a server. Its signatures are proved
here, under the root that this board trusts.

Who may:   root; or anybody who can write into the data folder, where policy.toml says local_install = true.
Where to:  data/inbox/. A running agent takes it from there and this command shows what it makes of it;
           where none runs, it is installed here as far as the trial, which the agent goes on with when it starts.
           On a board without a release the factory's is installed first: a trial needs one to fall back to.

Exit codes: 0 committed, on trial for the agent's next start, or running already
            2 no such file, no factory release, another install under way, wrong settings
            5 the board: its disk is full or read-only
            6 refused or rolled back; the reason is printed
           75 --wait is over; the install goes on"""
SUMMARY = "runs on the board: sees, decides what is worth sending, and keeps itself up to date"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    # A process of our own, which may be forked; where somebody calls with arguments, it is theirs.
    options.own_process = arguments is None
    log_redacted("%(asctime)s %(levelname)s %(name)s: %(message)s", logging.WARNING)
    return _guarded(options.call, options)


def _guarded(call: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """The exit code of a verb; whatever goes wrong in it becomes words and a code."""
    try:
        return int(call(options))
    except AgentError as error:
        print(f"rookery-agent: {error.said()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; so that Python does not complain again at its end:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: words for the user, the trace only where it was asked for
        logging.getLogger(__name__).debug("fault", exc_info=True)
        print(f"rookery-agent: a fault of the agent itself: {type(error).__name__}: {error}", file=sys.stderr)
        if os.environ.get("ROOKERY_TRACE"):
            raise
        return 70


def parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(prog="rookery-agent", description=SUMMARY)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="run | detect | simulate | doctor | repair | local-install")

    run = verbs.add_parser("run", help="run the agent, or a model on a film without any server")
    run.add_argument("--config", type=Path, help="agent.toml: run as a device of a fleet")
    run.add_argument("--source", help="a film, a folder of pictures, rendered:SEED, opencv:DEVICE: without any server")
    _model_options(run, required=False)
    run.add_argument("--zone", type=Path, help="zones, lines and triggers as JSON")
    run.add_argument("--events", type=Path, help="write one line of JSON for each event as it ends")
    run.add_argument("--tiles", type=_tiles, help="look in parts, for small objects: COLUMNSxROWS, say 3x2")
    run.add_argument("--show", type=Path, metavar="OUT.mp4", help="write a film of what was seen: boxes, tracks, zones, lines")
    run.add_argument("--print-card", action="store_true", help="print the whole card of the model, and run nothing")
    run.add_argument("--fps", type=_rate, help="at most so many frames a second; the rate itself where the source does not say")
    run.add_argument("--frames", type=_count, help="stop after so many")
    run.set_defaults(call=_run)

    detect = verbs.add_parser("detect", help="boxes of pictures, or of all in a folder")
    detect.add_argument("pictures", type=Path, nargs="+", help="pictures and folders of pictures")
    detect.add_argument("--tiles", type=_tiles, help="look in parts, for small objects: COLUMNSxROWS, say 3x2")
    _model_options(detect, required=True)
    detect.add_argument("--out", type=Path, help="write the boxes as JSON")
    detect.set_defaults(call=_detect)

    simulate = verbs.add_parser("simulate", help="many virtual devices against a real server")
    simulate.add_argument("--server", required=True, help="https://host:port of the device door")
    simulate.add_argument("--ca", type=Path, required=True, help="PEM of the pinned authority")
    simulate.add_argument("--claims", type=Path, required=True, help="one claim a line, as many as devices")
    simulate.add_argument("--devices", type=int, default=50)
    simulate.add_argument("--root", type=Path, help="TUF root: these devices verify releases as real ones do")
    simulate.add_argument("--folder", type=Path, help="where identities are kept, so that a second run is the same fleet")
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--channel", action="append", help="channels that these boards allow, default stable")
    simulate.add_argument("--failing", type=float, default=0.0, help="share of boards on which a new release fails")
    simulate.add_argument("--duration", type=float, help="seconds; without it until Ctrl-C")
    simulate.add_argument("--pace", type=float, default=10.0, help="seconds between polls and heartbeats of a device")
    simulate.set_defaults(call=_simulate)

    doctor = verbs.add_parser("doctor", help="look at this board and say what to do")
    doctor.add_argument("--config", type=Path, required=True)
    doctor.add_argument("--json", action="store_true", help="one JSON object, for programs")
    doctor.set_defaults(call=_doctor)

    repair = verbs.add_parser("repair", help="mend what the agent keeps on its disk; the agent must not run")
    repair.add_argument("--config", type=Path, required=True)
    repair.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing (exit code 1 if anything)")
    repair.add_argument("--json", action="store_true", help="one JSON object, for programs")
    repair.set_defaults(call=_repair)

    local = verbs.add_parser(
        "local-install", help="install a bundle from a USB stick or an air gap, without a server",
        description=LOCAL_INSTALL, formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    local.add_argument("bundle", type=Path, help="the .rookery file of a model's release")
    local.add_argument("--config", type=Path, required=True, help="agent.toml of this board")
    local.add_argument("--wait", type=float, metavar="SECONDS", default=3600.0, help="how long to watch; the install goes on")
    local.set_defaults(call=_local_install)
    return top


def _model_options(verb: argparse.ArgumentParser, *, required: bool) -> None:
    verb.add_argument("--model", type=Path, required=required, help="the .tflite file")
    verb.add_argument("--labels", type=Path, help="labels, one a line")
    verb.add_argument("--card", type=Path, help="the model card; without it one is inferred")
    verb.add_argument("--threads", type=_count, default=2, help="of the processor, for the model; 2 without it")


def _run(options: argparse.Namespace) -> int:
    if options.print_card:
        return _print_card(options)
    if (options.config is None) == (options.source is None):
        raise SettingsError("rookery-agent run", ["give either --config FILE (a device of a fleet) or --source FILM (no server)"])
    if options.source is not None:
        return _run_loose(options)
    # The agent multiplies no large matrices: no thread and no buffers for that.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    lighten()
    from device_agent.assemble import assembled
    from device_agent.memory_linux import one_heap
    from device_agent.own_folder_disk import read_settings
    from device_agent.supervise import stop_on_signals

    one_heap()
    with assembled(read_settings(options.config), options.config.absolute()) as (supervisor, stop):
        restore = stop_on_signals(stop)
        try:
            supervisor.run()
        finally:
            restore()
    return stop.exit_code


def _run_loose(options: argparse.Namespace) -> int:
    from device_agent.loose_disk import run_loose

    if options.model is None:
        raise SettingsError("rookery-agent run", ["--source needs --model FILE.tflite"])
    return run_loose(options)


def _print_card(options: argparse.Namespace) -> int:
    from device_agent.loose_disk import print_card

    if options.model is None:
        raise SettingsError("rookery-agent run", ["--print-card needs --model FILE.tflite"])
    return print_card(options)


def _count(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _rate(text: str) -> float:
    """Frames a second."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MOST_FPS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most {MOST_FPS:g}")
    return rate


def _tiles(text: str) -> tuple[int, int]:
    """3x2 as columns and rows."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form COLUMNSxROWS, say 3x2")
    return int(columns), int(rows)


def _detect(options: argparse.Namespace) -> int:
    if not options.own_process:
        return _detect_here(options)
    # The model's file is a stranger's: it is opened in a child, forked while this process has loaded next to nothing.
    from device_agent.vision.apart_linux import CrashedError, apart

    try:
        return apart(lambda: _guarded(_detect_here, options))
    except CrashedError as error:
        raise BoardError(
            f"the model {options.model} ended the process that ran it ({error.signal_name}): nothing was written",
            "the file is damaged, or was made to do this, or there is too little memory: fetch it again from where you trust",
        ) from None


def _detect_here(options: argparse.Namespace) -> int:
    from device_agent.loose_disk import detect_loose

    return detect_loose(options)


def _simulate(options: argparse.Namespace) -> int:
    from device_agent.simulated.fleet_http import simulate

    return simulate(options)


def _doctor(options: argparse.Namespace) -> int:
    from device_agent.doctor_linux import run_doctor

    return run_doctor(options.config, as_json=options.json)


def _repair(options: argparse.Namespace) -> int:
    from device_agent.repair_disk import run_repair

    return run_repair(options.config, dry_run=options.dry_run, as_json=options.json)


def _local_install(options: argparse.Namespace) -> int:
    from device_agent.local_install_disk import run_local_install

    return run_local_install(options.config, options.bundle, wait_s=options.wait)


if __name__ == "__main__":
    sys.exit(main())
