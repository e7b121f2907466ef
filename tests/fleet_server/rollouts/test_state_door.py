"""The poll, as a device makes it: signed, fresh, small; and never an older word than the device has seen."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet_server.configuration import service as configuration
from fleet_server.context import Context
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.rollouts.targets import set_target, take_unwoken
from ota.trust.assignment import verify_payload
from ota.wire import codec
from ota.wire.assignments import Assignment, State, StateAnswer, StateRequest
from ota.wire.topics import STATE

NONCE = "n" * 16


@pytest.fixture
def poll(server: Context, device_door: Any, enrolled: Any) -> Callable[..., tuple[State, Assignment | None, str | None]]:
    device_door.certificate = enrolled.der
    keys = {server.signer.public_key.keyid: server.signer.public_key}

    def ask(seq: int = 0, digest: str | None = None) -> tuple[State, Assignment | None, str | None]:
        body = codec.encode(StateRequest(nonce=NONCE, seq=seq, digest=digest))
        answer = device_door.client.post(STATE, data=body, content_type="application/json")
        assert answer.status_code == 200, answer.data
        found = codec.decode(StateAnswer, answer.data)
        state = codec.decode(State, verify_payload(found.state, keys).encode())
        assert (state.nonce, state.device) == (NONCE, enrolled.device_id)
        if found.assignment is None:
            return state, None, None
        payload = verify_payload(found.assignment, keys)
        assert hashlib.sha256(payload.encode()).hexdigest() == state.digest
        return state, codec.decode(Assignment, payload.encode()), state.digest

    return ask


def test_a_new_device_is_told_to_keep_what_it_has_and_told_nothing_twice(poll: Any, server: Context) -> None:
    state, assignment, digest = poll()
    assert (state.seq, assignment.bundle, assignment.debug, assignment.configuration) == (1, None, [], {})
    assert state.poll_s == server.settings.poll_s
    again, nothing, _ = poll(1, digest)
    assert (again.seq, nothing) == (1, None)


def test_a_release_a_setting_and_a_debug_session_each_raise_the_number(
    poll: Any, server: Context, enrolled: Any, publish: Any, clock: Any
) -> None:
    _, _, digest = poll()
    with server.database.write() as session:
        sha = publish(session, "1")["yard@1"]
        set_target(session, enrolled.device_id, "yard@1", source="rollout:r", now_s=clock())
    state, assignment, digest = poll(1, digest)
    assert (state.seq, assignment.bundle.sha256, assignment.bundle.path) == (2, sha, "stable/yard/1/manifest.json")
    author = configuration.Author("ann", "", clock())
    configuration.put(server.database, "fleet", {"every_camera": {"fps": 5}}, if_version=None, author=author)
    state, assignment, digest = poll(2, digest)
    assert (state.seq, assignment.configuration) == (3, {"every_camera": {"fps": 5}})
    with server.database.write() as session:
        logs.create_session(
            session, enrolled.device_id, log_level="debug", duration_s=60, reason="look", who="ann", now_s=clock()
        )
    state, assignment, digest = poll(3, digest)
    assert (state.seq, assignment.debug[0].log_level) == (4, "debug")
    assert state.poll_s == server.settings.fast_poll_s
    clock.forward(61)
    state, assignment, digest = poll(4, digest)
    assert (state.seq, assignment.debug) == (5, []), "the session has ended by itself"
    with server.database.write() as session:
        assert take_unwoken(session) == [enrolled.device_id]
        assert take_unwoken(session) == []


def test_an_assignment_is_signed_anew_long_before_it_expires(poll: Any, server: Context, clock: Any) -> None:
    _, first, digest = poll()
    clock.forward(server.settings.assignment_ttl_s * 0.6)
    state, second, _ = poll(1, digest)
    assert state.seq == 2
    assert second.expires_s > first.expires_s


def test_after_a_restore_the_server_signs_above_what_its_devices_have_seen(poll: Any) -> None:
    """The database is of yesterday: the device holds number 40 and would refuse 2."""
    poll()
    state, assignment, _digest = poll(40, "a" * 64)
    assert (state.seq, assignment.seq) == (41, 41)
    state, _, _ = poll(41, "b" * 64)
    assert state.seq == 42, "the same number with another content is never said"


def test_no_device_can_push_the_number_to_the_end(device_door: Any, enrolled: Any) -> None:
    device_door.certificate = enrolled.der
    body = codec.encode(StateRequest(nonce=NONCE, seq=2**52))
    answer = device_door.client.post(STATE, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "far beyond" in answer.json["detail"]


def test_a_suspected_clone_and_a_yanked_release_are_not_sent_anywhere(
    poll: Any, server: Context, enrolled: Any, publish: Any, clock: Any
) -> None:
    with server.database.write() as session:
        publish(session, "1", "2")
        set_target(session, enrolled.device_id, "yard@1", source="rollout:r", now_s=clock())
        inventory.record_held(session, enrolled.device_id, "two cards")
    assert poll()[1].bundle is None
    with server.database.write() as session:
        inventory.record_held(session, enrolled.device_id, None)
    assert poll()[1].bundle is not None
    with server.database.write() as session:
        publish(session, "2")
    assert poll()[1].bundle is None


def test_polls_count_as_being_heard_and_do_not_write_each_time(poll: Any, server: Context, enrolled: Any, clock: Any) -> None:
    _, _, digest = poll()
    clock.forward(2)
    poll(1, digest)
    clock.forward(20)
    poll(1, digest)
    with server.database.read() as session:
        assert inventory.get(session, enrolled.device_id, clock()).last_seen_s == clock()


@pytest.mark.parametrize(
    ("body", "said"), [(b"{", "not JSON"), (b'{"v":2}', "version 2"), (b'{"v":1,"nonce":"n","seq":0}', "$.nonce")]
)
def test_a_broken_poll_names_the_field(device_door: Any, enrolled: Any, body: bytes, said: str) -> None:
    device_door.certificate = enrolled.der
    answer = device_door.client.post(STATE, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert said in json.loads(answer.data)["detail"]


def test_nobody_polls_without_a_certificate(device_door: Any) -> None:
    body = codec.encode(StateRequest(nonce=NONCE, seq=0))
    assert device_door.client.post(STATE, data=body, content_type="application/json").status_code == 401
