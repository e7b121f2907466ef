"""Who judges an agent on trial, and by what: frames of each camera that gave some, an answer of the server, nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from device_agent.update.agent_formats import Formats, after_commit, problem, written
from device_agent.update.agent_trial import AgentJudge, AgentTrialLimits, SeenOnTrial, judge_agent
from device_agent.update.health import HealthWindow

LIMITS = AgentTrialLimits(settle_s=30, frames_s=600, link_s=86_400)


def seen(**changes: object) -> SeenOnTrial:
    whole = {"in_state_s": 60.0, "frames": {"yard": 400, "gate": 300}, "before": ["gate", "yard"], "reached": True}
    return SeenOnTrial(**{**whole, **changes})  # type: ignore[arg-type]


def ends(**changes: object) -> tuple[str, str]:
    event, _ = judge_agent(seen(**changes), LIMITS)
    return ("", "") if event is None else (event.kind, event.reason)


def test_what_an_agent_must_show_before_it_stays() -> None:
    assert ends() == ("good", "")
    assert ends(in_state_s=29) == ("", "")
    assert ends(reached=False) == ("", "")
    assert ends(frames={"yard": 400, "gate": 0}) == ("", "")


def test_a_link_that_is_gone_is_no_failure_by_itself() -> None:
    """A night without a server: the trial goes on, and ends well in the morning; only a whole day without one ends it."""
    assert ends(reached=False, in_state_s=8 * 3600) == ("", "")
    assert ends(reached=True, in_state_s=8 * 3600 + 1) == ("good", "")
    assert ends(reached=False, in_state_s=86_400) == ("bad", "link")


def test_a_camera_that_gave_frames_and_gives_none_ends_it() -> None:
    assert ends(frames={"yard": 400, "gate": 9}, in_state_s=599) == ("", "")
    assert ends(frames={"yard": 400, "gate": 9}, in_state_s=600) == ("bad", "frames")
    event, _ = judge_agent(seen(frames={"yard": 400, "gate": 9}, in_state_s=600), LIMITS)
    assert event is not None
    assert "camera gate gave frames before" in event.detail


def test_a_camera_that_was_dark_before_or_is_not_configured_any_more_is_not_asked_for() -> None:
    assert ends(frames={"yard": 400, "gate": 0}, before=["yard"]) == ("good", "")
    assert ends(frames={"yard": 400}, before=["gate", "yard"]) == ("good", "")


def test_where_nothing_was_seen_before_it_stays_as_unseen() -> None:
    """A board whose cameras were off, or whose notes were lost with the power: it works, and what it sees by is not known."""
    assert ends(frames={}, before=[]) == ("unseen", "")
    assert ends(before=None) == ("unseen", "")


CAMERAS = st.sampled_from("abc")


@given(st.floats(0, 2e5), st.dictionaries(CAMERAS, st.integers(0, 50)), st.none() | st.lists(CAMERAS), st.booleans())
def test_every_trial_ends_and_none_ends_well_blind_or_deaf(
    in_state_s: float, frames: dict[str, int], before, reached: bool
) -> None:
    event, said = judge_agent(SeenOnTrial(in_state_s, frames, before, reached), LIMITS)
    assert said
    if event is not None and event.kind in ("good", "unseen"):
        assert reached
        assert all(frames.get(name, 10) >= 10 for name in before or [])
    if in_state_s >= LIMITS.link_s:
        assert event is not None


def test_the_process_that_ends_for_the_switch_judges_nothing() -> None:
    """The old agent still sees its cameras for a moment: that is no word about the new one."""
    frames = {"yard": 100}
    on_trial = [False]
    judge = AgentJudge(
        lambda: frames, reached=lambda: True, on_trial=lambda: on_trial[0], before=lambda: ["yard"], limits=LIMITS
    )
    assert judge.verdict(1000, None) is None
    on_trial[0] = True
    event = judge.verdict(1000, None)
    assert event is not None
    assert event.kind == "good"


def test_seeing_means_frames_in_the_last_minute() -> None:
    frames = {"yard": 0, "gate": 5}
    judge = AgentJudge(lambda: dict(frames), reached=lambda: True, on_trial=lambda: False, before=lambda: None, limits=LIMITS)
    window = HealthWindow(duration_s=2.0)
    judge.add(window, 10.0, trial=False)
    assert judge.seeing() == ["gate"]
    frames["yard"] = 3
    judge.add(window, 60.0, trial=False)
    assert judge.seeing() == ["gate", "yard"]
    judge.add(window, 100.0, trial=False)
    assert judge.seeing() == ["yard"]


def test_no_new_format_is_written_before_the_commit() -> None:
    """Version N+1 on trial writes what N reads; what is in force rises with its commit; a version that would read too little, or
    too much to go back, is refused in its self-test."""
    new = Formats(writes=4, oldest_read=3)
    assert written(3, new) == 3
    assert after_commit(3, new) == 4
    assert written(after_commit(3, new), new) == 4
    assert problem(3, new) == ""
    assert "one in between goes first" in problem(2, new)
    assert "up to set 3" in problem(4, Formats(writes=3, oldest_read=2))
