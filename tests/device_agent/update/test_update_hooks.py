"""The owner's own programs around an install: real executables, good ones, slow ones, talkative ones, and other people's."""

import os
import time
from pathlib import Path

import pytest

from device_agent.update.deployment import Deployment, Event
from device_agent.update.hooks_process import GO, KEPT_BYTES, LATER, MOMENTS, NO, POST_COMMIT, PRE_INSTALL, STOPPED, Hooks
from device_agent.update.machine import HOOK_ASKS, TRANSITION_LIMIT, step

GENEROUS_S = 60.0


def hook(world, moment: str, name: str, body: str, mode: int = 0o755) -> Path:
    folder = world.folder / "hooks" / moment
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


def never() -> bool:
    return False


def run(world, moment: str = PRE_INSTALL, limit_s: float = GENEROUS_S, moment_limit_s: float = 300.0):
    return Hooks(world.folder / "hooks", limit_s, moment_limit_s).run(moment, {"ROOKERY_RELEASE": "yard@2"}, never)


def commit(world) -> None:
    world.ticks()
    world.see(3.0, bright=(60.0, 50.0))
    world.ticks()


def test_without_hooks_nothing_is_asked(world) -> None:
    """Most boards have none."""
    assert [run(world, moment).outcome for moment in MOMENTS] == [GO] * 3


def test_hooks_run_in_order_of_name_with_what_they_need_to_know(world) -> None:
    """10-first, then 20-second; each learns moment and release from its environment and has nothing else of the agent's."""
    hook(world, PRE_INSTALL, "20-second", 'echo "second $ROOKERY_MOMENT $ROOKERY_RELEASE"')
    hook(world, PRE_INSTALL, "10-first", 'echo "first ${HOME:-no home}"')
    answer = run(world)
    assert answer.outcome == GO
    assert answer.words.splitlines() == [
        "pre-install/10-first: first no home", "pre-install/20-second: second pre-install yard@2",
    ]  # fmt: skip


def test_the_first_that_says_no_ends_it(world) -> None:
    """A gate that is open: the hook says so and leaves with 3."""
    hook(world, PRE_INSTALL, "10-gate", "echo the gate is open; exit 3")
    hook(world, PRE_INSTALL, "20-never", f"touch {world.folder}/ran")
    answer = run(world)
    assert (answer.outcome, answer.words) == (NO, "pre-install/10-gate: exit code 3. the gate is open")
    assert not (world.folder / "ran").exists()


def test_one_that_hangs_is_ended_with_its_family_at_its_limit(world) -> None:
    """It waits for a machine that never answers, in a child of its own: both are gone, and the install is refused in words."""
    hook(world, PRE_INSTALL, "10-hangs", f"echo waiting; sleep 300 & echo $! > {world.folder}/child; wait")
    answer = run(world, limit_s=1.0)
    assert answer.outcome == NO
    assert "time limit" in answer.words
    child = int((world.folder / "child").read_text())
    deadline = time.monotonic() + 30
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_one_that_leaves_a_child_behind_does_not_hold_us(world) -> None:
    """It ends at once, and what it started keeps our pipe open: nobody waits for that."""
    hook(world, PRE_INSTALL, "10-leaves", "sleep 300 & echo done")
    answer = run(world)
    assert (answer.outcome, answer.words) == (GO, "pre-install/10-leaves: done")


def test_a_flood_of_words_costs_no_memory_and_no_time(world) -> None:
    """Eight megabytes and then the reason: the end is kept."""
    hook(world, PRE_INSTALL, "10-flood", "head -c 8000000 /dev/zero | tr '\\0' 'x'; echo; echo the reason; exit 1")
    answer = run(world)
    assert answer.outcome == NO
    assert answer.words.endswith("the reason")
    assert len(answer.words) < KEPT_BYTES + 200


def test_words_that_are_no_text_are_still_told(world) -> None:
    """It prints a picture by mistake."""
    hook(world, PRE_INSTALL, "10-bytes", "printf '\\377\\376\\000'; exit 1")
    assert run(world).outcome == NO


def test_all_hooks_of_a_moment_together_have_a_limit(world) -> None:
    """Ten hooks of fifty seconds would hold a board for eight minutes."""
    for number in range(3):
        hook(world, PRE_INSTALL, f"{number}-slow", "sleep 0.6")
    answer = run(world, moment_limit_s=0.5)
    assert answer.outcome == NO


@pytest.mark.parametrize(
    "fault", ["link", "others-may-write", "folder-others-may-write", "folder-link", "not-executable", "name"]
)
def test_what_others_could_have_put_there_is_never_run(world, tmp_path: Path, fault: str) -> None:
    """A hook runs as the agent does: a link, a file or a folder that others may write, is not the owner's word."""
    marker = world.folder / "ran"
    path = hook(world, PRE_INSTALL, "10-other", f"touch {marker}")
    if fault == "link":
        real = world.folder / "elsewhere"
        path.rename(real)
        path.symlink_to(real)
    elif fault == "others-may-write":
        path.chmod(0o757)
    elif fault == "folder-others-may-write":
        path.parent.chmod(0o777)
    elif fault == "folder-link":
        real_folder = world.folder / "elsewhere"
        path.parent.rename(real_folder)
        path.parent.symlink_to(real_folder)
    elif fault == "not-executable":
        path.chmod(0o644)
    else:
        path.rename(path.with_name("10 other"))
    answer = run(world)
    assert answer.outcome == NO
    assert answer.words
    assert not marker.exists()


def test_a_hook_of_another_user_is_never_run(world) -> None:
    """Somebody who may write into the folder once puts his program there."""
    path = hook(world, PRE_INSTALL, "10-his", f"touch {world.folder}/ran")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        assert "belongs to user 12345" in run(world).words
    assert os.geteuid() != 0 or not (world.folder / "ran").exists()


def test_a_hook_that_cannot_be_run_is_a_no_with_words(world) -> None:
    """Its interpreter is not on this board."""
    path = hook(world, PRE_INSTALL, "10-odd", "true")
    path.write_text("#!/no/such/interpreter\n")
    answer = run(world)
    assert answer.outcome == NO
    assert "cannot be run" in answer.words


def test_a_no_before_the_install_refuses_it_and_the_report_says_who_and_why(world) -> None:
    """refused(hook): nothing was staged, what ran goes on, the hook's last words are in the report."""
    hook(world, PRE_INSTALL, "10-gate", "echo the gate is open >&2; exit 1")
    world.assign(bundle := world.publish("2"))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("refused", "hook")
    assert "the gate is open" in last.detail
    assert world.slots.slot(bundle.sha256) is None
    assert world.runs() == "yard@1"


def test_not_now_is_asked_again_until_it_is_now(world) -> None:
    """21 while somebody works at the machine: waiting(hook) with its end, asked again after a minute, two, four; then it goes
    on where it stood: nothing is fetched twice."""
    free = world.folder / "free"
    hook(world, PRE_INSTALL, "10-busy", f"test -e {free} || {{ echo somebody is here; exit 21; }}")
    world.assign(world.publish("2"))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("waiting", "hook")
    assert "somebody is here" in last.detail
    fetched = len(world.hands.fetched)
    world.ticks(4, 61.0)
    assert world.states()[-1] == "waiting"
    free.touch()
    world.ticks(10, 120.0)
    assert world.states()[-1] == "trial", world.hands.reports[-1]
    assert len(world.hands.fetched) == fetched


def test_a_hook_that_never_says_now_ends_after_a_week_and_not_as_a_loop(world) -> None:
    """Asking is no running in circles; but nothing waits for ever."""
    deployment = Deployment(
        assignment_seq=1, assignment_digest="", bundle=world.publish("2"), started_at_s=0.0, entered_at_s=0.0, state="staging"
    )
    now_s, asked = 0.0, 0
    while True:
        deployment = step(deployment, Event(kind="blocked", reason="hook", detail="busy"), now_s).deployment
        if deployment.state != "waiting":
            break
        asked += 1
        now_s = deployment.retry_at_s
        deployment = step(deployment, Event(kind="ask"), now_s).deployment
    assert (deployment.state, deployment.reason, asked) == ("refused", "hook", HOOK_ASKS)
    assert deployment.transitions < TRANSITION_LIMIT
    assert now_s > 7 * 86400 * 0.9


def test_hooks_after_the_fact_change_nothing_and_their_words_are_told(world) -> None:
    """The release is committed and its post-commit hook fails: committed it stays, once, with the hook's words in the report."""
    hook(world, POST_COMMIT, "10-tell", 'echo "told the foreman of $ROOKERY_RELEASE"; exit 7')
    world.assign(world.publish("2"))
    commit(world)
    last = world.hands.reports[-1]
    assert last.state == "committed"
    assert "told the foreman of yard@2" in last.detail
    assert "exit code 7" in last.detail
    assert world.updater._ledger.state.deployment.settled
    assert world.runs() == "yard@2"


def test_after_a_roll_back_its_hook_is_told_the_reason(world) -> None:
    """The owner's program learns that the board went back, and why."""
    hook(world, "post-rollback", "10-why", 'echo "because of $ROOKERY_REASON"')
    world.assign(world.publish("2"))
    world.ticks()
    world.assign(world.publish("3", counter=3))
    world.hands.cut_at = lambda what: False
    world.ticks()
    told = [report for report in world.hands.reports if report.state == "rolled_back"]
    assert "because of superseded" in told[0].detail


def test_the_power_goes_in_the_middle_of_a_hook_and_it_is_run_again(world) -> None:
    """At least once, never "perhaps": the hook learns which install it is, so that a second run can see that it is one."""
    log = world.folder / "log"
    hook(world, POST_COMMIT, "10-note", f'echo "$ROOKERY_DEPLOYMENT" >> {log}')
    world.assign(world.publish("2"))
    world.ticks()

    def cut(what: str) -> bool:
        return what == "report-committed"

    world.hands.cut_at = cut
    world.see(3.0, bright=(60.0, 50.0))
    with pytest.raises(BaseException, match="report-committed"):
        world.ticks()
    world.hands.cut_at = lambda what: False
    world.restart()
    world.ticks()
    lines = log.read_text().split()
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert world.states()[-1] == "committed"


def test_an_agent_that_ends_during_a_hook_waits_for_nobody(world) -> None:
    """systemd gives ninety seconds; the hook would take five minutes: it is ended, and asked anew at the next start."""
    hook(world, PRE_INSTALL, "10-long", "sleep 300")
    answer = Hooks(world.folder / "hooks").run(PRE_INSTALL, {}, lambda: True)
    assert answer.outcome == STOPPED
    assert LATER not in answer.words
