"""One virtual device: its own key, the real wire, spool, TUF client and update machine, over a board that is only imagined."""

import functools
import hashlib
import random
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import urllib3

from device_agent.duties.turn import Stop
from device_agent.link.api_http import DeviceApi
from device_agent.link.clock import TrustedClock
from device_agent.link.enrol import enrol_once
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.pool_http import counted_manager
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.simulated.behaviour import LABELS, Behaviour, host, window
from device_agent.spool.entry import Crop
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.upload_http import Sender, Standing
from device_agent.telemetry.window import CameraTotals, Reading, Window
from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.installed import Installed
from device_agent.update.policy import Policy
from device_agent.update.selftest import SelftestRequest, SelftestResult
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.slots.slots_disk import Slots
from ota.trust.client_http import TrustClient
from ota.trust.refusal import Refusal
from ota.wire import topics
from ota.wire.assignments import StateRequest
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts
from ota.wire.events import Event
from ota.wire.heartbeat import Running

TRIAL = TrialLimits(min_gated_frames=30, deadline_s=600.0)
NO_RELEASE = "0" * 64


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all virtual devices share. ``root`` is the TUF root, None where they take no releases. ``stop`` ends downloads."""

    url: str
    ca_file: Path
    root: bytes | None
    channels: tuple[str, ...]
    stop: Stop


class ImaginedBoard:
    """Ports of the update part over nothing: any model loads, and the self-test says what the behaviour says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    def facts(self) -> BoardFacts:
        """Drawn from the seed."""
        return self._behaviour.facts

    def temperature_c(self) -> float | None:
        """Drawn from the seed."""
        return self._behaviour.temp_c

    def use(self, installed: Installed) -> Refusal | None:
        """Every model loads at once."""
        return None

    def selftest(self, request: SelftestRequest, *, should_stop: Callable[[], bool]) -> SelftestResult | Refusal:
        """Passed, unless this board is one on which releases fail."""
        if self._behaviour.fails == "selftest":
            return SelftestResult(code="parity", detail="simulated: outputs differ from the reference")
        return SelftestResult(figures={"parity_pairs": 8.0}, latency_ms=20.0, parity_reference="float32", runtime="simulated")


class VirtualDevice:
    """Takes turns; one thread at a time. ``enrolled`` says how far it is."""

    def __init__(self, behaviour: Behaviour, claim: str, folder: Path, around: Surroundings) -> None:
        self.behaviour, self.events, self.heartbeats = behaviour, 0, 0
        self.identity: Identity | None = None
        self.updater: Updater | None = None
        self._claim, self._folder, self._around = claim, folder, around
        self._chance = random.Random(f"{behaviour.facts.serial}/turns")
        self._boot_id = secrets.token_hex(8)
        self._store = IdentityStore(folder / "identity")
        self._count = ByteCount()
        self._tls = context(around.ca_file)
        self._api = DeviceApi(around.url, self._tls, self._count, timeout_s=20.0)
        self._outbox = Outbox(folder / "spool", max_bytes=16 * 2**20, min_free_bytes=0)
        self._clock = TrustedClock(0.0, now=time.time, steady=time.monotonic, keep=lambda _: None)
        self._window = Window(self._boot_id, time.monotonic())
        self._trust: TrustClient | None = None
        self._sender = Sender(self._outbox, self._api, boot_id=self._boot_id, standing=self._standing)
        self._turn_s = time.monotonic()
        self._frames = [0, 0, 0]

    def turn(self) -> None:
        """Enrol if need be, else poll, see, update, send, beat. Raises the link's errors: the next turn tries again."""
        if self.identity is None and not self._enrol():
            return
        if self._chance.random() < self.behaviour.absent_share:
            return
        now_s = time.monotonic()
        passed_s, self._turn_s = now_s - self._turn_s, now_s
        self._poll()
        self._see(passed_s)
        while self._sender.step() and not self._around.stop.is_set():
            pass
        self._beat()

    def rest(self) -> None:
        """Give the connections back until the next turn."""
        self._api.rest()

    def close(self) -> None:
        """Give the connections back for good."""
        self._api.close()

    @property
    def release(self) -> str:
        """What it runs, for the summary."""
        running = None if self.updater is None else self.updater.running
        return "none" if running is None else running.release

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _enrol(self) -> bool:
        identity = self._store.load() or enrol_once(self._api, self._store, self._claim, self.behaviour.facts).identity
        if identity is None:
            return False
        self.identity = identity
        self._api.use(context(self._around.ca_file, identity))
        if self._around.root is not None:
            self.updater = self._make_updater(identity.device, self._around.root)
        return True

    def _make_updater(self, device: str, root: bytes) -> Updater:
        pool = counted_manager(self._tls, self._count, urllib3.Timeout(20.0))
        bundles = self._api.url(topics.BUNDLES)
        self._trust = TrustClient(
            self._folder / "tuf", metadata_url=self._api.url(topics.METADATA), targets_url=bundles, pool=pool,
            bootstrap_root=root, reference_time=self._clock.now_s,
        )  # fmt: skip
        board = ImaginedBoard(self.behaviour)
        bench = Bench(
            trust=self._trust, content=PoolContent(pool, bundles), slots=Slots(self._folder / "slots"), models=board, board=board,
            policy=Policy(channels=self._around.channels), clock=self._clock, selftest=board.selftest,
            folder=self._folder / "downloads", inhibit=self._folder / "inhibit",
        )  # fmt: skip
        return Updater(
            device, memory=StateFile(self._folder / "state"), actions=Performer(bench), trust=self._trust, clock=self._clock,
            reports=_Reports(self._outbox), watch=TrialWatch(HistoryFile(self._folder / "history"), TRIAL),
        )  # fmt: skip

    def _poll(self) -> None:
        nonce = secrets.token_hex(16)
        seen = None if self.updater is None else self.updater.seen
        asked = StateRequest(
            nonce=nonce, seq=seen.seq if seen else 0, digest=(seen.digest or None) if seen else None,
            metadata_versions={} if self._trust is None else self._trust.versions(),
        )  # fmt: skip
        answer = self._api.state(asked)
        if self.updater is not None:
            self.updater.poll_answer(answer, nonce)

    def _see(self, passed_s: float) -> None:
        on_trial = self.updater is not None and self.updater.status.state == "trial"
        seen = window(self.behaviour, min(passed_s, 60.0), self._chance, on_trial=on_trial)
        light = seen.light["bright"]
        for place, value in enumerate((light.gated * 2, light.gated, light.found)):
            self._frames[place] += int(value)
        if self.updater is not None:
            self.updater.on_window(seen)
            self.updater.tick()
        if self._chance.random() < self.behaviour.event_rate * passed_s:
            self._event()

    def _event(self) -> None:
        at_s, score = self._clock.now_s(), round(self._chance.uniform(0.5, 0.99), 3)
        running = None if self.updater is None else self.updater.running
        box = (40.0, 30.0, 60.0, 90.0)
        jpeg = picture(self._chance.randrange(24))
        event = Event(
            sequence=0,
            id=uuid.uuid4().hex,
            camera="simulated",
            track=self.events + 1,
            label=self._chance.choice(LABELS),
            rule="the yard",
            rule_kind="zone",
            zone="the yard",
            started_at_s=at_s,
            ended_at_s=at_s + 3,
            start_frame=self._frames[0],
            end_frame=self._frames[0] + 45,
            score=score,
            threshold=0.5,
            box=box,
            frame_width_px=320,
            frame_height_px=240,
            bundle_sha256=running.sha256 if running else NO_RELEASE,
            release=running.release if running else "none@0",
        )
        crop = Crop("first", hashlib.sha256(jpeg).hexdigest(), len(jpeg), score, at_s, box, jpeg)
        self._outbox.add_event(event, [crop])
        self.events += 1

    def _beat(self) -> None:
        frames, gated, found = self._frames
        status = None if self.updater is None else self.updater.status
        camera = CameraTotals(
            "simulated", frames=frames, gated_frames=gated, frames_with_detection=found, detections=found, events=self.events,
            brightness_sum=130.0 * frames, baseline_bytes=gated * 20_000,
        )  # fmt: skip
        reading = Reading(
            state=status.state if status else "idle", running=_running(self.updater.running if self.updater else None),
            accelerator_reason="", detector_restarts=0, cameras=[camera], spool=self._outbox.health(),
            host=host(self.behaviour, self._chance), bytes_sent=self._count.sent_bytes, log_level="info",
            log_level_until_s=None, broker_connected=False,
        )  # fmt: skip
        self._api.send_heartbeat(self._window.close(reading, at_s=self._clock.now_s(), monotonic_s=time.monotonic()))
        self.heartbeats += 1

    def _standing(self) -> Standing:
        seq = 0 if self.updater is None else self.updater.seen.seq
        versions = {} if self._trust is None else self._trust.versions()
        return Standing(seq, versions, {}, self.behaviour.facts)


class _Reports:
    """The update's reports into the outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def put(self, report: DeploymentReport) -> None:
        """Keep it."""
        self._outbox.add_report(report)


def _running(installed: Installed | None) -> Running | None:
    if installed is None:
        return None
    return Running(
        name=installed.name, version=installed.version, bundle_sha256=installed.sha256, variant=installed.variant,
        slot=installed.sha256[:12], accelerator=installed.accelerator, runtime="simulated",
    )  # fmt: skip


@functools.lru_cache(maxsize=32)
def picture(number: int) -> bytes:
    """A small JPEG, one of a few: a figure on a plain ground."""
    ground = np.full((96, 64, 3), (40 + number * 7, 90, 60), np.uint8)
    cv2.rectangle(ground, (18, 14), (46, 88), (30, 60 + number * 5, 200), -1)
    done, data = cv2.imencode(".jpg", ground, [int(cv2.IMWRITE_JPEG_QUALITY), 80])
    assert done
    return bytes(data)

