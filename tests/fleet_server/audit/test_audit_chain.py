"""The chain: its text and hashes to the letter, and what a check finds of what was done to it."""

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.audit import chain

# Written once, by hand and by sha256sum. A change of any letter here is a new version of the chain.
GOLDEN = (
    (
        {"at_s": 1790000000.0, "who": "ada", "what": "rollout.create", "target": "r-1", "before": None,
         "after": {"release": "yard@2", "stages": [0.05, 1.0]}, "origin": "10.0.0.7"},
        ('{"after":{"release":"yard@2","stages":[0.05,1]},"at_s":1790000000,"before":null,"id":1,"origin":"10.0.0.7",'
        '"previous":"0000000000000000000000000000000000000000000000000000000000000000","target":"r-1","v":1,'
        '"what":"rollout.create","who":"ada"}'),
    ),
    (
        {"at_s": 1790000000.25, "who": "zoë", "what": "crop.look", "target": "d-1/crop/e1/00", "before": {"state": "läuft"},
         "after": {"small": 1.5e-7, "big": 1e22, "no": False, "none": None, "b": {}, "a": []}, "origin": ""},
        None,
    ),
)  # fmt: skip
GOLDEN_HASHES = (
    "5026a8965a87870dc9e31545189cb233f8d10c5ad18e1983658daea154df179e",
    "bc7e6b6cd6aeaa8489a41597b9b2828bef648fe507d5490017b189a0f0f3d014",
)


def made(count: int) -> list[dict[str, Any]]:
    """Rows of a chain as an export has them: {hash, row}."""
    lines, previous = [], chain.GENESIS
    for number in range(1, count + 1):
        text = chain.text_of(
            id=number, at_s=1000.0 + number, who="ada", what="probe", target=f"t{number}", before=None, after={"n": number},
            origin="", previous=previous,
        )  # fmt: skip
        lines.append(json.loads(chain.line_of(text)))
        previous = lines[-1]["hash"]
    return lines


def judged(lines: list[dict[str, Any]], head: dict[str, Any] | None = None) -> list[tuple[int, str]]:
    check = chain.Check()
    for one in lines:
        check.take(one["row"], one["hash"])
    head = head or lines[-1]
    check.end(head["row"]["id"], head["hash"])
    return [(one.id, one.problem) for one in check.findings]


def rehashed(row: dict[str, Any]) -> dict[str, Any]:
    return {"row": row, "hash": chain.hash_of(chain.canonical(row))}


def test_texts_and_hashes_are_those_that_were_written_once() -> None:
    """Somebody reorders a key or writes 1.0 for 1: every log ever exported would look forged."""
    previous = chain.GENESIS
    for number, ((row, text), digest) in enumerate(zip(GOLDEN, GOLDEN_HASHES, strict=True), 1):
        said = chain.text_of(id=number, previous=previous, **row)
        assert text is None or said == text
        assert hashlib.sha256(said.encode()).hexdigest() == chain.hash_of(said) == digest
        # What the top of chain.py tells a stranger to do.
        assert json.dumps(json.loads(said), sort_keys=True, separators=(",", ":")) == said
        previous = digest


def test_a_whole_chain_is_whole() -> None:
    assert judged(made(5)) == []
    assert judged(made(5)[2:]) == [], "a piece from the middle says nothing of what was before"


def test_a_row_that_was_changed_is_named() -> None:
    lines = made(5)
    lines[2]["row"]["who"] = "eve"
    assert [number for number, _ in judged(lines)] == [3]


def test_a_row_that_was_changed_with_its_own_hash_is_named_by_the_next() -> None:
    lines = made(5)
    lines[2] = rehashed({**lines[2]["row"], "who": "eve"})
    ((number, problem),) = judged(lines)
    assert number == 4
    assert "does not follow row 3" in problem


def test_missing_rows_are_named() -> None:
    lines = made(7)
    assert [number for number, _ in judged(lines[:2] + lines[3:])] == [3]
    found = judged(lines[:2] + lines[5:])
    assert found == [(3, "and all up to 5 are missing")]
    assert judged(lines[1:], lines[-1]) == [], "where the beginning is not asked for, nothing is missed"


def test_the_end_that_was_cut_off_is_found_by_the_head() -> None:
    lines = made(5)
    ((number, problem),) = judged(lines[:3], lines[4])
    assert number == 5
    assert "cut off" in problem
    assert judged(lines, lines[3]), "a head that was set back"


def test_rows_in_another_order_and_what_is_no_row() -> None:
    lines = made(4)
    assert judged([lines[0], lines[2], lines[1], lines[3]])
    check = chain.Check()
    row = lines[0]["row"]
    for nonsense in ({}, {"id": "1"}, {**row, "v": 2}, {**row, "more": 1}, {**row, "id": True}):
        check.take(nonsense, "0" * 64)
    assert check.faults == 5


def test_a_first_row_that_follows_something_is_no_first_row() -> None:
    row = {**made(1)[0]["row"], "previous": "a" * 64}
    assert [number for number, _ in judged([rehashed(row)])] == [1]


def test_ten_thousand_faults_are_counted_and_a_hundred_told() -> None:
    check = chain.Check()
    for _ in range(10_000):
        check.take({}, "")
    assert (check.faults, len(check.findings)) == (10_000, 100)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    """Whatever JSON does to a value between writing and reading, its text stays: else a true row would look forged."""
    text = chain.canonical({"x": chain.plain(value)})
    assert text.isascii()
    assert chain.canonical({"x": chain.plain(json.loads(text)["x"])}) == text


def test_numbers_have_one_form_and_objects_none() -> None:
    assert chain.plain([1.0, -0.0, 2.5, math.inf, True, (1,), {3: {2.0}}]) == [1, 0, 2.5, "inf", True, [1], {"3": [2]}]
    assert chain.canonical({"a": chain.plain(1e22)}) == '{"a":10000000000000000000000}'
    with pytest.raises(TypeError, match="object cannot stand in the audit"):
        chain.plain(object())
