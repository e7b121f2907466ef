"""Empties the outbox into the server: slot, PUT, batch, and forget what is *stored*."""

import errno
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from device_agent.errors import AgentError, BrokenOffError, ServerRefusedError
from device_agent.spool.entry import Crop, Waiting
from device_agent.spool.slow_line import SlowLine
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills_http import send_stills
from device_agent.spool.upload_rule import UploadRule, class_of
from ota.wire.deployments import DeploymentReport, ReportBatch
from ota.wire.enrolment import BoardFacts
from ota.wire.events import CropRef, Event, EventBatch, Stored, UploadRequest, UploadSlot

BATCH_ENTRIES = 40
"""Entries per batch: with two crops each far below the wire's limit, and little enough to read into memory on a Zero 2 W."""
GATHER_S = 60.0
"""Putting crops may take so long before the events that are ready are told: a duty that is silent for minutes looks dead."""
REMEMBERED_CROPS = 1000
UNSTORABLE = (400, 413, 422)
"""Answers that say: these bytes will never be taken."""
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
log = logging.getLogger(__name__)


class Door(Protocol):
    """What the sender needs of the server; each method raises ServerUnavailableError or ServerRefusedError."""

    def upload_slot(self, request: UploadRequest) -> UploadSlot:
        """Ask for a place for one blob."""
        ...

    def put_blob(self, slot: UploadSlot, data: bytes) -> None:
        """Put the bytes there; returns also when the same bytes were there already."""
        ...

    def send_events(self, batch: EventBatch) -> Stored:
        """Hand over events; the answer is the server's mark after its commit."""
        ...

    def send_reports(self, batch: ReportBatch) -> Stored:
        """Hand over reports; the answer is the server's mark after its commit."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What goes with every report batch: replay and clone guards, slots, the board's facts."""

    highest_seq: int
    metadata_versions: dict[str, int]
    slots: dict[str, str]
    facts: BoardFacts | None


class Sender:
    """Sends the outbox in order. One instance, one thread. The link's errors come out as they are; nothing is forgotten then.

    ``rule``: what this board's policy lets out. ``steady_s``: seconds that only go on, for what a slow line costs.
    """

    def __init__(
        self, outbox: Outbox, door: Door, *, boot_id: str, standing: Callable[[], Standing], rule: UploadRule | None = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._outbox, self._door, self._boot_id, self._standing = outbox, door, boot_id, standing
        self._rule = rule or UploadRule()
        self._steady_s, self._line = steady_s, SlowLine(BATCH_ENTRIES)
        self._keys: dict[str, str] = {}
        self._facts_told: BoardFacts | None = None
        self._slots_told: dict[str, str] | None = None
        self._held: dict[str, str] = {}
        self._held_back: OrderedDict[str, None] = OrderedDict()

    def step(self) -> bool:
        """Send a batch of each stream. True when something still waits that could go. Raises AgentError of the link.

        A full disk holds up only the stream that cannot write: what the other one delivers makes the room again.
        """
        reports_go = self._pass("reports", self._send_reports)
        events_go = self._pass("events", self._send_events)
        stills_go = self._pass("stills", lambda: send_stills(self._outbox, self._door, self._rule, self._line, self._steady_s))
        going = (("reports", reports_go), ("events", events_go), ("stills", stills_go))
        return any(goes and self._outbox.count(stream) > 0 for stream, goes in going)

    def _pass(self, stream: str, send: Callable[[], None]) -> bool:
        """One batch; False when this board's own disk is in the way, said once."""
        try:
            send()
        except OSError as error:
            if error.errno not in DISK_FAULTS:
                raise
            if self._held.get(stream) != str(error):
                log.warning("spool: %s wait, the disk of this board cannot be written: %s", stream, error)
            self._held[stream] = str(error)
            return False
        if self._held.pop(stream, None):
            log.info("spool: %s go again", stream)
        return True

    # -- reports --------------------------------------------------------------------------------------------------------

    def _send_reports(self) -> None:
        entries = self._outbox.waiting("reports", BATCH_ENTRIES)
        standing = self._standing()
        news = standing.facts != self._facts_told or standing.slots != self._slots_told
        if not entries and not news:
            return
        self._deliver("reports", entries, lambda part: self._door.send_reports(self._report_batch(part, standing)))
        self._facts_told, self._slots_told = standing.facts, standing.slots

    def _report_batch(self, entries: list[Waiting], standing: Standing) -> ReportBatch:
        return ReportBatch(
            boot_id=self._boot_id,
            counter=self._outbox.next_counter(),
            highest_seq=standing.highest_seq,
            metadata_versions=standing.metadata_versions,
            slots=standing.slots,
            facts=standing.facts if standing.facts != self._facts_told else None,
            reports=[msgspec.convert(entry.header.message, DeploymentReport) for entry in entries],
        )

    # -- events ---------------------------------------------------------------------------------------------------------

    def _send_events(self) -> None:
        entries = self._outbox.waiting("events", self._line.entries)
        began_s = self._steady_s()
        ready: list[Waiting] = []
        outage: AgentError | None = None
        refs: dict[int, list[CropRef]] = {}
        for entry in entries:
            try:
                refs[entry.header.sequence] = self._crop_refs(entry)
            except AgentError as error:
                # What is complete still goes; this entry and all behind it wait, because the server's mark is cumulative.
                outage = error
                break
            ready.append(entry)
            if self._steady_s() - began_s > GATHER_S:
                break  # a slow line: what has its crops there is told now, and the next step goes on
        if ready:
            try:
                self._deliver("events", ready, lambda part: self._door.send_events(self._event_batch(part, refs)))
            except AgentError as error:
                self._keys.clear()
                if isinstance(error, BrokenOffError):
                    self._line.batch_failed()
                raise
            self._line.batch_went()
            for entry in ready:
                for crop in entry.crops:
                    self._keys.pop(f"{entry.header.message['id']} {crop.sha256}", None)
        if outage is not None:
            # The store forgets within a day what no event names: after an outage every crop is asked about anew.
            self._keys.clear()
            raise outage

    def _event_batch(self, entries: list[Waiting], refs: dict[int, list[CropRef]]) -> EventBatch:
        events = []
        for entry in entries:
            event = msgspec.convert(entry.header.message, Event)
            events.append(msgspec.structs.replace(event, crops=refs[entry.header.sequence]))
        return EventBatch(boot_id=self._boot_id, events=events)

    def _crop_refs(self, entry: Waiting) -> list[CropRef]:
        event_id = str(entry.header.message["id"])
        rule_kind = str(entry.header.message.get("rule_kind", ""))
        refs = []
        for crop in entry.crops:
            if not self._rule.lets_class(class_of(rule_kind, crop.kind)):
                self._hold_back(event_id, crop, "policy")
                continue
            key = self._key_of(event_id, crop)
            if key is not None:
                refs.append(
                    CropRef(
                        kind=crop.kind,
                        key=key,
                        sha256=crop.sha256,
                        length_bytes=crop.length_bytes,
                        score=crop.score,
                        at_s=crop.at_s,
                        box=crop.box,
                    )
                )
        return refs

    def _key_of(self, event_id: str, crop: Crop) -> str | None:
        """Where the crop lies in the store, after putting it there; None when the store will never take it."""
        name = f"{event_id} {crop.sha256}"
        cached = self._keys.get(name)
        if cached is not None:
            return cached
        if self._line.hopeless(name):
            return None
        request = UploadRequest(
            sha256=crop.sha256, length_bytes=crop.length_bytes, content_type="image/jpeg", purpose="crop", name=event_id
        )
        for last_try in (False, True):
            slot = self._door.upload_slot(request)
            if not slot.present:
                if crop.jpeg is None:
                    log.warning("spool: crop %s of event %s is neither here nor in the store", crop.kind, event_id)
                    return None
                if not self._rule.lets_slot(slot):
                    log.warning("spool: this board's policy lets no picture go to %r; the event goes without", slot.url[:80])
                    self._hold_back(event_id, crop, "upload_host")
                    return None
                try:
                    self._door.put_blob(slot, crop.jpeg)
                except ServerRefusedError as refusal:
                    if refusal.status == 403 and not last_try:
                        continue  # the slot expired between asking and putting (a slow link): ask for a new one, once
                    if refusal.status not in (*UNSTORABLE, 409):
                        raise
                    log.warning("spool: crop %s of event %s is not taken: %s", crop.kind, event_id, refusal.detail)
                    return None
                except BrokenOffError as error:
                    if not self._line.crop_failed(name, self._steady_s()):
                        raise
                    log.warning(
                        "spool: crop %s of event %s (%d bytes) is too much for this line; the event goes without: %s",
                        crop.kind, event_id, crop.length_bytes, error.message,
                    )  # fmt: skip
                    self._hold_back(event_id, crop, "slow_line")
                    return None
            self._keys[name] = slot.key
            return slot.key
        return None

    def _hold_back(self, event_id: str, crop: Crop, reason: str) -> None:
        """Count a picture that the policy does not let out, once, however often its event is sent."""
        key = f"{event_id} {crop.sha256}"
        if key not in self._held_back:
            self._outbox.count_unsent(reason)
        self._held_back[key] = None
        while len(self._held_back) > REMEMBERED_CROPS:
            self._held_back.popitem(last=False)

    # -- both -----------------------------------------------------------------------------------------------------------

    def _deliver(self, stream: str, entries: list[Waiting], send: Callable[[list[Waiting]], Stored]) -> None:
        """Send; where the server cannot take the whole batch, one by one, so that a bad entry does not hold up all others."""
        try:
            answer = send(entries)
        except ServerRefusedError as refusal:
            if refusal.status not in UNSTORABLE or not entries:
                raise
            if len(entries) == 1:
                self._outbox.give_up(stream, entries[0].header.sequence, f"the server refused it: {refusal.detail}")
                return
            for entry in entries:
                self._deliver(stream, [entry], send)
            return
        self._outbox.stored(stream, answer.sequence, answer.refused)
        log.debug("spool: %d %s sent, stored up to %d", len(entries), stream, answer.sequence)
