"""The wire: every message as a stored file of bytes, the errors of the wrong ones, and round trips of made-up ones.

`tests/fixtures/messages/valid/<Kind>.<story>.json` is a message; `invalid/<Kind>.<story>.json` holds the bytes as `text` and the
`field` and `problem` that the error must name. The stored files are the contract with agents that are already out there.
"""

import importlib
import json
import pkgutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ota.wire
from ota.wire import topics
from ota.wire.base import Message
from ota.wire.codec import MessageError, decode, encode, limit_bytes, to_builtins
from ota.wire.deployments import END_STATES, REASONS, DeploymentReport, ReportBatch
from ota.wire.events import CropRef, Event, EventBatch, UploadRequest
from ota.wire.heartbeat import CameraHealth, Heartbeat

MESSAGES = Path(__file__).parents[1] / "fixtures" / "messages"
VALID = sorted((MESSAGES / "valid").iterdir())
INVALID = sorted((MESSAGES / "invalid").iterdir())
for one in pkgutil.iter_modules(ota.wire.__path__):
    importlib.import_module(f"ota.wire.{one.name}")
# What the server says to the command line alone is a message too, wherever another test has loaded it, but none of this wire.
KINDS = {kind.__name__: kind for kind in Message.__subclasses__() if kind.__module__.startswith("ota.wire.")}


def kind_of(path):
    return KINDS[path.name.partition(".")[0]]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_stored_message_is_understood_and_said_again(path):
    message = decode(kind_of(path), path.read_bytes())
    assert decode(kind_of(path), encode(message)) == message
    said, stored = to_builtins(message), json.loads(path.read_text())
    for name in kind_of(path).__struct_fields__:
        if name in stored and not isinstance(stored[name], dict | list):
            assert said[name] == stored[name]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_a_wrong_message_names_its_field(path):
    wrong = json.loads(path.read_text())
    with pytest.raises(MessageError) as caught:
        decode(kind_of(path), wrong["text"].encode())
    assert caught.value.field == wrong["field"]
    assert wrong["problem"] in caught.value.problem


def test_every_kind_has_a_stored_message():
    assert {path.name.partition(".")[0] for path in VALID} == set(KINDS)


def test_sizes_are_limited_on_both_sides():
    assert limit_bytes(Heartbeat) < limit_bytes(EventBatch)
    with pytest.raises(MessageError, match="the limit"):
        decode(Heartbeat, b" " * (limit_bytes(Heartbeat) + 1))
    crop = CropRef(kind="best", key="k" * 300, sha256="ab" * 32, length_bytes=1, score=1, at_s=1, box=(0, 0, 1, 1))
    large = EventBatch(boot_id="b", events=[an_event(crops=[crop] * 20)] * 200)
    with pytest.raises(MessageError, match="the limit is"):
        encode(large)


@pytest.mark.parametrize(
    ("stored", "field", "limit"), [("EventBatch.one-visit", "events", 500), ("LogBatch.session", "lines", 1000)]
)
def test_batches_are_limited_in_number(stored, field, limit):
    path = MESSAGES / "valid" / f"{stored}.json"
    message = json.loads(path.read_text())
    if field == "events":
        message[field][0]["crops"] = []
    message[field] *= limit
    assert len(getattr(decode(kind_of(path), json.dumps(message).encode()), field)) == limit
    message[field].append(message[field][0])
    with pytest.raises(MessageError) as caught:
        decode(kind_of(path), json.dumps(message).encode())
    assert caught.value.field == f"$.{field}"
    assert f"length <= {limit}" in caught.value.problem


@pytest.mark.parametrize("data", [b"\xff\xfe", b'{"v":1,"nonce":"\xff"}', b'{"v":1,"nonce":"\\ud800000000000000000"}', b"\0"])
def test_bytes_that_are_no_text(data):
    with pytest.raises(MessageError):
        decode(KINDS["TimeRequest"], data)


def test_an_unknown_version_is_refused_before_anything_else_is_looked_at():
    """A message of version 2 may have other fields; its sender must hear about the version, not about a field."""
    with pytest.raises(MessageError) as caught:
        decode(Heartbeat, b'{"v": 2, "sequence": "of another kind"}')
    assert caught.value.field == "$.v"


def an_event(**more):
    return Event(
        sequence=1,
        id="e-1",
        camera="gate",
        track=1,
        label="walker",
        rule="yard",
        rule_kind="zone",
        started_at_s=1.0,
        start_frame=1,
        end_frame=2,
        score=0.5,
        threshold=0.4,
        box=(0.0, 0.0, 1.0, 1.0),
        frame_width_px=640,
        frame_height_px=360,
        bundle_sha256="ab" * 32,
        release="yard@1",
        **more,
    )


counts = st.integers(0, 2**53 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
codes = st.from_regex(r"[a-z0-9_.-]{0,20}", fullmatch=True)
finite = st.floats(0, 2**33, allow_nan=False)
cameras = st.builds(
    CameraHealth,
    camera=names,
    state=codes,
    camera_fps=finite,
    frames=counts,
    gated_frames=counts,
    dropped=st.dictionaries(codes, counts, max_size=3),
)
heartbeats = st.builds(
    Heartbeat,
    sequence=counts,
    boot_id=codes,
    at_s=finite,
    uptime_s=finite,
    window_s=finite,
    state=codes,
    accelerator_reason=names,
    cameras=st.lists(cameras, max_size=3),
    bytes_sent=counts,
    detection_share=st.none() | st.floats(0, 1),
    broker_connected=st.booleans(),
)
reports = st.builds(
    DeploymentReport,
    sequence=counts,
    at_s=finite,
    assignment_seq=counts,
    target_sha256=st.just("ab" * 32),
    target=names,
    state=st.sampled_from(END_STATES),
    reason=st.sampled_from(sorted(REASONS)),
    detail=names,
    figures=st.dictionaries(codes, finite, max_size=3),
)
batches = st.builds(
    ReportBatch,
    boot_id=codes,
    counter=counts,
    highest_seq=counts,
    metadata_versions=st.dictionaries(names, counts, max_size=3),
    reports=st.lists(reports, max_size=3),
)
events = st.builds(
    EventBatch,
    boot_id=codes,
    events=st.lists(st.builds(an_event, revision=counts, zone=st.none() | names, ended_at_s=st.none() | finite), max_size=3),
)


@given(heartbeats | batches | events)
@settings(max_examples=150, deadline=None)
def test_what_is_said_is_what_is_heard(message):
    assert decode(type(message), encode(message)) == message


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_noise_is_a_message_error(kind, data):
    with pytest.raises(MessageError):
        decode(KINDS[kind], data)


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_message_is_a_message_or_a_message_error(path, data):
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(kind_of(path), bytes(damaged))
    except MessageError as error:
        said = error
    else:
        return
    assert said.field.startswith("$")
    assert said.problem


def test_defaults_pass_their_own_rules():
    """A message built with nothing but what is required can be said and heard: no default breaks the limit of its field."""
    for path in VALID:
        kind = kind_of(path)
        message = decode(kind, path.read_bytes())
        required = {
            field.name: getattr(message, field.name)
            for field in msgspec.structs.fields(kind)
            if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
        }
        bare = kind(**required)
        assert decode(kind, encode(bare)) == bare


device_ids = st.from_regex(r"[a-z0-9][a-z0-9-]{2,62}", fullmatch=True)


@given(device_ids, st.sampled_from([("up", one) for one in topics.UP_CHANNELS] + [("down", one) for one in topics.DOWN_CHANNELS]))
def test_a_topic_is_taken_apart_as_it_was_put_together(device, way):
    direction, channel = way
    made = {"up": topics.up, "down": topics.down}[direction](device, channel)
    assert topics.parse(made) == topics.Topic(device, direction, channel)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "fleet/v1/yard-1/up",
        "fleet/v2/yard-1/up/log",
        "fleet/v1/+/up/log",
        "fleet/v1/yard-1/up/wake",
        "fleet/v1/yard-1/side/log",
        "fleet/v1/yard-1/up/log/more",
        "fleet/v1/Yard/up/log",
        "fleet/v1/../up/log",
        "fleet/v1/yard-1\n/up/log",
    ],
)
def test_a_topic_of_somebody_else(topic):
    with pytest.raises(topics.TopicError):
        topics.parse(topic)


def test_a_device_id_that_would_be_a_wildcard():
    for bad in ("+", "#", "a/b", "", "ab", "A-1", "x" * 64):
        with pytest.raises(topics.TopicError):
            topics.up(bad, "log")
    with pytest.raises(topics.TopicError):
        topics.down("yard-1", "log")


@pytest.mark.parametrize("field", ["sha256", "content_type", "name", "purpose"])
def test_a_line_break_behind_a_word_is_no_part_of_it(field):
    """A device ends a hash or a type with a line break: it would become half a file name, or a header of its own."""
    asked = {"v": 1, "sha256": "0" * 64, "length_bytes": 1, "content_type": "image/jpeg", "purpose": "crop", "name": "e1"}
    decode(UploadRequest, msgspec.json.encode(asked))
    with pytest.raises(MessageError) as caught:
        decode(UploadRequest, msgspec.json.encode({**asked, field: asked[field] + "\n"}))
    assert caught.value.field == f"$.{field}"
