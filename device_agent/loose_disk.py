"""``run --source`` and ``detect``: a model on a film or on pictures, without any server."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable

from device_agent.errors import BoardError, SettingsError
from device_agent.loose_words import last_lines, said, short_card
from device_agent.vision.choice_disk import ModelChoice, card_of
from device_agent.vision.ending_linux import Ending, ending_on_signals
from device_agent.vision.progress import Progress
from device_agent.vision.tiles import TileSettings
from device_agent.vision.types import CameraError, EventUpdate
from device_agent.vision.zones import ZoneError
from models.card import CardError, dump_card
from models.inference.errors import ModelError

BAR_EVERY_S = 0.2


class SourceError(BoardError):
    """The film, picture or model cannot be used."""


def run_loose(options: argparse.Namespace) -> int:
    """Run a model on a source, one line for each event as it happens; returns 130 after Ctrl-C, 143 after SIGTERM."""
    with ending_on_signals() as ending:
        try:
            interrupted = _run(options, ending)
        except KeyboardInterrupt:
            interrupted = True
    return 128 + (ending.asked or signal.SIGINT) if interrupted else 0


def _run(options: argparse.Namespace, ending: Ending) -> bool:
    """Whether somebody ended it before the source did."""
    from device_agent.vision.loose_run_disk import BrokenOffError, RunRequest, run_film

    choice = _choice(options)
    request = RunRequest(
        options.source, choice, zone=options.zone, events=options.events, fps=options.fps, max_frames=options.frames,
        show=options.show,
    )  # fmt: skip
    bar = _Bar()
    try:
        if options.card is None:
            sys.stderr.write(short_card(card_of(choice)))
        with bar:
            summary = run_film(request, bar.around(_say), bar.advance, ending)
    except BrokenOffError as error:
        sys.stdout.write(last_lines(error.summary))
        raise SourceError(error.message) from None
    except (CameraError, ModelError) as error:
        raise SourceError(error.message) from None
    except (CardError, ZoneError) as error:
        raise SettingsError("rookery-agent run", list(getattr(error, "faults", (str(error),)))) from None
    sys.stdout.write(last_lines(summary))
    return summary.interrupted


def print_card(options: argparse.Namespace) -> int:
    """The whole card of a model, inferred or with the labels that were given, on standard output."""
    try:
        sys.stdout.write(dump_card(card_of(_choice(options))))
    except ModelError as error:
        raise SourceError(error.message) from None
    except CardError as error:
        raise SettingsError("rookery-agent run --print-card", list(getattr(error, "faults", (str(error),)))) from None
    return 0


def detect_loose(options: argparse.Namespace) -> int:
    """Boxes of pictures: to the file of ``--out``, else to standard output. Exit code 5 where a picture had to be left out."""
    from device_agent.vision.detect_disk import detect_pictures  # alone: the pipeline's imports would be waited for

    try:
        found = detect_pictures(options.pictures, _choice(options), options.out)
    except (CameraError, ModelError) as error:
        raise SourceError(error.message) from None
    except CardError as error:
        raise SettingsError("rookery-agent detect", list(getattr(error, "faults", (str(error),)))) from None
    if options.card is None:
        sys.stderr.write(short_card(found.card))
    if options.out is None:
        sys.stdout.write(json.dumps(found.boxes, indent=1) + "\n")
    else:
        sys.stdout.write(f"{len(found.boxes)} boxes of {found.pictures} pictures in {options.out}\n")
    if found.skipped:
        raise SourceError(
            f"{len(found.skipped)} of {found.pictures + len(found.skipped)} pictures were left out:"
            + "".join(f"\n  - {line}" for line in found.skipped)
        )
    return 0


def _choice(options: argparse.Namespace) -> ModelChoice:
    tiles = getattr(options, "tiles", None)
    try:
        parts = TileSettings(*tiles) if tiles else None
    except ValueError as error:
        raise SettingsError("rookery-agent --tiles", [str(error)]) from None
    return ModelChoice(options.model, options.labels, options.card, options.threads, tiles=parts)


class _Bar:
    """The progress line on a terminal's standard error; where that is no terminal, nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._progress: Progress | None = None
        self._next_s = 0.0

    def __enter__(self) -> None:
        """Nothing is shown before the first frame."""

    def __exit__(self, *_: object) -> None:
        self._clear()

    def advance(self, done: int, total: int | None) -> None:
        """So many frames are done."""
        now_s = time.monotonic()
        if self._progress is None:
            self._progress = Progress(total, now_s)
        if self._shown and now_s >= self._next_s:
            self._next_s = now_s + BAR_EVERY_S
            sys.stderr.write(f"\r\033[K{self._progress.line(done, now_s)}")
            sys.stderr.flush()

    def around(self, say: Callable[[EventUpdate], None]) -> Callable[[EventUpdate], None]:
        """What is said to standard output meanwhile stands on lines of its own."""

        def clearly(update: EventUpdate) -> None:
            self._clear()
            say(update)

        return clearly

    def _clear(self) -> None:
        if self._shown and self._progress is not None:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _say(update: EventUpdate) -> None:
    sys.stdout.write(said(update))
    sys.stdout.flush()  # somebody may follow a source that has no end through a pipe
