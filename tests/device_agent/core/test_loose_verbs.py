"""``run --source`` and ``detect``: the user's own material, without any server; bad material gets words."""

import json
from pathlib import Path

import pytest

from device_agent.__main__ import main

YARD = Path(__file__).parents[3] / "models" / "rendered" / "releases" / "yard-1"
MODEL = ["--model", str(YARD / "model_int8.tflite"), "--card", str(YARD / "card.toml")]


def test_a_drawn_scene_gives_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty drawn frames: what was seen is said, and stands in the file as contracts §8 has it."""
    out = tmp_path / "events.jsonl"
    assert main(["run", "--source", "rendered:7:day", *MODEL, "--frames", "60", "--events", str(out)]) == 0
    assert "60 frames" in capsys.readouterr().out
    for line in out.read_text().splitlines():
        assert {"camera", "track", "category", "best", "open", "rule_kind"} <= set(json.loads(line))


@pytest.mark.parametrize(
    ("what", "words", "code"),
    [
        (["run", "--source", "{folder}/absent.mp4", *MODEL], "absent.mp4", 5),
        (["run", "--source", "{folder}/noise.mp4", *MODEL], "noise.mp4", 5),
        (["run", "--source", "rendered:7", "--model", "{folder}/half.tflite", *MODEL[2:]], "half.tflite", 5),
        (["run", "--source", "rendered:7", *MODEL, "--zone", "{folder}/zone.json"], "zone", 2),
        (["run", "--source", "rendered:7"], "--model", 2),
        (["run"], "--config", 2),
        (["run", "--config", "{folder}/absent.toml"], "absent.toml", 2),
        (["detect", "{folder}/absent", *MODEL], "absent", 5),
    ],
)
def test_bad_material_gets_words_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: list[str], words: str, code: int
) -> None:
    """A film that is not a film, a model cut in half, a zone file that is none: one sentence, an exit code, no stack trace."""
    (tmp_path / "noise.mp4").write_bytes(b"this is not a film" * 100)
    whole = (YARD / "model_int8.tflite").read_bytes()
    (tmp_path / "half.tflite").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "zone.json").write_text("[]")
    assert main([word.replace("{folder}", str(tmp_path)) for word in what]) == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*.part"))
