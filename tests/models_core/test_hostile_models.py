"""Model files made by nobody's trainer: refused by their bytes where that is possible; where not, a child dies, not the agent."""

import hashlib
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import load_card
from models.inference.errors import REASONS, ModelError
from models.inference.flatbuffer import Tables
from models.inference.flexbuffer import whole_number
from models.inference.interpreter_tflite import look_at
from models.inference.metadata import normalisation, ultralytics
from models.inference.model_file import MAX_MODEL_BYTES, check_model_file
from models.inference.runtime_tflite import TfliteModel, infer_card_for

ROOT = Path(__file__).resolve().parents[2]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
WHOLE = (YARD / "model_int8.tflite").read_bytes()

CHILD = """
import resource, signal, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import numpy as np
from models.card import load_card
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel
card = load_card(Path(sys.argv[1]).read_text())
picture = np.full((240, 320, 3), 90, np.uint8)
for path in Path(sys.argv[2]).read_text().splitlines():
    signal.alarm(60)
    try:
        with TfliteModel(path, card) as model:
            model.detect(picture)
        print("ran", flush=True)
    except ModelError as error:
        print(error.reason, flush=True)
    except MemoryError:
        print("memory", flush=True)
"""


def refusal(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        check_model_file(data, "m.tflite")
    return str(caught.value.reason)


def mutated(seed: int) -> bytes:
    """The real model with a few bytes changed, most of them in the tables at its ends."""
    rng = np.random.default_rng(seed)
    data = bytearray(WHOLE)
    for _ in range(int(rng.integers(1, 12))):
        near = int(rng.integers(0, 6000 if rng.random() < 0.7 else len(data)))
        data[near if rng.random() < 0.5 else len(data) - 1 - near] = int(rng.integers(256))
    return bytes(data)


def opened_in_children(folder: Path, seeds: range) -> Counter[str]:
    """What became of mutated models, opened one after the other by one child, by the next where that one died."""
    outcomes: Counter[str] = Counter()
    paths = []
    for seed in seeds:
        data = mutated(seed)
        try:
            check_model_file(data, "m")
        except ModelError as error:
            outcomes[error.reason] += 1
            continue
        path = folder / f"{seed}.tflite"
        path.write_bytes(data)
        paths.append(path)
    while paths:
        (folder / "list").write_text("\n".join(map(str, paths)))
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(YARD / "card.toml"), str(folder / "list")],
            capture_output=True, text=True, cwd=ROOT, check=False, timeout=170,
        )  # fmt: skip
        told = child.stdout.split()
        outcomes.update(told)
        if child.returncode == 0:
            assert len(told) == len(paths)
            break
        assert child.returncode < 0, child.stderr  # ended by a signal: an exception of Python's would be a fault of ours
        outcomes["died"] += 1
        paths = paths[len(told) + 1 :]
    return outcomes


def test_two_hundred_mutated_models_and_nobody_dies_but_a_child(tmp_path: Path) -> None:
    """Bytes turned by a bad card or a bad person: each file gives a reason, runs, or takes its child along."""
    outcomes = opened_in_children(tmp_path, range(200))
    assert sum(outcomes.values()) == 200
    assert set(outcomes) <= {*REASONS, "ran", "died", "memory"}
    assert outcomes["corrupt"] > 20
    assert outcomes["ran"] > 20, "weights may change and the model still runs: that is what hashes are for"
    assert outcomes["died"] < 20


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_five_thousand_mutated_models(tmp_path: Path, batch: int) -> None:
    outcomes = opened_in_children(tmp_path, range(1000 + 500 * batch, 1500 + 500 * batch))
    assert sum(outcomes.values()) == 500
    assert set(outcomes) <= {*REASONS, "ran", "died", "memory"}


def first_shape() -> int:
    """Where the sides of the first tensor stand in the model's bytes."""
    tables = Tables(WHOLE)
    graph = next(tables.each(tables.root(), 2))
    tensor = next(tables.each(graph, 0))
    start, count = tables.vector(tensor, 0, 4)
    assert count == 4
    return start


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ((1, 65_536, 65_536, 3), "too_large"),
        ((2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1), "too_large"),
        ((1, 2**29, 1, 3), "too_large"),
        ((1, -7, 320, 3), "corrupt"),
    ],
)
def test_a_file_of_a_few_bytes_that_asks_for_all_memory_is_refused(sides: tuple[int, ...], reason: str) -> None:
    """The file is whole and every offset is right; only the picture it wants has a side of 65,536 px."""
    data = bytearray(WHOLE)
    struct.pack_into("<4i", data, first_shape(), *sides)
    assert refusal(bytes(data)) == reason


def test_a_vector_that_claims_to_be_longer_than_the_file_is_refused() -> None:
    for claimed in (2**31, 2**32 - 1, len(WHOLE)):
        data = bytearray(WHOLE)
        struct.pack_into("<I", data, first_shape() - 4, claimed)
        assert refusal(bytes(data)) == "corrupt"


def test_tables_that_point_to_themselves_do_not_keep_anybody_busy() -> None:
    """Two million entries that all lead back to one table: the walk ends by its budget."""
    count = 2_000_000
    vtable = struct.pack("<HHHHHH", 12, 8, 0, 4, 4, 4)  # fields 1 to 3 stand right behind the table's own beginning
    at_table = 8 + len(vtable)
    data = bytearray(struct.pack("<I4s", at_table, b"TFL3") + vtable)
    data += struct.pack("<iI", len(vtable), 4)  # the way back to its vtable, and on to the vector behind
    data += struct.pack("<I", count)
    entries = np.arange(count, dtype=np.int64) * 4 + len(data)
    data += ((at_table - entries) % 2**32).astype(np.uint32).tobytes()
    with pytest.raises(ModelError) as caught:
        check_model_file(data, "m.tflite")
    assert caught.value.reason == "corrupt"


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """Half a gigabyte of nothing under a model's name: not read, not hashed, not mapped."""
    huge = tmp_path / "huge.tflite"
    with huge.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)
    for look in (lambda: look_at(huge), lambda: look_at(huge, "0" * 64), lambda: infer_card_for(huge)):
        with pytest.raises(ModelError) as caught:
            look()
        assert caught.value.reason == "too_large"
        assert "huge.tflite" in caught.value.message


def test_a_file_is_not_opened_before_it_has_the_hash_that_was_promised(tmp_path: Path) -> None:
    """Somebody changed one weight behind our back: the model would run, and is refused; so is what is no model at all."""
    card = load_card((YARD / "card.toml").read_text())
    changed = tmp_path / "model.tflite"
    data = bytearray(WHOLE)
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    promised = hashlib.sha256(WHOLE).hexdigest()
    with pytest.raises(ModelError) as caught:
        TfliteModel(changed, card, sha256=promised)
    assert caught.value.reason == "wrong_hash"
    changed.write_bytes(b"no model at all")
    with pytest.raises(ModelError) as caught:
        TfliteModel(changed, card, sha256=promised)
    assert caught.value.reason == "wrong_hash", "nothing of a wrong file is looked at"
    with TfliteModel(YARD / "model_int8.tflite", card, sha256=promised) as model:
        model.detect(np.zeros((240, 320, 3), np.uint8))


@given(st.binary(max_size=400), st.text(max_size=100))
@settings(max_examples=200, deadline=None)
def test_metadata_of_any_bytes_is_metadata_or_none(data: bytes, text: str) -> None:
    """What a file says of itself is a courtesy: broken, it is not there."""
    assert normalisation(data) is None
    whole_number(data, "num_classes")
    ultralytics(text)


def test_a_text_that_is_nested_without_end_is_no_metadata() -> None:
    for text in ("(" * 10_000, "[" * 200_000, "{'names': " * 5000, "{'names': {0: 'a'},,,", "__import__('os').abort()"):
        assert ultralytics(text) is None
    assert ultralytics("{'names': {0: 'a', 2: 'c'}}") is None, "ids with a gap"
    assert ultralytics('{"names": {"0": "cat", "1": "dog"}, "task": "detect"}').labels == ("cat", "dog")  # type: ignore[union-attr]
