"""A guard whose test passes without it is not guarded: each is switched off in turn, in a throw-away copy of the tree.

All of them: ``./run test --slow guards`` (docs/evidence/slow_guards.json, taken up where it was interrupted); a few each day.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guards.guard import Guard, off
from tests.guards.matrix import BY_NAME, GUARDS, HEADING, SAMPLE, table
from tests.guards.throw_away import ROOT, ThrowAway, unnoticed
from tests.guards.write_table import PAGE, written_in


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowAway]:
    made = ThrowAway(tmp_path_factory.mktemp("without") / "tree", [test for guard in GUARDS for test in guard.tests])
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_guards_are_missed_one_by_one(copy: ThrowAway, name: str) -> None:
    """Its tests pass with the guard, and each of them fails without it."""
    assert unnoticed(copy, BY_NAME[name]) == []


@pytest.mark.timeout(600)
def test_some_guards_are_missed_every_day(copy: ThrowAway) -> None:
    """The cheap ones together: their tests pass as the tree stands, and each fails without its guard."""
    sample = [BY_NAME[name] for name in SAMPLE]
    tests = sorted({test for guard in sample for test in guard.tests})
    assert {test: seen for test, seen in copy.outcomes(tests).items() if seen != {"passed"}} == {}
    unmissed = []
    for round_ in rounds(sample):
        kept = {guard.file: (copy.folder / guard.file).read_text() for guard in round_}
        with copy.all_without(round_):
            seen = copy.outcomes([test for guard in round_ for test in guard.tests])
        unmissed += [test for test, outcomes in seen.items() if "failed" not in outcomes]
        assert {file: (copy.folder / file).read_text() for file in kept} == kept, "the guard is on again"
    assert unmissed == []


def rounds(guards: list[Guard]) -> list[list[Guard]]:
    """Guards whose files and tests differ may be off at the same time: the fewer starts of Python, the better."""
    made: list[list[Guard]] = []
    for guard in guards:
        fits = [
            one for one in made
            if all(other.file != guard.file and not set(other.tests) & set(guard.tests) for other in one)
        ]  # fmt: skip
        if fits:
            fits[0].append(guard)
        else:
            made.append([guard])
    return made


@pytest.mark.timeout(600)
def test_a_guard_that_nobody_misses_is_told(copy: ThrowAway) -> None:
    """The machinery itself: a patch that changes nothing that counts leaves the tests passing, and that is said."""
    honest = BY_NAME["version of a message"]
    idle = replace(honest, new=honest.old.replace("if seen.v != VERSION:", "if VERSION != seen.v:"))
    assert idle.new != honest.old
    assert ["does not fail without the guard" in line for line in unnoticed(copy, idle)] == [True]


@pytest.mark.parametrize("old", ["no such line in this file", "import"])
def test_a_patch_that_does_not_fit_is_a_failure(old: str) -> None:
    guard = replace(BY_NAME["nonce of the poll"], old=old)
    with pytest.raises(ValueError, match="times in"):
        off((ROOT / guard.file).read_text(), guard)


def test_a_patch_that_makes_no_python_is_a_failure() -> None:
    guard = replace(BY_NAME["nonce of the poll"], new="    if (:\n")
    with pytest.raises(SyntaxError):
        off((ROOT / guard.file).read_text(), guard)


def test_every_guard_stands_in_the_source_and_has_tests_that_are_there() -> None:
    """Code moved on and the matrix did not: said at once, not in a month when somebody runs all of it."""
    faults = []
    for guard in GUARDS:
        try:
            off((ROOT / guard.file).read_text(), guard)
        except (OSError, ValueError, SyntaxError) as error:
            faults.append(f"{guard.name}: {error}")
        for test in guard.tests:
            file, _, function = test.partition("::")
            text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
            if not re.search(rf"^(async )?def {function}\(", text, re.MULTILINE):
                faults.append(f"{guard.name}: there is no {test}")
    assert faults == []


def test_there_are_many_guards_with_names_of_their_own() -> None:
    assert len(GUARDS) == len(BY_NAME) >= 40
    assert len({(guard.file, guard.old) for guard in GUARDS}) == len(GUARDS)
    assert set(SAMPLE) <= set(BY_NAME)
    for guard in GUARDS:
        assert guard.tests
        assert "|" not in guard.asset + guard.attacker + guard.name


def test_the_page_has_the_table_of_the_matrix() -> None:
    """``docs/security.md`` says who is kept from what by which guard, and which test shows it; nothing else, nothing less."""
    text = PAGE.read_text()
    assert text.count(f"{HEADING}\n") == 1
    assert written_in(text) == table(), "write it anew: .venv/bin/python -m tests.guards.write_table"


def test_the_product_knows_nothing_of_it() -> None:
    """No switch that could be left off: nothing that is delivered speaks of the matrix."""
    for package in ("device_agent", "fleet_server", "ota", "models", "provisioning", "hardware", "deploy"):
        for path in (ROOT / package).rglob("*.py"):
            assert "tests.guards" not in path.read_text(), path
    assert not list(Path(ROOT / "docs" / "evidence").glob("*.part"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("may_hang", [False, True])
def test_a_run_that_was_killed_counts_only_where_that_is_the_danger(copy: ThrowAway, may_hang: bool) -> None:
    """The machine was short of memory for a moment: no guard is called noticed by that, but where it was to be expected."""
    honest = BY_NAME["version of a message"]
    killed = "    import os\n    import signal\n\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    guard = replace(honest, new=killed + honest.old, may_hang=may_hang)
    assert ["killed" in line for line in unnoticed(copy, guard)] == ([] if may_hang else [True])
