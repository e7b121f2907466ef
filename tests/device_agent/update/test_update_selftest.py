"""The self-test's child: a real model on real golden samples, and models that crash, hang or are no models."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from device_agent.update.selftest import SelftestRequest, SelftestResult, allowance, prove
from device_agent.update.selftest_process import run_selftest
from models.card import load_card
from models.golden import make_parity
from models.inference.runtime_tflite import TfliteModel
from models.precision import LabelledBoxes
from ota.bundle.manifest import Budget
from ota.trust.refusal import Refusal
from ota.wire.enrolment import BoardFacts

RENDERED = Path(__file__).resolve().parents[3] / "models" / "rendered"
RELEASE = RENDERED / "releases" / "yard-1"
ACCEPTANCE = RENDERED / "acceptance"
KEPT = 6


@pytest.fixture
def golden(tmp_path: Path) -> SelftestRequest:
    """Release 1's int8 model, an acceptance set of six of the channel's pictures, and parity with its float32 model."""
    import cv2

    whole = json.loads((ACCEPTANCE / "acceptance.json").read_text())
    whole["images"] = whole["images"][:KEPT]
    whole["min_ap50"] = 0.5
    (tmp_path / "acceptance.json").write_text(json.dumps(whole))
    pictures = {image["sha256"]: str(ACCEPTANCE / image["file"]) for image in whole["images"]}
    card = load_card((RELEASE / "card.toml").read_text())
    with TfliteModel(RELEASE / "model_float32.tflite", card) as model:
        found = [LabelledBoxes.found(model.detect(cv2.imread(path), threshold=0.5), card.labels) for path in pictures.values()]
    names = [(image["file"], image["sha256"]) for image in whole["images"]]
    (tmp_path / "parity.json").write_bytes(make_parity(names, found, threshold=0.5))
    return SelftestRequest(
        model=str(RELEASE / "model_int8.tflite"), card=str(RELEASE / "card.toml"), parity=str(tmp_path / "parity.json"),
        acceptance=str(tmp_path / "acceptance.json"), pictures=pictures, rounds=5,
    )  # fmt: skip


def changed(request: SelftestRequest, **fields: object) -> SelftestRequest:
    from msgspec.structs import replace

    return replace(request, **fields)


def test_a_good_release_is_proved_with_figures(golden: SelftestRequest) -> None:
    result = run_selftest(golden)
    assert isinstance(result, SelftestResult)
    assert result.code == "", result.detail
    assert result.figures["parity_pairs"] > 0
    assert result.figures["acceptance_ap50"] >= 0.5
    assert result.latency_ms > 0
    assert 0 < result.memory_bytes < 2**30
    proof = prove(result, Budget(), 2.0)
    assert proof.code == ""
    assert "AP50" in proof.detail


def test_boxes_in_the_wrong_places_are_found_by_the_channels_own_pictures(golden: SelftestRequest, tmp_path: Path) -> None:
    """`boxes`: the scores are as ever, the boxes are not where the things are. (Here the truth is mirrored.)"""
    mirrored = json.loads(Path(golden.acceptance).read_text())
    for image in mirrored["images"]:
        for thing in image["objects"]:
            thing["bbox"][0] = 320 - thing["bbox"][0] - thing["bbox"][2]
    (tmp_path / "mirrored.json").write_text(json.dumps(mirrored))
    result = run_selftest(changed(golden, acceptance=str(tmp_path / "mirrored.json")))
    assert isinstance(result, SelftestResult)
    assert result.code == "acceptance"
    assert "stays below" in result.detail
    assert result.figures["acceptance_ap50"] < 0.5


def test_a_wrong_scaling_on_this_board_is_found_by_parity(golden: SelftestRequest, tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text((RELEASE / "card.toml").read_text().replace("std = 255.0", "std = 25.0"))
    result = run_selftest(changed(golden, card=str(card)))
    assert isinstance(result, SelftestResult)
    assert result.code == "parity"


def test_a_model_cut_in_half_is_refused_as_a_model(golden: SelftestRequest, tmp_path: Path) -> None:
    half = tmp_path / "half.tflite"
    data = (RELEASE / "model_int8.tflite").read_bytes()
    half.write_bytes(data[: len(data) // 2])
    result = run_selftest(changed(golden, model=str(half)))
    code = result.code
    assert code == "model"


def test_a_changed_or_missing_golden_picture_and_a_broken_card_are_refused(golden: SelftestRequest, tmp_path: Path) -> None:
    first = next(iter(golden.pictures))
    (tmp_path / "other.jpg").write_bytes(b"other bytes")
    swapped = run_selftest(changed(golden, pictures={**golden.pictures, first: str(tmp_path / "other.jpg")}))
    gone = run_selftest(changed(golden, pictures={}))
    (tmp_path / "bad.toml").write_text("name = 3")
    card = run_selftest(changed(golden, card=str(tmp_path / "bad.toml")))
    assert [one.code for one in (swapped, gone, card)] == ["hash", "format", "format"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ("raise MemoryError('no more')", "no more"),
        ("raise SystemExit(7)", "exit code 7"),
        ("pass", "left no result"),
        ("import sys; open(sys.argv[2], 'w').write('{')", "left no result"),
    ],
)
def test_a_child_that_dies_takes_nothing_with_it(program: str, said: str) -> None:
    """The interpreter crashes on a hostile model: the agent gets a refusal with the reason."""
    outcome = run_selftest(SelftestRequest(model="m", card="c"), command=(sys.executable, "-c", program))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "model"
    assert said in outcome.detail


def test_a_child_that_hangs_is_ended() -> None:
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    outcome = run_selftest(SelftestRequest(model="m", card="c"), command=command, deadline_s=0.5)
    assert isinstance(outcome, Refusal)
    assert "did not finish" in outcome.detail


FACTS = BoardFacts(profile="rpi-4", board_model="x", machine="aarch64", memory_bytes=4 * 2**30, python="3", agent_version="1")


def test_the_signed_budget_is_stretched_openly() -> None:
    from msgspec.structs import replace

    small = replace(FACTS, memory_bytes=512 * 2**20)
    assert (allowance(FACTS), allowance(small)) == (2.0, 6.0)
    result = SelftestResult(latency_ms=50.0, memory_bytes=1000, parity_reference="self")
    assert prove(result, Budget(latency_ms=20.0), 2.0).code == "budget"
    assert prove(result, Budget(latency_ms=20.0), 6.0).code == ""
    assert prove(result, Budget(memory_bytes=999), 6.0).code == "budget"
    assert "parity only" in prove(result, Budget(), 2.0).detail
    assert prove(Refusal("model", "it died"), Budget(), 2.0).code == "model"


def test_the_pictures_are_the_ones_that_were_signed() -> None:
    whole = json.loads((ACCEPTANCE / "acceptance.json").read_text())
    for image in whole["images"][:KEPT]:
        assert hashlib.sha256((ACCEPTANCE / image["file"]).read_bytes()).hexdigest() == image["sha256"]
