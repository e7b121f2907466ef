"""``./run demo``: a fleet on this machine, told as a story.

Without options it goes on until Ctrl-C; with ``--once`` it ends by itself and exits 0 only if every step was true.
"""

import argparse
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from processes import DemoError, Processes
from story import BREAKS, Options, Story, write_result

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("ROOKERY_DEMO_HOME") or ROOT / ".demo")
"""Everything that the demo writes; tests give one of their own."""
OK, UNTRUE, USAGE, INTERRUPTED = 0, 1, 2, 130


class StopDemoError(Exception):
    """Ctrl-C, or somebody asked this process to end."""


def main() -> int:
    """Parse arguments, keep others out, tell the story, end every process."""
    options = arguments()
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("a demo is running already in this folder; end it with Ctrl-C there", file=sys.stderr)
            return USAGE
        signal.signal(signal.SIGTERM, interrupt)
        signal.signal(signal.SIGINT, interrupt)
        return run(options)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception once; a second one does not interrupt the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StopDemoError


def arguments() -> argparse.Namespace:
    """Arguments, with what belongs together checked."""
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="tell the story without a person, then end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result of --once here")
    parser.add_argument("--port", type=int, metavar="N", help="port of the dashboard (default: 8080 or the next free one)")
    parser.add_argument("--no-broker", action="store_true", help="leave mosquitto out even where it is installed")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a film of your own")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .tflite detector of your own")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="its labels: line n names class id n")
    parser.add_argument("--card", type=Path, metavar="FILE", help="its model card, where the file does not tell all")
    parser.add_argument("--break", dest="broken", choices=BREAKS, default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.json and not options.once:
        parser.error("--json belongs to --once")
    if bool(options.video) != bool(options.model) or (options.model and not (options.labels or options.card)):
        parser.error("a story of your own needs --video, --model and --labels (or --card)")
    for path in (options.video, options.model, options.labels, options.card):
        if path and not path.is_file():
            parser.error(f"there is no file {path}")
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"there is no folder {options.json.resolve().parent}")
    return options


def run(options: argparse.Namespace) -> int:
    """One run from start to end; whatever happens, no process stays behind."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    processes = Processes(HOME / "run" / "logs")
    try:
        chosen = Options(home=HOME, port=options.port, broker="none" if options.no_broker else "auto", broken=options.broken)
        own_material(options, chosen)
        story = Story(chosen, processes, say)
        return tell_once(story, options, begin) if options.once else tell_to_a_person(story)
    except StopDemoError:
        print("\ninterrupted: ending all processes", file=sys.stderr)
        return INTERRUPTED
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return UNTRUE
    finally:
        processes.close()


def own_material(options: argparse.Namespace, chosen: Options) -> None:
    """Film, model and card of the user's own; where no card is given it is inferred from the model file and printed."""
    if options.model is None:
        return
    from models.card import dump_card
    from models.inference.errors import ModelError
    from models.inference.runtime_tflite import infer_card_for

    chosen.film, chosen.model, chosen.card = options.video.resolve(), options.model.resolve(), options.card
    if options.card is None:
        try:
            labels = [line.strip() for line in options.labels.read_text().splitlines()]
            text = dump_card(infer_card_for(options.model, labels))
        except (ModelError, UnicodeDecodeError) as error:
            raise DemoError(
                f"no card can be inferred for {options.model.name}: {error}; write one and give it with --card"
            ) from None
        chosen.card = HOME / "own-card.toml"
        chosen.card.write_text(text)
        print(text)
    check_film(chosen.film)


def check_film(film: Path) -> None:
    """Raise DemoError for a file that is no film, before anything is started for it."""
    import cv2

    capture = cv2.VideoCapture(str(film))
    try:
        if not capture.isOpened() or not capture.read()[0]:
            raise DemoError(f"{film} is not a film that can be read here; a common one is H.264 in .mp4")
    finally:
        capture.release()


def tell_once(story: Story, options: argparse.Namespace, begin: float) -> int:
    """The story without a person; the judge's word is the exit code."""
    trouble = ""
    try:
        story.begin()
        story.tell()
    except DemoError as error:
        # The judge still looks at what there is, so that the step that broke is named.
        trouble = str(error)
        print(f"demo: {trouble}", file=sys.stderr)
    if story.api is None:
        raise DemoError(trouble)
    story.finish()
    evidence = story.gather()
    steps = story.judge(evidence)
    for step in steps:
        print(f"{'ok  ' if step.ok else 'NOT '} {step.name}: {step.detail}")
    if options.json:
        write_result(options.json, story.result(steps, evidence, time.monotonic() - begin))
    failed = [step.name for step in steps if not step.ok]
    if failed:
        print(f"demo: not true: {', '.join(failed)} (logs: {HOME / 'run' / 'logs'})", file=sys.stderr)
    elif trouble:
        print(f"demo: {trouble}", file=sys.stderr)
    return UNTRUE if failed or trouble else OK


def tell_to_a_person(story: Story) -> int:
    """The same story beside a living dashboard, until Ctrl-C."""
    story.begin()
    link = story.work / "server" / "setup-link"
    if link.exists():
        print(f"\n  Set the first password here (once): {link.read_text().strip()}\n", flush=True)
    try:
        story.tell()
        print("\nThe story is told; the fleet goes on. Ctrl-C ends everything.", flush=True)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
    while True:
        story.processes.check()
        time.sleep(1.0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
