"""P9: what a poll that brings nothing costs a resident agent: CPU, requests and bytes, beside a bare GET of 200 B.

The real server over TLS with a client certificate; one kept connection for both sides, which ask in turn. Ours is the whole poll:
nonce, request, answer decoded, its signature verified, the device rule asked.
"""

import statistics
import time
from collections.abc import Callable, Mapping

from device_agent.update.answers import Answers
from device_agent.update.assignment_rule import Accepted, Seen
from ota.trust.key_types import Key
from ota.trust.refusal import Refusal
from ota.wire.assignments import StateRequest
from ota.wire.topics import METADATA
from tests.bench.result import Result
from tests.bench.server_process import Enrolled, enrolled, nonce

POLLS, ROUNDS = 60, 9
BARS = [5.0, 1.0, 2048.0]


class Known:
    """Trust as a resident agent holds it between two polls: the keys are verified already."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys

    def assignment_keys(self) -> Mapping[str, Key]:
        """Who may sign."""
        return self._keys

    def refresh(self) -> Refusal | None:
        """Never needed here."""
        raise AssertionError("a poll that brings nothing asked for metadata")

    find = manifest = None  # type: ignore[assignment]  # nor these


class Wall:
    """The board's clocks."""

    now_s = staticmethod(time.time)
    steady_s = staticmethod(time.monotonic)


class Ours:
    """The resident agent's poll."""

    def __init__(self, device: Enrolled) -> None:
        self._device = device
        self._answers = Answers(device.device, Known(device.keys), Wall())  # type: ignore[arg-type]
        self._seen = Seen(0, "")
        self.requests = 0

    def poll(self) -> None:
        """One; what it brings is believed."""
        drawn = nonce()
        answer = self._device.api.state(StateRequest(nonce=drawn, seq=self._seen.seq, digest=self._seen.digest or None))
        self.requests += 1
        judged = self._answers.judge(answer, drawn, self._seen)
        if not isinstance(judged, Accepted):
            raise AssertionError(f"the answer was not believed: {judged}")
        self._seen = Seen(judged.state.seq, judged.state.digest)


def bare(device: Enrolled) -> int:
    """A GET of some 200 bytes over the very same connection (that a file is not there); how many they were."""
    answer = device.api._pool.urlopen("GET", f"{METADATA}/0.root.json", preload_content=True, redirect=False)
    return len(answer.data)


def run() -> Result:
    """In turn, in rounds."""
    with enrolled() as device:
        ours = Ours(device)
        for _ in range(10):
            ours.poll()
            bare(device)
        ratios, mine_ms, bare_ms = [], [], []
        ours.requests = 0
        before = device.count.sent_bytes + device.count.received_bytes
        for _ in range(POLLS):
            ours.poll()
        device.api.rest()  # what the connection moved is added up when it closes
        wire_bytes = (device.count.sent_bytes + device.count.received_bytes - before) / POLLS
        requests = ours.requests / POLLS
        bare_bytes = bare(device)
        for _ in range(ROUNDS):
            mine, theirs = _cpu_ms(ours.poll), _cpu_ms(lambda: bare(device))
            ratios.append(mine / theirs)
            mine_ms.append(mine)
            bare_ms.append(theirs)
    ratios.sort()
    return Result(
        id="P9",
        ratio=[statistics.median(ratios), requests, wire_bytes],
        spread=[(ratios[0], ratios[-1]), (requests, requests), (wire_bytes, wire_bytes)],
        bar=BARS,
        figures={
            "poll_cpu_ms": statistics.median(mine_ms), "bare_get_cpu_ms": statistics.median(bare_ms),
            "bare_bytes": float(bare_bytes),
        },
    )  # fmt: skip


def _cpu_ms(work: Callable[[], object]) -> float:
    begin = time.process_time()
    for _ in range(POLLS):
        work()
    return (time.process_time() - begin) * 1e3 / POLLS
