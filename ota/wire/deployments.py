"""Reports: what a device says of one release on it. Numbered per device; the server believes the digest that is reported."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ota.wire.base import Code, Count, Instant, Message, Name, Number, Part, Sha256, Text
from ota.wire.enrolment import BoardFacts

DEPLOYMENT_STATES = (
    "idle", "offered", "waiting", "downloading", "verifying", "staging", "selftest", "trial",
    "committed", "rolled_back", "refused", "superseded", "cancelled",
)  # fmt: skip
END_STATES = ("committed", "rolled_back", "refused", "superseded", "cancelled")

# Reason codes of refused(…) and rolled_back(…). A code is for machines; ``detail`` says it to a person.
REASONS = {
    "signature": "a signature or the metadata that it covers does not verify",
    "wrong_device": "the assignment names another device",
    "nonce": "the answer does not echo the nonce that was sent",
    "sequence": "the assignment is older than one already seen, or has the same number and other content",
    "expired": "assignment or metadata is past its expiry",
    "channel": "this board's policy does not allow the channel",
    "mismatch": "assignment and signed metadata disagree about path, length or hash",
    "hardware": "the release does not list this board's hardware",
    "counter": "the release is below the floor that a releaser set",
    "variant": "no variant of the release fits this board",
    "hash": "a file is not what the signed manifest says",
    "download": "the files could not be fetched within the limits",
    "disk": "there is not enough room, or the disk cannot be written",
    "format": "the bundle is malformed",
    "parity": "golden samples: outputs differ from the reference",
    "acceptance": "golden samples: below the channel's acceptance minimum",
    "budget": "latency or memory above the signed budget",
    "model": "the model could not be loaded or run",
    "detection_rate": "trial: detects less than this device's own history under enough motion",
    "frame_rate": "trial: fewer frames per second than before",
    "latency": "trial: slower than before",
    "crashes": "trial: the detector died too often",
    "boots": "trial: interrupted by too many restarts",
    "deadline": "a state took longer than its deadline",
    "attempts": "the attempt budget of this release is used up",
    "loop": "too many transitions in one deployment",
    "superseded": "a newer assignment took its place",
    "other_update": "the device's other update (model or agent) goes first",
    "launcher": "this agent was not started by the launcher, which alone can start another one",
    "abi": "the wheels are not for this board's Python or C library",
    "wheel": "a wheel of the agent release is broken or not what its lock says",
    "start": "trial: the new agent did not start",
    "alive": "trial: the new agent started and did not say in time that it works",
    "frames": "trial: a camera that gave frames before gives none to the new agent",
    "link": "trial: the new agent never reached the server",
    "hook": "a hook of this board's owner said no, or not now",
    "memory": "there is not enough memory free for the self-test",
    "metered": "the line is metered, and its budget for updates is used up",
    "fault": "the agent failed at a step in a way that nobody foresaw",
    "policy": "the policy that this board follows is not one that can be used",
}

RELEASE, BOARD, SERVER, NOBODY = "release", "board", "server", "nobody"
_FAULTS = {
    RELEASE: (
        "format", "parity", "acceptance", "budget", "model", "detection_rate", "frame_rate", "latency", "crashes", "boots",
        "wheel", "start", "alive", "frames", "link",
    ),
    BOARD: (
        "hash", "channel", "hardware", "variant", "abi", "disk", "deadline", "attempts", "loop", "launcher", "hook", "memory",
        "metered", "policy", "fault",
    ),
    SERVER: ("signature", "wrong_device", "nonce", "sequence", "expired", "mismatch", "counter", "download"),
    NOBODY: ("superseded", "other_update"),
}  # fmt: skip
FAULTS: dict[str, str] = {code: fault for fault, codes in _FAULTS.items() for code in codes}
"""Reason code -> whose fault it is, for whoever counts failed devices, and for the board, which tries again accordingly.

``release``: it was run here, or could not be, by its own doing; the same release is not tried again by itself. ``board``: this
board's own state, bytes that reached it wrong, or it is not one that the release is for; says little of the release.
``server``: the line, the metadata or the assignment; no device failed, and all would alike until somebody mends it.
``nobody``: another wish came first.
"""


def fault_of(reason: str) -> str:
    """Whose fault a reason code is (see ``FAULTS``); a code of a later version is nobody's until it is known here."""
    return FAULTS.get(reason, NOBODY)


class DeploymentReport(Part, frozen=True, kw_only=True):
    """One step of one deployment. ``target_sha256`` is the release in question, ``running_sha256`` what runs meanwhile."""

    sequence: Count
    at_s: Instant
    assignment_seq: Count
    target_sha256: Sha256
    target: Name
    """``name@version`` as the assignment names it."""
    state: Code
    reason: Code = ""
    detail: Text = ""
    running_sha256: Sha256 | None = None
    running: Text = ""
    variant: Code = ""
    variant_reason: Text = ""
    kind: Code = "model"
    """model, or agent: the device's own software. ``running`` is of the same kind."""
    origin: Code = "server"
    """server, local (USB stick) or factory."""
    attempt: Count = 1
    behaviour_unseen: bool = False
    figures: dict[Code, Number] = {}
    """Measured: parity_pairs, acceptance_ap50, selftest_ms, trial_gated_frames, trial_rate, history_rate, …"""


class ReportBatch(Message, frozen=True, kw_only=True):
    """Reports in order of ``sequence``, with what guards against replay and cloning, and the board's facts when they changed."""

    LIMIT_BYTES: ClassVar[int] = 512 * 1024

    boot_id: Code
    counter: Count
    """Rises with every batch this device ever sent; a fork means a cloned card."""
    highest_seq: Count
    metadata_versions: dict[Annotated[str, Meta(max_length=60)], Count] = {}
    slots: dict[Code, Sha256] = {}
    """Install place (current, previous, factory) -> manifest digest."""
    facts: BoardFacts | None = None
    reports: Annotated[list[DeploymentReport], Meta(max_length=200)]
