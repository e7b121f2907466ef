"""The demo with a film and a model of somebody's own."""

from pathlib import Path

import pytest
from demo_process import run_demo

pytestmark = [pytest.mark.system, pytest.mark.assets]


@pytest.mark.timeout(400)
def test_a_strangers_film_and_model(demo_home: Path, films: Path, assets: Path) -> None:
    """A real film and SSD MobileNet: the card is inferred and printed, three boards see people, a second release is committed."""
    run = run_demo(
        demo_home, films, "--video", str(assets / "videos" / "one-by-one-person-detection.mp4"),
        "--model", str(assets / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"),
        "--labels", str(assets / "labels" / "coco_labels.txt"), deadline_s=300,
    )  # fmt: skip
    assert run.status == 0, run.output
    assert 'decoder = "ssd_postprocess"' in run.output
    assert run.untrue == []
    assert run.result is not None
    assert run.result["events"] >= 3
    assert run.result["releases"] == [{"name": "yard", "version": "2", "committed": 3, "refused": 0, "rolled_back": 0}]
