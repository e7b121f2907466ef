"""Parsers of bytes from outside, as one table: what is called, which errors may come out, and right bytes to begin from.

``PARSERS`` are driven by ``test_foreign_bytes.py``; modules whose parsers have such tests of their own elsewhere stand in
``TESTED_ELSEWHERE``; modules that decode what nobody else can have written stand in ``OURS_ALONE``, with the reason.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.configuration.kept_disk import KeptFile
from device_agent.duties.marks_disk import read_marks
from device_agent.errors import IdentityBrokenError, SettingsError
from device_agent.launcher_disk import read_done, read_pointer, slot_fault
from device_agent.link import addresses, trust_roots_x509
from device_agent.link.identity_x509 import IdentityStore
from device_agent.logs.ring_disk import LogRing
from device_agent.logs.sessions_disk import read_sessions
from device_agent.settings import parse as parse_settings
from device_agent.spool.ledger_disk import Ledger
from device_agent.update.agent_place_disk import AgentPlace
from device_agent.update.history_disk import HistoryFile
from device_agent.update.local_trust_disk import LocalTrustError, known_versions
from device_agent.update.metered_disk import MeteredFile
from device_agent.update.policy import PolicyError, load_policy
from device_agent.update.policy_target_disk import read_taken
from device_agent.update.state_disk import StateFile, peek
from device_agent.vision.camera_stream_wire import said_from
from device_agent.vision.rule_file import load_rules
from device_agent.vision.zones import ZoneError
from fleet_server.cli import audit_check
from fleet_server.detections.cursor import read_cursor
from fleet_server.enrolment import claims_csv, late_renewal, proxy_headers, signed_requests
from fleet_server.enrolment.authority_x509 import check_request
from fleet_server.errors import InvalidError, UnauthenticatedError
from fleet_server.verification.local_tflite import CropError, _decode
from models.card import CardError, load_card
from models.golden import parse_acceptance, parse_parity
from models.golden_json import GoldenError
from ota.bundle import archive, offline
from ota.bundle.agent_release import build_lock, parse_lock
from ota.bundle.errors import BundleError
from ota.bundle.manifest import parse_manifest
from ota.bundle.reader_disk import open_bundle, verify_bundle
from ota.bundle.tuf_types import Root, Targets
from ota.redaction import redact
from ota.slots.slots_disk import Slots
from ota.trust import publishing
from ota.trust.ceremony_disk import read_people
from ota.trust.errors import KeyFileError, TrustError
from ota.trust.keys import key_from_dict
from ota.trust.keys_disk import load_signer
from ota.trust.roles import parse_metadata
from ota.wire.addresses import plain_address

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BUNDLE = FIXTURES / "bundles" / "yard-1.rookery"
BOARD = FIXTURES / "board_set_1"
ROOT = FIXTURES / "bundles" / "root.json"
NOW_S = 1_790_000_000.0


@dataclass(frozen=True)
class Parser:
    """``call(data, folder)`` reads the bytes (``folder``: an empty one, for parsers of files); only ``errors`` may come out."""

    module: str
    call: Callable[[bytes, Path], object]
    errors: tuple[type[BaseException], ...] = ()
    seeds: tuple[bytes, ...] = ()
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def bundle_metadata() -> dict[str, bytes]:
    return open_bundle(BUNDLE).metadata()


def csr() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board")])
    made = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def jpeg() -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))[1])


def lock() -> bytes:
    return build_lock({"rookery-0.1.0-py3-none-any.whl": "ab" * 32}, "cp311")


def end_of_bundle(data: bytes, _folder: Path) -> object:
    tail = data[-archive.END_BYTES :]
    count, offset = archive.parse_end(tail, len(data))
    return archive.parse_directory(data[offset : len(data) - archive.END_BYTES], count, offset)


def key_of_json(data: bytes, _folder: Path) -> object:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = {}
    return key_from_dict(found if isinstance(found, dict) else {})


def signed_request(data: bytes, _folder: Path) -> object:
    first, _, rest = text(data).partition("\n")
    second, _, third = rest.partition("\n")
    headers = {"Signature-Input": first, "Signature": second, "Content-Digest": third}
    try:
        return signed_requests.verify(signed_requests.Asked("POST", "/device/v1/state", headers), lambda _serial: None, NOW_S)
    except signed_requests.ApartError:
        return None


def proxy_certificate(data: bytes, _folder: Path) -> object:
    return proxy_headers.client_certificate({"X-Client-Verify": "SUCCESS", "X-Client-Cert": data.decode("latin-1")})


def identity(data: bytes, folder: Path) -> object:
    file(folder, "identity/current", b"a")
    for name in ("key.pem", "certificate.pem", "answer.json"):
        file(folder, f"identity/a/{name}", data)
    return IdentityStore(folder / "identity").load()


def audit_export(data: bytes, _folder: Path) -> object:
    judge = audit_check.Judge({})
    return audit_check.read_lines(data.splitlines(keepends=True), judge)


def root_pem() -> bytes:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(5)
    made = made.not_valid_before(day).not_valid_after(day + timedelta(days=9000))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


ROOT_PEM = root_pem()
METADATA = bundle_metadata()
MANIFEST = open_bundle(BUNDLE).manifest_bytes
SIGNED = (
    b'rookery=("@method" "@path" "@query" "content-digest");created=1790000000;nonce="AAAAAAAAAAAAAAAAAAAAAA";'
    b'keyid="ab12";alg="ecdsa-p256-sha256";tag="rookery-device-v1"\nrookery=:AAAA:\nsha-256=:AAAA:'
)
POLICY = b'channels = ["stable"]\nblur = ["person"]\n[masks]\nyard = [[[0.0, 0.0], [0.3, 0.0], [0.0, 0.4]]]\n'
AGENT = (
    b'policy = "policy.toml"\n[agent]\ndata_dir = "data"\n[server]\nurl = "https://fleet:8443"\nca_file = "ca.pem"\n'
    b'[factory]\nbundle = "a.rookery"\nroot = "root.json"\n[[camera]]\nname = "gate"\nsource = "film:a.mp4"\nloop = true\n'
)
CARD = b'name = "m"\nlicence = "Apache-2.0"\nlabels = ["a"]\n[input]\nwidth = 300\nheight = 300\n[output]\ndecoder = "ssd"\n'
SHEET = b"serial,profile,group,name,expires\nabc,rpi-5,yard,gate,2026-12-01\n,,,,\n"
PARITY = b'{"v":1,"reference":"self","tolerance":{"iou":0.5,"score":0.2},"samples":[{"file":"a.png","sha256":"ab","boxes":[]}]}'
ACCEPTANCE = b'{"v":1,"name":"yard","min_ap50":0.5,"images":[{"file":"a.png","sha256":"ab","boxes":[]}]}'
RULES = b'{"zones":[{"name":"yard","polygon":[[0,0],[1,0],[1,1]],"classes":["person"],"dwell_s":2}]}'


def board(name: str) -> tuple[bytes, ...]:
    return ((BOARD / name).read_bytes(),)


PARSERS: tuple[Parser, ...] = (
    Parser("ota.bundle.archive", end_of_bundle, (BundleError,), (BUNDLE.read_bytes()[-3000:],)),
    Parser(
        "ota.bundle.reader_disk",
        lambda data, at: verify_bundle(file(at, "a.rookery", data), ROOT.read_bytes(), NOW_S),
        seeds=(BUNDLE.read_bytes()[:4000],),
    ),
    Parser("ota.bundle.manifest", lambda data, _: parse_manifest(data), (BundleError,), (MANIFEST,)),
    Parser("ota.bundle.agent_release", lambda data, _: parse_lock(data), (BundleError,), (lock(),)),
    Parser(
        "ota.bundle.offline", lambda data, _: offline.load_role(Root, data, "root"), (offline.ChainError,), (ROOT.read_bytes(),)
    ),
    Parser(
        "ota.bundle.offline",
        lambda data, _: offline.trust_root(ROOT.read_bytes(), {2: data}),
        (offline.ChainError,),
        (ROOT.read_bytes(),),
        "chain",
    ),
    Parser("ota.trust.roles", lambda data, _: parse_metadata(data, "stable"), (TrustError,), (METADATA["stable.json"],)),
    Parser(
        "ota.trust.publishing",
        lambda data, _: publishing._new_target("stable", "stable/acceptance/a/acceptance.json", "ab", data),
        (offline.ChainError,),
        (ACCEPTANCE,),
        "acceptance",
    ),
    Parser(
        "ota.trust.publishing",
        lambda data, _: publishing._new_target("policy", "policy/a.toml", "ab", data),
        (offline.ChainError,),
        (POLICY,),
        "policy",
    ),
    Parser(
        "ota.trust.publishing",
        lambda data, _: offline.load_role(Targets, data, "stable"),
        (offline.ChainError,),
        (METADATA["stable.json"],),
        "targets",
    ),
    Parser(
        "ota.trust.keys",
        key_of_json,
        (TrustError,),
        (json.dumps(next(iter(json.loads(ROOT.read_bytes())["signed"]["keys"].values()))).encode(),),
    ),
    Parser("ota.trust.keys_disk", lambda data, at: load_signer(file(at, "k.pem", b"-----BEGIN" + data), None), (KeyFileError,)),
    Parser(
        "ota.trust.ceremony_disk", lambda data, at: read_people(file(at, "people.json", data).parent), seeds=(b'{"ab": "ada"}',)
    ),
    Parser(
        "ota.slots.slots_disk",
        lambda data, at: Slots(file(at, "slots/pointers.json", data).parent).pointers(),
        seeds=board("slots/pointers.json"),
    ),
    Parser("ota.wire.addresses", lambda data, _: plain_address(text(data)), seeds=(b"https://store.example:9000/a?b=c",)),
    Parser("ota.redaction", lambda data, _: redact(text(data)), seeds=(b"rtsp://a:b@c/d Authorization: Bearer abcdefgh",)),
    Parser("models.golden", lambda data, _: parse_parity(data), (GoldenError,), (PARITY,), "parity"),
    Parser("models.golden", lambda data, _: parse_acceptance(data), (GoldenError,), (ACCEPTANCE,), "acceptance"),
    Parser("models.card", lambda data, _: load_card(text(data)), (CardError,), (CARD,)),
    Parser("device_agent.settings", lambda data, at: parse_settings(text(data), at / "agent.toml"), (SettingsError,), (AGENT,)),
    Parser("device_agent.update.policy", lambda data, _: load_policy(text(data)), (PolicyError,), (POLICY,)),
    Parser("device_agent.vision.rule_file", lambda data, _: load_rules(text(data)), (ZoneError,), (RULES,)),
    Parser("device_agent.vision.camera_stream_wire", lambda data, _: said_from(data), (ValueError,), (bytes(40),)),
    Parser("device_agent.link.identity_x509", identity, (IdentityBrokenError,)),
    Parser(
        "device_agent.update.state_disk",
        lambda data, at: StateFile(file(at, "state/update.json", data).parent).load(),
        seeds=board("state/update.json"),
        name="load",
    ),
    Parser(
        "device_agent.update.state_disk",
        lambda data, at: peek(file(at, "update.json", data)),
        seeds=board("state/update.json"),
        name="peek",
    ),
    Parser(
        "device_agent.update.history_disk",
        lambda data, at: HistoryFile(file(at, "rates.json", data).parent).load(),
        seeds=board("history/rates.json"),
    ),
    Parser(
        "device_agent.update.metered_disk",
        lambda data, at: MeteredFile(file(at, "m.json", data)).spent_bytes(NOW_S),
        seeds=(b'{"month":"2026-09","bytes":5}',),
    ),
    Parser(
        "device_agent.update.local_trust_disk",
        lambda data, at: known_versions(file(at, "tuf/stable.json", data).parent),
        (LocalTrustError,),
        (METADATA["stable.json"],),
    ),
    Parser(
        "device_agent.update.policy_target_disk",
        lambda data, at: read_taken(file(at, "policy-target.json", data).parent, "policy/a.toml"),
    ),
    Parser(
        "device_agent.update.agent_place_disk",
        lambda data, at: AgentPlace(file(at, "state/formats.json", data).parents[1]).formats_in_force(),
        seeds=board("state/formats.json"),
        name="formats",
    ),
    Parser(
        "device_agent.update.agent_place_disk",
        lambda data, at: AgentPlace(file(at, "state/agent-trial.json", data).parents[1]).before("t"),
        seeds=board("state/agent-trial.json"),
        name="before",
    ),
    Parser(
        "device_agent.launcher_disk",
        lambda data, at: read_pointer(file(at, "agent-slot.json", data).parent),
        seeds=board("agent-slot.json"),
        name="pointer",
    ),
    Parser(
        "device_agent.launcher_disk",
        lambda data, at: read_done(file(at, "launcher.json", data).parent),
        seeds=board("launcher.json"),
        name="done",
    ),
    Parser(
        "device_agent.launcher_disk",
        lambda data, at: slot_fault(file(at, "slot/files.sha256", data).parent),
        seeds=(b"ab" * 32 + b"  lib/a.py\n-> /usr/bin/python3  bin/python\n",),
        name="list",
    ),
    Parser(
        "device_agent.configuration.kept_disk",
        lambda data, at: KeptFile(file(at, "configuration/kept.json", data).parent).load(),
        seeds=board("configuration/kept.json"),
    ),
    Parser("device_agent.duties.marks_disk", lambda data, at: read_marks(file(at, "marks.json", data)), seeds=(b'{"s-1": 4}',)),
    Parser("device_agent.logs.sessions_disk", lambda data, at: read_sessions(file(at, "sessions.json", data)), seeds=(b"[]",)),
    Parser(
        "device_agent.logs.ring_disk",
        lambda data, at: LogRing(file(at, "logs/log-00000001.jsonl", data).parent, 100_000),
        seeds=board("logs/log-00000001.jsonl"),
    ),
    Parser(
        "device_agent.spool.ledger_disk",
        lambda data, at: Ledger(file(at, "spool/state.json", data).parent),
        seeds=board("spool/state.json"),
    ),
    Parser(
        "fleet_server.detections.cursor",
        lambda data, _: read_cursor(text(data)),
        (InvalidError,),
        (b"WzE3OTAwMDAwMDAuMCwiYSIsImIiXQ",),
    ),
    Parser("fleet_server.enrolment.authority_x509", lambda data, _: check_request(text(data)), (InvalidError,), (csr(),)),
    Parser(
        "fleet_server.enrolment.proxy_headers",
        proxy_certificate,
        (UnauthenticatedError,),
        (b"-----BEGIN%20CERTIFICATE-----%0AAAAA",),
    ),
    Parser("fleet_server.enrolment.signed_requests", signed_request, (UnauthenticatedError,), (SIGNED,)),
    Parser("fleet_server.enrolment.claims_csv", lambda data, _: claims_csv.read(text(data), now_s=NOW_S), seeds=(SHEET,)),
    Parser("fleet_server.enrolment.late_renewal", lambda data, _: late_renewal._shown(text(data)), (InvalidError,), (ROOT_PEM,)),
    Parser(
        "fleet_server.cli.audit_check", audit_export, seeds=(b'{"hash":"ab","row":{"id":1,"previous":"00"}}\n{"end":{"id":1}}\n',)
    ),
    Parser(
        "device_agent.link.addresses",
        lambda data, _: addresses.from_bytes("https://fleet:8443", data),
        seeds=(b'{"told":["https://a:1"],"chosen":""}',),
    ),
    Parser(
        "device_agent.link.trust_roots_x509",
        lambda data, _: trust_roots_x509.believed(ROOT_PEM, text(data)),
        (ValueError,),
        (ROOT_PEM,),
    ),
    Parser("fleet_server.verification.local_tflite", lambda data, _: _decode(data), (CropError,), (jpeg(),)),
)

WIRE = "tests/ota/test_wire.py::test_a_damaged_message_is_a_message_or_a_message_error"
TESTED_ELSEWHERE: dict[str, str] = {
    "ota.wire.codec": WIRE,
    "device_agent.link.api_http": "tests/device_agent/link/test_hostile_server.py",
    "device_agent.update.answers": WIRE,
    "device_agent.update.assignment_rule": WIRE,
    "device_agent.update.orders": WIRE,
    "device_agent.doctor_link_http": WIRE,
    "device_agent.server_side_http": WIRE,
    "device_agent.link.told_time": WIRE,
    "fleet_server.http_wire": "tests/fleet_server/core/test_fuzz_device_door.py::"
    "test_no_answer_to_a_stolen_key_is_a_fault_of_ours_or_one_that_the_description_lacks",
    "fleet_server.ingest.messages": "tests/fleet_server/ingest/test_messages.py::test_no_bytes_make_it_fall",
    "fleet_server.logs.listing": "tests/fleet_server/logs/test_debug_frames.py::"
    "test_what_the_device_answered_is_listed_and_what_is_no_answer_is_not",
    "fleet_server.releases.api": "tests/fleet_server/core/test_fuzz_operator_door.py::"
    "test_no_answer_is_a_fault_of_ours_or_one_that_the_description_lacks",
    "fleet_server.cli.client_http": "tests/cli/test_cli_hostile_server.py",
    "ota.bundle.model_signature": "tests/ota/test_bundle_model_signature.py::test_damaged_files_are_bundle_errors",
    "ota.zstd_frames": "tests/ota/test_delta.py::test_damaged_frames_are_refused_or_harmless",
    "ota.trust.client_http": "tests/ota/test_trust_attacks.py::test_a_flipped_byte_in_any_metadata_file_is_a_signature_refusal",
    "ota.trust.store_disk": "tests/ota/test_repository.py::test_a_damaged_channel_file_does_not_stop_the_others",
    "device_agent.spool.entry": "tests/device_agent/spool/test_retention_retry.py::test_any_damage_to_an_entry_is_noticed",
    "device_agent.update.agent_wheel_disk": "tests/device_agent/agent_update/test_wheels_unpacked.py::"
    "test_one_flipped_byte_is_never_installed_as_something_else",
    "device_agent.vision.detector_wire": "tests/device_agent/vision/test_detector_wire.py::"
    "test_whatever_numbers_a_child_sends_only_boxes_in_the_picture_come_of_them",
    "device_agent.vision.picture_file": "tests/device_agent/vision/test_vision_detect.py::"
    "test_a_header_of_any_bytes_is_read_or_refused",
    "device_agent.vision.detect_disk": "tests/device_agent/vision/test_vision_detect.py::"
    "test_a_header_of_any_bytes_is_read_or_refused",
    "models.inference.flatbuffer": "tests/models_core/test_model_file.py::test_any_bytes_give_a_reason_and_never_another_error",
    "models.inference.flexbuffer": "tests/models_core/test_model_file.py::test_any_bytes_give_a_reason_and_never_another_error",
    "models.inference.metadata": "tests/models_core/test_hostile_models.py::test_metadata_of_any_bytes_is_metadata_or_none",
    "models.inference.metadata_disk": "tests/models_core/test_hostile_models.py::test_metadata_of_any_bytes_is_metadata_or_none",
    "models.golden_json": "tests/parsers/test_foreign_bytes.py::test_any_bytes_are_read_or_refused_in_words",
    "fleet_server.verification.jpeg": "tests/fleet_server/verification/test_verification.py::test_no_bytes_make_it_fall",
    "fleet_server.dashboard.places": "tests/fleet_server/dashboard/test_fault_places.py::test_any_text_can_be_marked",
}
"""Module -> the test that feeds it wrong bytes."""

SELF_WRITTEN = "reads what this very program (or its own child) has written, over a pipe or file that nobody else may write"
OPERATORS = "reads files of the operator's own, by his own hand; what is wrong in them is told by the verb (tests/cli)"
DELIVERED = "reads files that are delivered inside the package"
OURS_ALONE: dict[str, str] = {
    "device_agent.agent_selftest_child_disk": SELF_WRITTEN,
    "device_agent.update.agent_selftest_process": SELF_WRITTEN,
    "device_agent.update.selftest_child_tflite": SELF_WRITTEN,
    "device_agent.update.selftest_process": SELF_WRITTEN,
    "device_agent.vision.detector_child_linux": SELF_WRITTEN,
    "device_agent.golden_picture_disk": "a file of a release, hashed against the signed manifest before",
    "device_agent.vision.best_crop": SELF_WRITTEN,
    "device_agent.vision.camera_disk": "films that the board's owner names: tests/device_agent/vision/test_vision_cameras.py",
    "device_agent.vision.camera_stream_child_opencv": "what a camera sends is decoded in a child of its own that may die",
    "device_agent.vision.show_disk": "a film that the board's owner names",
    "device_agent.link.late_renewal_x509": "the identity that device_agent.link.identity_x509 has read before",
    "device_agent.link.request_signer_x509": "the identity that device_agent.link.identity_x509 has read before",
    "device_agent.launcher": "the board's own agent.toml, which only root may write",
    "device_agent.repair_agents_disk": "the same files as device_agent.launcher_disk, and only whether they can be read",
    "device_agent.link.socket_bytes_linux": "a structure of the kernel",
    "fleet_server.blobs.store_disk": SELF_WRITTEN,
    "fleet_server.check_disk": SELF_WRITTEN,
    "fleet_server.supervise": SELF_WRITTEN,
    "fleet_server.releases.reconcile_disk": SELF_WRITTEN,
    "fleet_server.device_openapi": SELF_WRITTEN,
    "fleet_server.accounts.oidc_http": "answers of the provider that the administrator names; what is no JSON object is refused",
    "fleet_server.audit.service": "rows of this server's own database; a changed one is what the chain finds",
    "fleet_server.cli.audit_heads_disk": OPERATORS,
    "fleet_server.device_tls_x509": "the authority's own files, which only the server may write",
    "fleet_server.enrolment.authorities_disk": "the authority's own files, which only the server may write",
    "fleet_server.enrolment.authority_rollover_x509": "the authority's own files, which only the server may write",
    "fleet_server.operator_tls_x509": "the certificate that the server's administrator gave it; tests/fleet_server/core",
    "fleet_server.places_disk": SELF_WRITTEN,
    "fleet_server.operator_openapi": SELF_WRITTEN,
    "fleet_server.enrolment.identity": "certificates that TLS verified or that this server has issued itself",
    "fleet_server.cli.bundle_compare": OPERATORS,
    "fleet_server.cli.bundle_files": OPERATORS,
    "fleet_server.cli.bundle_golden": OPERATORS,
    "fleet_server.cli.bundle_spec": OPERATORS,
    "fleet_server.cli.bundle_transfer": OPERATORS,
    "fleet_server.cli.bundle_verify": OPERATORS,
    "fleet_server.cli.bundle_yank": OPERATORS,
    "fleet_server.cli.channels": OPERATORS,
    "fleet_server.cli.configurations": OPERATORS,
    "fleet_server.cli.key_ceremony": OPERATORS,
    "fleet_server.cli.key_files": OPERATORS,
    "fleet_server.cli.key_push": OPERATORS,
    "fleet_server.cli.policies": OPERATORS,
    "fleet_server.cli.settings_disk": OPERATORS,
    "fleet_server.dashboard.configuring": "a form of a signed-in operator; each fault is told in its line (tests/browser)",
    "fleet_server.dashboard.vendoring.vendor_disk": DELIVERED,
    "ota.trust.ceremony": OPERATORS,
    "ota.trust.signers_kms_http": "the answer of the releaser's own key service, over TLS",
    "models.catalog": DELIVERED,
    "models.coco_set_disk": OPERATORS,
    "models.rendered.publish_disk": SELF_WRITTEN,
    "models.rendered.film_disk": SELF_WRITTEN,
    "models.rendered.train": "training, in an environment of its own",
    "models.rendered.train_pictures": "training, in an environment of its own",
    "hardware.profile": DELIVERED,
}
"""Module -> why no stranger's bytes reach what it decodes."""


def any_of(parser: Parser, data: bytes, folder: Path) -> Any:
    """Call it; what is not among its errors passes through."""
    try:
        return parser.call(data, folder)
    except parser.errors:
        return None
