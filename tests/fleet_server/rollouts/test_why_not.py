"""Why a device does not run what is wanted: what a person reads."""

from fleet_server.rollouts.why_not import Case, why_not


def case(**changes: object) -> Case:
    known: dict[str, object] = {
        "device": "d-1", "name": "gate", "wanted": "yard@5", "wanted_sha256": "5" * 64, "running": "yard@2",
        "running_sha256": "2" * 64, "online": True, "silent_s": 1.0, "revoked": False, "held": "", "yanked": False,
        "variant_problem": "", "rollout": "r-1", "rollout_state": "running", "rollout_reason": "", "stage": 0, "open_stage": 0,
        "state": "offered", "reason": "", "detail": "",
    }  # fmt: skip
    return Case(**{**known, **changes})  # type: ignore[arg-type]


def test_a_device_between_two_attempts_says_what_it_waits_for() -> None:
    """A download came out wrong and is tried once more in five seconds: that is neither "not begun" nor refused yet."""
    said = " ".join(why_not(case(state="waiting", reason="hash", detail="files/8aa1438f is not what was signed")).sentences)
    for word in ("(hash)", "8aa1438f", "next attempt"):
        assert word in said
    assert "has not begun" not in said


def test_a_device_that_was_only_offered_it_has_not_begun() -> None:
    """The poll is due every half hour: nothing is wrong."""
    assert "has not begun" in why_not(case()).sentences[-1]
