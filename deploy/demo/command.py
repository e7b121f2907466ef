"""The command line of the demo: arguments, one demo at a time, and an exit code that tells the truth."""

import argparse
import fcntl
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from evidence import expectation, gather, nothing, result, write_result
from judge import judge
from processes import DemoError, Processes
from stage import BREAKS, Options, Stage
from story import Story

from models.card import CardError, ModelCard, dump_card, load_card, parse_labels
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel, infer_card_for

ROOT = Path(__file__).resolve().parents[2]
OK, UNTRUE, USAGE = 0, 1, 2


def run(environment: Mapping[str, str], deaf: Callable[[], None]) -> int:
    """Parse arguments, keep a second demo out, tell the story; whatever happens, no process stays behind."""
    options = arguments()
    home = Path(environment.get("ROOKERY_DEMO_HOME") or ROOT / ".demo").resolve()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("a demo is running already in this folder; end it with Ctrl-C there", file=sys.stderr)
            return USAGE
        processes = Processes(home / "run" / "logs")
        try:
            return tell(options, home, processes)
        except DemoError as error:
            print(f"demo: {error}", file=sys.stderr)
            return UNTRUE
        finally:
            deaf()
            processes.close()


def arguments() -> argparse.Namespace:
    """Arguments, with what belongs together checked."""
    parser = argparse.ArgumentParser(prog="./run demo", description="A fleet on this machine, told as a story.")
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
    if options.json:
        if not options.json.resolve().parent.is_dir():
            parser.error(f"there is no folder {options.json.resolve().parent}")
        options.json.unlink(missing_ok=True)  # an earlier success must not be taken for this run's
    return options


def tell(options: argparse.Namespace, home: Path, processes: Processes) -> int:
    """One run from start to end."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    chosen = Options(home=home, port=options.port, broker="none" if options.no_broker else "auto", broken=options.broken)
    own_material(options, chosen)
    stage = Stage(chosen, processes, say)
    return tell_once(stage, options.json, begin) if options.once else tell_to_a_person(stage)


def own_material(options: argparse.Namespace, chosen: Options) -> None:
    """Film, model and card of the user's own, each opened before anything is started for them.

    Where no card is given it is inferred from the model file and printed; labels stand in for the card's own.
    """
    if options.model is None:
        return
    chosen.film, chosen.model = options.video.resolve(), options.model.resolve()
    try:
        card = own_card(options)
        with TfliteModel(options.model, card):
            pass
    except (ModelError, CardError, UnicodeDecodeError) as error:
        raise DemoError(f"{options.model.name} cannot be used: {error}; a card of your own comes by --card") from None
    chosen.card = chosen.home / "own-card.toml"
    chosen.card.write_text(dump_card(card))
    if options.card is None:
        print(dump_card(card))
    check_film(chosen.film)


def own_card(options: argparse.Namespace) -> ModelCard:
    """The card given, or the one that the model file tells."""
    labels = parse_labels(options.labels.read_text()) if options.labels else None
    if options.card is None:
        return infer_card_for(options.model, labels)
    card = load_card(options.card.read_text())
    return (
        card
        if labels is None
        else ModelCard(**{**{name: getattr(card, name) for name in card.__dataclass_fields__}, "labels": labels})
    )


def check_film(film: Path) -> None:
    """Raise DemoError for a file that is no film."""
    import cv2

    capture = cv2.VideoCapture(str(film))
    try:
        if not capture.isOpened() or not capture.read()[0]:
            raise DemoError(f"{film} is not a film that can be read here; a common one is H.264 in .mp4")
    finally:
        capture.release()


def tell_once(stage: Stage, out: Path | None, begin: float) -> int:
    """The story without a person; the judge's word is the exit code."""
    story = Story(stage)
    trouble = ""
    try:
        stage.set_up()
        story.tell()
    except DemoError as error:
        # The judge still looks at what there is, so that the step that broke is named.
        trouble = str(error)
        print(f"demo: {trouble}", file=sys.stderr)
    try:
        evidence = gather(story)
    except DemoError as error:
        if out:
            write_result(out, nothing(trouble or str(error), time.monotonic() - begin))
        print(f"demo: nothing can be judged: {error}", file=sys.stderr)
        return UNTRUE
    steps = judge(evidence, expectation(stage))
    for step in steps:
        print(f"{'ok  ' if step.ok else 'NOT '} {step.name}: {step.detail}")
    if out:
        write_result(out, result(stage, steps, evidence, time.monotonic() - begin))
    failed = [step.name for step in steps if not step.ok]
    if failed:
        print(f"demo: not true: {', '.join(failed)} (logs: {stage.work / 'logs'})", file=sys.stderr)
    return UNTRUE if failed or trouble else OK


def tell_to_a_person(stage: Stage) -> int:
    """The same story beside a living dashboard, until Ctrl-C."""
    stage.set_up()
    link = stage.work / "server" / "setup-link"
    if link.exists():
        print(f"\n  Set the first password here (once): {link.read_text().strip()}\n", flush=True)
    try:
        Story(stage).tell()
        print("\nThe story is told; the fleet goes on. Ctrl-C ends everything.", flush=True)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
    print(
        f"The command line: .venv/bin/rookery login --server {stage.server['operator_url']}, then .venv/bin/rookery device list",
        flush=True,
    )
    while True:
        stage.processes.check()
        time.sleep(1.0)
