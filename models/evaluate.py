"""How good is this model on that set? `python -m models.evaluate --model M.tflite --card C.toml --set DIR`.

Scores any COCO-format set (`images/` and `annotations.json`), categories matched by NAME. Exit codes: 0 scored, 1 something that
was given cannot be used (said on stderr), 2 wrong arguments, 130 interrupted.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.card import CardError, ModelCard, load_card
from models.coco_set_disk import CocoSet, LabelledPicture, SetError, read_coco_set, read_picture
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel
from models.precision import LabelledBoxes
from models.scores import Scores, score_results

SCORE_FLOOR = 0.01
"""Detections from this score on enter: AP reads the whole curve, and below it nothing changes the third digit."""


class UsageError(ValueError):
    """Something that was given and cannot be used."""


def run_model(
    model: TfliteModel, pictures: Sequence[LabelledPicture], on_progress: Callable[[int], None] = lambda done: None
) -> tuple[list[LabelledBoxes], list[float]]:
    """What the model finds in each picture, and the milliseconds of each invoke."""
    results, invoke_ms = [], []
    for done, picture in enumerate(pictures, 1):
        found = model.detect(read_picture(picture.path), threshold=SCORE_FLOOR)
        results.append(LabelledBoxes.found(found, model.card.labels))
        invoke_ms.append(model.invoke_ms)
        on_progress(done)
    return results, invoke_ms


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _evaluate(options)
    except (UsageError, SetError, ModelError, CardError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nevaluate: interrupted", file=sys.stderr)
        return 130


def _evaluate(options: argparse.Namespace) -> int:
    card = _read_card(options.card)
    coco = read_coco_set(options.set)
    pictures = [picture for picture in coco.pictures if options.split in (None, picture.split)]
    if not pictures:
        raise UsageError(f"the set has no picture of split {options.split!r}")
    labels, left_out = _labels(card, coco, options.label)
    with TfliteModel(options.model, card, threads=options.threads, delegate_library=options.delegate) as model:
        results, invoke_ms = run_model(model, pictures, _progress(len(pictures)))
        scores = score_results(
            [picture.truth for picture in pictures],
            results,
            labels=labels,
            thresholds=sorted({0.3, 0.5, 0.6, card.thresholds.score}),
            bootstrap=options.bootstrap,
            seed=options.seed,
        )
        report = {
            "v": 1,
            "model": options.model.name,
            "sha256": hashlib.sha256(options.model.read_bytes()).hexdigest(),
            "card": card.name,
            "runtime": model.runtime,
            "accelerator": model.accelerator,
            "set": options.set.resolve().name,
            "split": options.split,
            "pictures": len(pictures),
            "bootstrap": options.bootstrap,
            "seed": options.seed,
            "left_out": left_out,
            "invoke_ms_median": round(statistics.median(invoke_ms), 3),
            **scores.as_json(),
        }
    _show(report, scores)
    if options.json:
        _write(options.json, report)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description="Score a detector on a COCO-format set.")
    parser.add_argument("--model", type=Path, required=True, metavar="M.tflite")
    parser.add_argument("--card", type=Path, required=True, metavar="C.toml", help="its model card")
    parser.add_argument("--set", type=Path, required=True, metavar="DIR", help="images/ and annotations.json")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures here as well")
    parser.add_argument("--class", dest="label", action="append", metavar="NAME", help="only this class (may be repeated)")
    parser.add_argument("--split", help="only pictures whose annotation says this split, such as val2017")
    parser.add_argument("--bootstrap", type=_at_least(0), default=500, metavar="N", help="draws for the 90 %% intervals; 0: none")
    parser.add_argument("--seed", type=_at_least(0), default=0)
    parser.add_argument("--threads", type=_at_least(1), default=1)
    parser.add_argument("--delegate", metavar="LIBRARY", help="delegate library of an Edge TPU")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return number

    return whole


def _read_card(path: Path) -> ModelCard:
    try:
        card = load_card(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the card {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the card {path} is not UTF-8 text") from error
    if card.task != "detect":
        raise UsageError(f"{card.name} is a classifier: a set of boxes cannot score it")
    return card


def _labels(card: ModelCard, coco: CocoSet, chosen: list[str] | None) -> tuple[list[str], list[str]]:
    """The classes to score, and the set's categories that the model does not know."""
    known = [name for name in coco.categories if name in card.labels]
    unknown = sorted(set(coco.categories) - set(card.labels))
    if chosen:
        strange = [name for name in chosen if name not in known]
        if strange:
            raise UsageError(f"{', '.join(strange)}: not a class of both card and set")
        return list(dict.fromkeys(chosen)), []
    if not known:
        raise UsageError(f"card and set share no class name; the set has {', '.join(sorted(coco.categories)[:8])}")
    return known, unknown


def _progress(total: int) -> Callable[[int], None]:
    """A bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        return lambda done: None

    def bar(done: int) -> None:
        filled = done * 40 // total
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{total}", end=end, file=sys.stderr, flush=True)

    return bar


def _show(report: dict[str, Any], scores: Scores) -> None:
    print(f"{report['model']} on {report['set']}: {report['pictures']} pictures, {report['runtime']}, {report['accelerator']}")
    print(f"{'class':<20} {'truths':>6} {'AP50':>6} {'90 %':>15}  recall/precision at score")
    for one in scores.classes:
        if one.truths:
            print(_row(one.label, one.truths, one.ap50, one.ci90, one.at))
    truths = sum(one.truths for one in scores.classes)
    print(_row("mean, all boxes", truths, scores.ap50, scores.ci90, scores.at))
    if report["left_out"]:
        print(f"left out, not known to this model: {', '.join(report['left_out'])}")


def _row(
    label: str, truths: int, ap50: float, ci90: tuple[float, float] | None, at: Sequence[tuple[float, float, float]]
) -> str:
    interval = f"{ci90[0]:.3f} to {ci90[1]:.3f}" if ci90 else ""
    rows = "  ".join(f"{score:g}: {recall:.3f}/{precision:.3f}" for score, recall, precision in at)
    return f"{label:<20} {truths:>6} {ap50:>6.3f} {interval:>15}  {rows}"


def _write(path: Path, report: dict[str, Any]) -> None:
    """Write the report whole or not at all."""
    text = json.dumps(report, indent=1) + "\n"
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
