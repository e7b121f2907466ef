"""A small fleet in every state that the pages show, made through the services as devices and operators would make it."""

import hashlib
from dataclasses import dataclass, field

import cv2
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from fleet_server.alerts import parts
from fleet_server.alerts import service as alerts
from fleet_server.alerts.service import Condition
from fleet_server.blobs.store import upload_key
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import Context
from fleet_server.detections import service as detections
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.experiments import service as experiments
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import ListedChannel, ListedRelease
from fleet_server.rollouts import reports
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.orders import Order, Timing
from fleet_server.telemetry import service as telemetry
from models.rendered import scenes
from ota.bundle.manifest import AcceptanceSet, FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.wire.deployments import DeploymentReport, ReportBatch
from ota.wire.enrolment import Accelerator, BoardFacts, EnrolRequest
from ota.wire.events import CropRef, Event, EventBatch
from ota.wire.heartbeat import CameraHealth, Heartbeat, HostHealth, LineCount, Running, StageLatency
from ota.wire.logs import LogBatch, LogLine

TIMING = Timing(within_s=90.0, lost_after_s=600.0)
NAMES = ("gate-north", "gate-south", "yard-east", "yard-west", "dock-1", "dock-2", "office", "attic")
HASH_DETAIL = "model_int8.tflite: sha256 2f5c… instead of the manifest's 91ab…"


@dataclass
class SeededFleet:
    """What was made: device name -> id, release -> manifest sha256, ids of rollouts and events."""

    devices: dict[str, str] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    paused_rollout: str = ""
    event: str = ""


def seed_fleet(context: Context) -> SeededFleet:
    """Eight devices (one offline, one held, one with a Coral that is gone), two releases, rollouts, events, logs, alerts."""
    fleet, now_s = SeededFleet(), context.clock()
    with context.database.write() as session:
        for index, name in enumerate(NAMES):
            fleet.devices[name] = enrol(context, session, name, index, now_s)
        pending(context, session, now_s)
        fleet.releases = publish(session, now_s)
        for index, name in enumerate(NAMES[:-1]):
            beats(session, fleet, name, index, now_s)
        inventory.record_seen(session, fleet.devices["attic"], now_s - 7200)
        fleet.paused_rollout = _paused_rollout(session, fleet, now_s)
        clone = "report counter 41 came from two boots: two cards bear this identity"
        inventory.record_held(session, fleet.devices["office"], clone)
        _experiment(session, now_s)
        _logs(session, fleet, now_s)
        parts.note_part(session, "broker", ok=True, note="no broker: devices use HTTPS alone", now_s=now_s)
        parts.note_part(session, "verifier", ok=True, note="yard verifier 1", now_s=now_s)
        alerts.reconcile(session, [
            Condition("rollout_paused", fleet.paused_rollout, "rollout of yard@2: 2 of stage 1 failed, 0 are allowed"),
            Condition("device_silent", fleet.devices["attic"], "attic is silent: not heard for 300 s or longer"),
        ], now_s)  # fmt: skip
    fleet.event = _events(context, fleet, now_s)
    return fleet


def facts(index: int) -> BoardFacts:
    reason = "" if index < 2 else "libedgetpu.so.1 is missing"
    coral = Accelerator(kind="edgetpu-usb", present=True, usable=index < 2, reason=reason)
    return BoardFacts(
        profile="rpi-5" if index % 2 else "rpi-4", board_model=f"Raspberry Pi {5 if index % 2 else 4} Model B",
        serial=f"1000{index:08x}", machine="aarch64", cores=4, memory_bytes=4 * 2**30, accelerators=[coral] if index < 4 else [],
        runtimes={"litert": "2.1.0"}, python="3.11.2", agent_version="0.1.0", os="Debian 12",
    )  # fmt: skip


def enrol(context: Context, session: Session, name: str, index: int, now_s: float) -> str:
    """A board gets in with a claim of that name."""
    issuer = enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)
    terms = enrolment.ClaimTerms(group="yard" if "yard" in name or "gate" in name else "house", device_name=name)
    claim = enrolment.make_claims(session, count=1, terms=terms, ttl_s=3600, who="ada", now_s=now_s)[0]
    request = EnrolRequest(claim=claim.token, csr_pem=_csr(), facts=facts(index))
    device_id = enrolment.enrol(session, request, issuer, origin="10.0.0.7", now_s=now_s).device_id
    assert device_id is not None
    return device_id


def pending(context: Context, session: Session, now_s: float) -> None:
    """A board whose claim lets a person decide."""
    issuer = enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)
    claim = enrolment.make_claims(session, count=1, terms=enrolment.ClaimTerms(accept=False), ttl_s=60, who="ada", now_s=now_s)[0]
    request = EnrolRequest(claim=claim.token, csr_pem=_csr(), facts=facts(9))
    assert enrolment.enrol(session, request, issuer, origin="10.0.0.9", now_s=now_s).status == "pending"


def _csr() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    return made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def publish(session: Session, now_s: float) -> dict[str, str]:
    """yard@1 (parity only) and yard@2 (with an acceptance set) as a channel that lists them."""
    listed, found = [], {}
    for counter, version in enumerate(("1", "2"), 1):
        model = FileEntry(sha256=hashlib.sha256(version.encode()).hexdigest(), length_bytes=1_800_000)
        names = (("edgetpu", "edgetpu"), ("cpu-int8", "cpu"))
        acceptance = AcceptanceSet(path="stable/acceptance/yard/acceptance.json", sha256="a" * 64) if counter == 2 else None
        manifest = Manifest(
            name="yard", version=version, channel="stable", counter=counter, created_s=int(now_s) - 86_400 * (3 - counter),
            hardware=["*"],
            files={"card.toml": FileEntry(sha256="0" * 64, length_bytes=300), **{f"{name}.tflite": model for name, _ in names}},
            variants=[
                Variant(id=name, accelerator=kind, runtimes=["litert"], model=f"{name}.tflite", card="card.toml",
                        files=[f"{name}.tflite", "card.toml"])
                for name, kind in names
            ], golden=Golden(acceptance=acceptance),
        )  # fmt: skip
        data = encode_manifest(manifest)
        found[manifest.release] = hashlib.sha256(data).hexdigest()
        path = target_path("stable", "yard", version)
        listed.append(ListedRelease(path, found[manifest.release], len(data), manifest, data.decode(), ""))
    releases.take_over(session, [ListedChannel("stable", 2, listed)], now_s)
    session.flush()
    return found


def beats(session: Session, fleet: SeededFleet, name: str, index: int, now_s: float, count: int = 30) -> None:
    """Heartbeats of the last quarter of an hour."""
    received = []
    for number in range(count):
        at_s = now_s - 30 * (count - 1 - number)
        wave = float(np.sin(number / 4 + index))
        camera = CameraHealth(
            camera="cam0", camera_fps=15.0, processed_fps=14.5 + wave / 2, frames=435, gated_frames=120 + index,
            frames_with_detection=30 + int(8 * wave), detections=40, events=1, brightness=110.0,
            state="covered" if name == "office" else "ok", dropped={"late": 3, "hung": 1} if name == "office" else {},
            crossed=[LineCount(line="door", label="person", direction="in", count=12)] if name == "office" else [],
        )  # fmt: skip
        running = Running(
            name="yard", version="1", bundle_sha256=fleet.releases["yard@1"], variant="edgetpu" if index < 2 else "cpu-int8",
            slot="a", accelerator="edgetpu" if index < 2 else "cpu", runtime="litert 2.1.0",
        )  # fmt: skip
        received.append((fleet.devices[name], Heartbeat(
            sequence=number + 1, boot_id="boot-1", at_s=at_s, uptime_s=30.0 * number, window_s=30.0, state="idle",
            running=running,
            accelerator_reason="libedgetpu.so.1 is missing" if index in (2, 3) else "", cameras=[camera],
            latency={"total": StageLatency(p50_ms=21.0 + wave, p95_ms=34.0 + 4 * wave, count=435)},
            host=HostHealth(cpu_temp_c=52.0 + 3 * wave + index, load_1m=1.2, disk_free_bytes=9 * 2**30),
            bytes_sent=40_000 * (number + 1), bytes_baseline_gated_jpeg=3_000_000 * (number + 1),
        ), at_s))  # fmt: skip
    telemetry.store_heartbeats(session, received)


def report(session: Session, fleet: SeededFleet, name: str, sequence: int, state: str, now_s: float, *, release: str = "yard@2",
           reason: str = "", detail: str = "") -> None:  # fmt: skip
    """One step of a deployment, as the device says it."""
    one = DeploymentReport(
        sequence=sequence, at_s=now_s, assignment_seq=1, target_sha256=fleet.releases[release], target=release, state=state,
        reason=reason, detail=detail, running_sha256=fleet.releases["yard@1"], running="yard@1", variant="cpu-int8",
        variant_reason="accelerator missing, CPU variant cpu-int8 because libedgetpu.so.1 is missing",
    )  # fmt: skip
    batch = ReportBatch(boot_id="boot-1", counter=sequence, highest_seq=1, reports=[one])
    reports.store_reports(session, fleet.devices[name], batch, now_s=now_s)


def _paused_rollout(session: Session, fleet: SeededFleet, now_s: float) -> str:
    order = Order(release="yard@2", group="yard", stages=(0.5, 1.0), max_failed=0)
    made = rollouts.create(session, order, who="ada", now_s=now_s - 300)
    session.flush()
    rollouts.tick(session, now_s - 290, 1, TIMING)
    assert made.id is not None
    first = [one.name for one in rollouts.rollout(session, made.id).devices if one.stage == 1]
    report(session, fleet, first[0], 1, "refused", now_s - 200, reason="hash", detail=HASH_DETAIL)
    detail = "this device's own history: 24.8 % of gated frames; this trial: 3.1 % over 420"
    report(session, fleet, first[1], 1, "rolled_back", now_s - 120, reason="detection_rate", detail=detail)
    rollouts.tick(session, now_s - 100, 1, TIMING)
    return made.id


def _experiment(session: Session, now_s: float) -> None:
    experiments.create(
        session, name="night eyes", a="yard@1", b="yard@2", share_b=0.5, group="house", devices=None, who="ada", now_s=now_s
    )


def _logs(session: Session, fleet: SeededFleet, now_s: float) -> None:
    device_id = fleet.devices["gate-north"]
    texts = [("info", "agent", "started, release yard@1"), ("warning", "camera", "no frame for 5.0 s, opening it again"),
             ("debug", "tracker", "track 14 confirmed after 3 frames"), ("error", "link", "the server did not answer in 10 s"),
             ("info", "spool", "12 items wait <script>alert(1)</script>")]  # fmt: skip
    lines = [
        LogLine(sequence=number + 1, at_s=now_s - 60 + number, level=level, logger=logger, text=text)
        for number, (level, logger, text) in enumerate(texts)
    ]
    logs.store_lines(session, device_id, LogBatch(boot_id="boot-1", lines=lines))
    logs.create_session(session, device_id, log_level="debug", duration_s=600, reason="INC-41", who="ada", now_s=now_s)


def _events(context: Context, fleet: SeededFleet, now_s: float) -> str:
    """Events with drawn crops: agreed, disagreed and not yet looked at."""
    blobs = context.blobs
    assert isinstance(blobs, DiskBlobStore)
    drawn = [scenes.sample(seed, light="day") for seed in range(6)]
    wanted = []
    for index, rendered in enumerate(drawn):
        truth = max(rendered.truth, key=lambda one: one.box_px[3] - one.box_px[1])
        x1, y1, x2, y2 = (int(value) for value in truth.box_px)
        crop = rendered.picture_bgr[max(0, y1 - 8) : y2 + 8, max(0, x1 - 8) : x2 + 8]
        jpeg = cv2.imencode(".jpg", cv2.resize(crop, None, fx=2, fy=2))[1].tobytes()
        digest = hashlib.sha256(jpeg).hexdigest()
        device_id = fleet.devices[NAMES[index % 4]]
        key = upload_key(device_id, "crop", f"ev{index}", digest)
        if index != 5:
            blobs.put(key, content_type="image/jpeg", length_bytes=len(jpeg), sha256=digest, chunks=[jpeg])
        at_s = now_s - 60 * (index + 1)
        ref = CropRef(kind="best", key=key, sha256=digest, length_bytes=len(jpeg), score=0.87, at_s=at_s, box=truth.box_px)
        event = Event(
            sequence=index + 1, id=f"ev{index}", camera="cam0", track=index, label=truth.label, rule="gate", rule_kind="zone",
            zone="gate", started_at_s=at_s, ended_at_s=at_s + 9 if index % 2 else None, start_frame=100, end_frame=230,
            score=0.87, threshold=0.5, box=truth.box_px, frame_width_px=320, frame_height_px=240,
            bundle_sha256=fleet.releases["yard@1"], release="yard@1", crops=[ref],
        )  # fmt: skip
        with context.database.write() as session:
            detections.store_events(session, device_id, EventBatch(boot_id="boot-1", events=[event]), now_s=now_s)
        wanted.append((key, digest, len(jpeg)))
    with context.database.write() as session:
        detections.mark_checked(session, detections.look_up(blobs, wanted), now_s=now_s)
        for index, verdict in enumerate(("agree", "agree", "disagree", "agree")):
            detections.set_verdict(
                session, wanted[index][0], verdict=verdict, label="cart" if verdict == "disagree" else "person", score=0.91,
                verifier="yard verifier 1", now_s=now_s,
            )  # fmt: skip
    return "ev0"
