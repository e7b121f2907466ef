"""A fleet in groups, each with a bit of everything that the operator door shows, and whoever is limited to some of them."""

import hashlib
from dataclasses import dataclass, field
from itertools import count

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from flask.testing import FlaskClient

from fleet_server.accounts import service as accounts
from fleet_server.alerts import service as alerts
from fleet_server.alerts.service import Condition
from fleet_server.blobs.store import upload_key
from fleet_server.configuration import service as configuration
from fleet_server.context import Context
from fleet_server.detections import service as detections
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.experiments import service as experiments
from fleet_server.logs import service as logs
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.orders import Order, Timing
from ota.wire.codec import encode
from ota.wire.debug import ANSWER_TYPE, FrameAnswer, FramePicture, answers_name
from ota.wire.enrolment import EnrolRequest
from ota.wire.events import CropRef, Event, EventBatch
from ota.wire.logs import LogBatch, LogLine
from tests.fakes import seeded_fleet

TIMING = Timing(within_s=90.0, lost_after_s=600.0)
JPEG = b"\xff\xd8\xff\xe0 a picture of "
_numbers = count(1)


@dataclass
class Side:
    """All that was made in one group. ``ids`` by kind; ``secrets``: every name and id of it, which others may not see."""

    group: str
    devices: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def secrets(self) -> set[str]:
        """Names and ids of which none may stand in an answer to whoever does not see the group."""
        return {self.group, *self.devices, *self.devices.values(), *self.ids.values()}


def prepare(context: Context) -> dict[str, str]:
    """What a fleet has in common: the authority, the releases yard@1 and yard@2 (name -> digest), a fleet-wide setting."""
    authority_x509.prepare(context.settings.pki_dir, ["localhost"], context.clock())
    with context.database.write() as session:
        found = seeded_fleet.publish(session, context.clock())
    author = configuration.Author("ada", "", context.clock())
    configuration.put(context.database, "fleet", {"log_level": "info"}, if_version=None, author=author)
    return found


def seed_side(context: Context, group: str, releases: dict[str, str], *, devices: int = 2, waits_as: str = "") -> Side:
    """A group with devices, heartbeats, reports, events with crops, logs, a debug session with a picture, and all the rest.

    ``waits_as``: the serial number by which the board names itself that waits for a person.
    """
    side, now_s = Side(group), context.clock()
    fleet = seeded_fleet.SeededFleet(releases=releases)
    for number in range(devices):
        name = f"{group}-{number + 1}"
        side.devices[name] = fleet.devices[name] = enrol(context, group, name)
        with context.database.write() as session:
            seeded_fleet.beats(session, fleet, name, number, now_s, count=3)
    first, device = next(iter(side.devices.items()))
    side.ids["serial"] = f"serial-of-{first}"
    with context.database.write() as session:
        made = rollouts.create(session, Order(release="yard@2", group=group, stages=(1.0,), max_failed=0), who="ada", now_s=now_s)
        side.ids["rollout"] = str(made.id)
        session.flush()
        rollouts.tick(session, now_s, 1, TIMING)
        seeded_fleet.report(session, fleet, first, 1, "refused", now_s, reason="hash", detail=f"a file of {group} is damaged")
        rollouts.tick(session, now_s, 1, TIMING)
        side.ids["experiment"] = experiments.create(
            session, name=f"eyes of {group}", a="yard@1", b="yard@2", share_b=0.5, group=group, devices=None, who="ada",
            now_s=now_s,
        ).id  # fmt: skip
        lines = [LogLine(sequence=1, at_s=now_s, level="warning", logger="camera", text=f"{group} is dark")]
        logs.store_lines(session, device, LogBatch(boot_id="boot-1", lines=lines))
        side.ids["session"] = logs.create_session(
            session, device, log_level="debug", duration_s=3000, reason=f"INC of {group}", who="ada", now_s=now_s, frames="last"
        ).id
        _alerts(session, side, now_s)
    author = configuration.Author("ada", "", now_s, f"for {group}")
    zone = {"every_camera": {"zones": [{"name": f"zone-{group}", "polygon": [[0, 0], [1, 0], [1, 1]]}]}}
    configuration.put(context.database, f"group:{group}", zone, if_version=None, author=author)
    configuration.put(context.database, f"device:{device}", {"log_level": "debug"}, if_version=None, author=author)
    _event(context, side, device, releases, now_s)
    _picture(context, side, device, now_s)
    _pending(context, side, now_s, waits_as or f"serial-of-waiting-{group}")
    return side


def enrol(context: Context, group: str, name: str) -> str:
    """A board gets into the group under this name."""
    request, issuer = _request(f"serial-of-{name}"), _issuer(context)
    with context.database.write() as session:
        terms = enrolment.ClaimTerms(group=group, device_name=name)
        (claim,) = enrolment.make_claims(session, count=1, terms=terms, ttl_s=3600, who="ada", now_s=context.clock())
        asked = EnrolRequest(claim=claim.token, csr_pem=request.csr_pem, facts=request.facts)
        device = enrolment.enrol(session, asked, issuer, origin="10.0.0.7", now_s=context.clock()).device_id
    assert device is not None
    return device


def client_of(context: Context, app: Flask, role: str, groups: list[str] | None, *, name: str = "") -> FlaskClient:
    """A client with a token of a fresh account of this role, limited to groups (None: not limited)."""
    name, now_s = name or f"{role}-{next(_numbers)}", context.clock()
    with context.database.write() as session:
        accounts.add_operator(session, name=name, password_hash="", role=role, now_s=now_s, groups=groups, kind="machine")
        grant = accounts.open_grant(session, name=name, kind="token", token_name="t", ttl_s=1e6, now_s=now_s)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {grant.token}"
    return client


def _issuer(context: Context) -> enrolment.Issuer:
    return enrolment.Issuer(authority_x509.Authority(context.settings.pki_dir), 90)


def _request(serial: str) -> EnrolRequest:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return EnrolRequest(claim="", csr_pem=csr, facts=msgspec.structs.replace(seeded_fleet.facts(5), serial=serial))


def _alerts(session: object, side: Side, now_s: float) -> None:
    name, device = next(iter(side.devices.items()))
    found = [
        Condition("device_silent", device, f"{name} is silent"),
        Condition("rollout_paused", side.ids["rollout"], f"rollout of yard@2: {name} refused it"),
    ]
    standing = {one.id for one in alerts.alerts(session)}  # type: ignore[arg-type]
    # The other group's alerts go on: only what was evaluated and holds no longer would end.
    others = [Condition(one.kind, one.subject, one.text) for one in alerts.alerts(session)]  # type: ignore[arg-type]
    alerts.reconcile(session, [*others, *found], now_s)  # type: ignore[arg-type]
    session.flush()  # type: ignore[attr-defined]
    for one in alerts.alerts(session):  # type: ignore[arg-type]
        if one.id not in standing:
            side.ids["alert" if one.kind == "device_silent" else "rollout_alert"] = one.id


def _event(context: Context, side: Side, device: str, releases: dict[str, str], now_s: float) -> None:
    jpeg = JPEG + side.group.encode()
    digest = hashlib.sha256(jpeg).hexdigest()
    event_id = side.ids["event"] = f"ev-{side.group}"
    key = side.ids["key"] = upload_key(device, "crop", event_id, digest)
    context.blobs.put(key, content_type="image/jpeg", length_bytes=len(jpeg), sha256=digest, chunks=[jpeg])  # type: ignore[attr-defined]
    ref = CropRef(kind="best", key=key, sha256=digest, length_bytes=len(jpeg), score=0.9, at_s=now_s, box=(1.0, 2.0, 30.0, 40.0))
    event = Event(
        sequence=1, id=event_id, camera=f"cam-{side.group}", track=1, label=f"label-{side.group}", rule="gate", rule_kind="zone",
        zone="gate", started_at_s=now_s - 60, ended_at_s=now_s - 50, start_frame=1, end_frame=9, score=0.9, threshold=0.5,
        box=(1.0, 2.0, 30.0, 40.0), frame_width_px=320, frame_height_px=240, bundle_sha256=releases["yard@1"], release="yard@1",
        crops=[ref],
    )  # fmt: skip
    with context.database.write() as session:
        detections.store_events(session, device, EventBatch(boot_id="boot-1", events=[event]), now_s=now_s)
        detections.mark_checked(session, {key: True}, now_s=now_s)
        detections.set_verdict(session, key, verdict="agree", label="x", score=0.9, verifier="v", now_s=now_s)


def _picture(context: Context, side: Side, device: str, now_s: float) -> None:
    jpeg = JPEG + b"the yard of " + side.group.encode()
    digest = side.ids["sha256"] = hashlib.sha256(jpeg).hexdigest()
    key = f"{device}/debug/{side.ids['session']}/{digest}"
    context.blobs.put(key, content_type="image/jpeg", length_bytes=len(jpeg), sha256=digest, chunks=[jpeg])  # type: ignore[attr-defined]
    picture = FramePicture(sha256=digest, frame=1, at_s=now_s, width_px=640, height_px=360)
    said = FrameAnswer(session=side.ids["session"], asked=1, camera="cam0", pictures=[picture], frames="last", state="done")
    data = encode(said)
    digest = hashlib.sha256(data).hexdigest()
    key = f"{device}/debug/{answers_name(side.ids['session'])}/{digest}"
    context.blobs.put(key, content_type=ANSWER_TYPE, length_bytes=len(data), sha256=digest, chunks=[data])  # type: ignore[attr-defined]


def _pending(context: Context, side: Side, now_s: float, serial: str) -> None:
    request = _request(serial)
    with context.database.write() as session:
        terms = enrolment.ClaimTerms(group=side.group, device_name=f"waiting-{side.group}", accept=False)
        claim, unused = enrolment.make_claims(session, count=2, terms=terms, ttl_s=3600, who="ada", now_s=now_s)
        side.ids["claim"], side.ids["used_claim"] = unused.id, claim.id
        asked = EnrolRequest(claim=claim.token, csr_pem=request.csr_pem, facts=request.facts)
        enrolment.enrol(session, asked, _issuer(context), origin="10.0.0.9", now_s=now_s)
        session.flush()
        waiting = [one for one in enrolment.enrolments(session) if one.state == "pending"]
        (side.ids["enrolment"],) = [one.id for one in waiting if one.facts["serial"] == serial]
