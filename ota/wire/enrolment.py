"""Enrolment: how a board asks for its identity, and what it says about itself."""

from typing import Annotated

from msgspec import Meta

from ota.wire.base import Code, Count, DeviceId, Instant, Message, Name, Part, Text

Pem = Annotated[str, Meta(max_length=20_000)]


class Accelerator(Part, frozen=True, kw_only=True):
    """An accelerator on the board. ``present`` on the bus; ``usable`` when its delegate loads; ``reason`` when it does not."""

    kind: Code
    """edgetpu-usb or edgetpu-pci."""
    present: bool
    usable: bool
    reason: Text = ""


class BoardFacts(Part, frozen=True, kw_only=True):
    """What the board is, as found on it: the inventory shows it, the variant resolver decides by it."""

    profile: Code
    """Id of the board profile (``hardware/profiles``), for instance rpi-4; ``unknown`` when none fits."""
    board_model: Name
    serial: Annotated[str, Meta(max_length=64)] = ""
    machine: Code
    """Processor architecture as the kernel names it: aarch64, armv7l, x86_64."""
    word_bits: int = 64
    cores: Count = 1
    memory_bytes: Count
    accelerators: list[Accelerator] = []
    runtimes: dict[Code, Name] = {}
    """Interpreters that were built by a probe: name (litert, tflite-runtime) -> version."""
    python: Name
    agent_version: Name
    os: Name = "unknown"
    abi: Code = ""
    """Of the interpreter, as wheels name it (cp311); empty where an agent of before does not say."""
    libc: Annotated[str, Meta(max_length=60)] = ""
    """C library and its version: ``glibc 2.36``."""
    agent_release: Annotated[str, Meta(max_length=100)] = ""
    """``name@version`` of the installed agent release that runs; empty: the agent that the launcher came with."""
    agent_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    """Digest of that release's manifest; empty with it."""


def fingerprint(key_sha256: str) -> str:
    """How a public key is shown to people on both sides, to be compared: the first half of its SHA-256 in groups of four."""
    return " ".join(key_sha256[at : at + 4] for at in range(0, 32, 4))


class EnrolRequest(Message, frozen=True, kw_only=True):
    """A claim and a certificate request. Sending the same key again gets the same answer: a lost answer costs nothing.

    An empty claim: the board has none, and waits until an operator or an enrolment rule lets it in.
    """

    claim: Annotated[str, Meta(max_length=200, pattern=r"^([\s\S]{16,})?\Z")]
    csr_pem: Pem
    facts: BoardFacts


class BrokerAddress(Part, frozen=True, kw_only=True):
    """Where the broker listens for devices with their certificate."""

    host: Name
    port: Annotated[int, Meta(ge=1, le=65535)]


class EnrolAnswer(Message, frozen=True, kw_only=True):
    """``status`` is accepted (the certificate is here) or pending (ask again after ``retry_after_s``)."""

    status: Code
    device: DeviceId | None = None
    certificate_pem: Pem = ""
    chain_pem: Pem = ""
    """Issuing and root certificates that the device pins for server and broker."""
    broker: BrokerAddress | None = None
    retry_after_s: float = 5.0


class RenewRequest(Message, frozen=True, kw_only=True):
    """A new certificate request, sent over the connection that the present certificate authenticates."""

    csr_pem: Pem


class TimeRequest(Message, frozen=True, kw_only=True):
    """Asks for the time before the clock can be trusted; the nonce makes an old answer worthless."""

    nonce: Annotated[str, Meta(min_length=16, max_length=64)]


class TimeAnswer(Message, frozen=True, kw_only=True):
    """The payload of a ``Signed`` answer to TimeRequest."""

    nonce: str
    now_s: Instant
