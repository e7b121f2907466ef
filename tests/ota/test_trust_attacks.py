"""What an attacker on the network, on the server, or with one key may try against a device, and how each attempt ends."""

import hashlib
import json

import pytest

from device_agent.link.clock import TrustedClock
from ota.bundle.manifest import target_path
from ota.bundle.tuf_types import Metadata
from ota.trust import roles
from ota.trust.assignment import sign_payload, verify_payload
from ota.trust.errors import TrustError
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import TIMESTAMP_LIFE_S
from ota.wire.enrolment import TimeAnswer

DAY_S = 86_400.0


def code(outcome):
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


def look_up(client, version="1"):
    """Refresh, then find the release: the two steps of a device, as one outcome."""
    return client.refresh() or client.find(f"stable/yard/{version}/manifest.json")


def flip(path, offset):
    data = bytearray(path.read_bytes())
    # 0x01 keeps hexadecimal digits from merely changing case, which would leave the same signature.
    data[offset % len(data)] ^= 0x01
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json", "1.stable.json"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.55, 0.8, 0.97])
def test_a_flipped_byte_in_any_metadata_file_is_a_signature_refusal(fleet, serve, make_client, file, share):
    """One byte changes in the server's own store, anywhere in the file: a device takes it for a broken signature."""
    fleet.publish("1")
    rotated = roles.next_version(fleet.root)
    for name in ("root-1", "root-2"):
        roles.sign(rotated, fleet.signers[name])
    assert fleet.repository.initialise(rotated.to_bytes(), None) is None
    path = fleet.tuf / "metadata" / file
    flip(path, int(path.stat().st_size * share))
    client = make_client(serve(fleet.tuf), fleet)
    assert code(look_up(client)) == "signature"


def test_a_flipped_byte_in_a_manifest_or_content_is_a_hash_refusal(fleet, serve, make_client):
    manifest = fleet.publish("1")
    digest = hashlib.sha256(manifest).hexdigest()
    flip(fleet.tuf / "targets" / "stable" / "yard" / "1" / f"{digest}.manifest.json", 100)
    client = make_client(serve(fleet.tuf), fleet)
    assert code(client.manifest("stable/yard/1/manifest.json", digest, len(manifest))) == "hash"


def test_arbitrary_package(fleet, serve, make_client):
    """A captured server adds a release of its own to the channel file: without a releaser's key it is a broken signature."""
    fleet.publish("1")
    path = fleet.tuf / "metadata" / "1.stable.json"
    forged = json.loads(path.read_bytes())
    entry = forged["signed"]["targets"]["stable/yard/1/manifest.json"]
    forged["signed"]["targets"]["stable/yard/2/manifest.json"] = {**entry, "hashes": {"sha256": "ab" * 32}}
    path.write_text(json.dumps(forged))
    assert code(look_up(make_client(serve(fleet.tuf), fleet), "2")) == "signature"


def test_rollback(fleet, serve, make_client):
    """The device has seen version 2; an old, validly signed state is served again: refused, it keeps what it knows."""
    fleet.publish("1")
    old = {path.name: path.read_bytes() for path in (fleet.tuf / "metadata").iterdir()}
    fleet.publish("2", counter=2)
    client = make_client(serve(fleet.tuf), fleet)
    assert not isinstance(look_up(client, "2"), Refusal)
    seen = client.versions()
    (fleet.tuf / "metadata" / "timestamp.json").write_bytes(old["timestamp.json"])
    assert code(client.refresh()) == "signature"
    assert client.versions() == seen


def test_freeze(fleet, serve, make_client):
    """The server is held still: after a day the timestamp has expired, and no new install is decided on old knowledge."""
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    fleet.now_s += TIMESTAMP_LIFE_S + 60
    assert code(client.refresh()) == "expired"
    assert fleet.repository.refresh_timestamp() is True
    assert client.refresh() is None


def test_an_expired_channel_refuses_new_installs(fleet, serve, make_client):
    fleet.publish("1")
    fleet.now_s += 61 * DAY_S
    assert fleet.repository.refresh_timestamp() is True
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    assert code(client.find("stable/yard/1/manifest.json")) == "expired"


def test_the_boards_own_clock_does_not_decide(fleet, serve, make_client):
    """The board thinks it is 1970 or 2099; what counts is the floored time that it is given."""
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    fleet.now_s += 400 * DAY_S
    assert code(client.refresh()) == "expired"
    fleet.now_s -= 400 * DAY_S
    assert client.refresh() is None


def test_a_foreign_root(make_fleet, serve, make_client):
    """The board was provisioned by one fleet and is pointed at another one's server."""
    ours, theirs = make_fleet().initialise(), make_fleet().initialise()
    theirs.publish("1")
    client = make_client(serve(theirs.tuf), ours, root=ours.root.to_bytes())
    assert code(client.refresh()) == "signature"


def test_mix_and_match(fleet, serve, make_client):
    """An old channel file under the new name: each is validly signed, but they were never together."""
    fleet.publish("1")
    old = (fleet.tuf / "metadata" / "1.stable.json").read_bytes()
    fleet.publish("2", counter=2)
    (fleet.tuf / "metadata" / "2.stable.json").write_bytes(old)
    assert code(look_up(make_client(serve(fleet.tuf), fleet), "1")) == "signature"


def test_one_of_two_signatures_is_not_enough_for_the_device_either(make_fleet, serve, make_client):
    """A captured server with one release key publishes by itself; the channel's threshold is two."""
    fleet = make_fleet(channel_threshold=2).initialise()
    manifest = fleet.release("1")
    signed = fleet.signed_channel(manifest, "1", by=("stable-1", "stable-2"))
    assert isinstance(fleet.repository.publish_channel("stable", signed.to_bytes(), [manifest]), list)
    path = fleet.tuf / "metadata" / "1.stable.json"
    stripped = json.loads(path.read_bytes())
    stripped["signatures"] = stripped["signatures"][:1]
    path.write_text(json.dumps(stripped))
    assert code(look_up(make_client(serve(fleet.tuf), fleet))) == "signature"


def test_a_channel_key_does_not_open_another_channel(fleet, serve, make_client):
    """The beta key signs a release for stable and the server, captured, serves it in beta's file: no device resolves it there."""
    fleet.publish("1")
    manifest = fleet.release("9", channel="stable", counter=9)
    beta = roles.new_channel(fleet.now_s + 60 * DAY_S)
    beta = roles.add_release(beta, target_path("stable", "yard", "9"), manifest)
    roles.sign(beta, fleet.signers["beta"])
    outcome = fleet.repository.publish_channel("beta", beta.to_bytes(), [manifest])
    assert code(outcome) == "channel"
    fleet.repository._store.write("beta", 1, beta.to_bytes())  # the captured server does not ask its own checks
    fleet.repository._online.bump(fleet.repository._store.load(), {"beta": 1}, fleet.now_s)
    client = make_client(serve(fleet.tuf), fleet)
    assert code(look_up(client, "9")) == "mismatch"


def test_root_rotation_is_followed(fleet, serve, make_client):
    """One of three root keys is lost and replaced: two old keys sign version 2, devices follow without being touched."""
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    rotated = roles.next_version(fleet.root)
    rotated.signed.revoke_key(fleet.key("root-3").keyid, "root")
    rotated.signed.add_key(fleet.key("beta"), "root")
    roles.sign(rotated, fleet.signers["root-1"])
    status = roles.signature_status(rotated, fleet.root)
    assert not status.complete
    assert fleet.key("root-2").keyid in status.missing
    assert code(fleet.repository.initialise(rotated.to_bytes(), None)) == "signature"
    roles.sign(rotated, fleet.signers["root-2"])
    assert roles.signature_status(rotated, fleet.root).complete
    assert fleet.repository.initialise(rotated.to_bytes(), None) is None
    assert client.refresh() is None
    assert client.versions()["root"] == 2
    assert not isinstance(look_up(client), Refusal)


def test_a_root_signed_by_the_new_keys_alone_is_not_followed(fleet, serve, make_client):
    """An attacker who controls the server makes a root of his own as version 2."""
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    forged = roles.next_version(fleet.root)
    for name in ("root-1", "root-2", "root-3"):
        forged.signed.revoke_key(fleet.key(name).keyid, "root")
    forged.signed.add_key(fleet.key("beta"), "root")
    forged.signed.roles["root"].threshold = 1
    roles.sign(forged, fleet.signers["beta"])
    (fleet.tuf / "metadata" / "2.root.json").write_bytes(forged.to_bytes())
    assert code(client.refresh()) == "signature"


def test_a_yanked_release_is_no_longer_found(fleet, serve, make_client):
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    assert not isinstance(look_up(client), Refusal)
    without = roles.remove_target(fleet.channel(), "stable/yard/1/manifest.json")
    roles.sign(without, fleet.signers["stable-1"])
    assert fleet.repository.publish_channel("stable", without.to_bytes(), []) == []
    assert code(look_up(client)) == "mismatch"


@pytest.mark.parametrize(
    "misdeed",
    [
        {"path": "timestamp", "status": 500},
        {"path": "timestamp", "status": 404},
        {"path": "timestamp", "cut_at_bytes": 40},
        {"path": "timestamp", "drip_s": 0.05},
        {"path": "root", "drip_headers_s": 0.05},
        {"path": "snapshot", "status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
    ],
)
def test_a_bad_network_is_a_download_refusal_within_the_deadline(fleet, serve, make_client, misdeed):
    """Down, broken off, dripping, redirecting: the device says download, and its deadline holds against a byte every 50 ms."""
    server = serve(fleet.tuf)
    client = make_client(server, fleet, deadline_s=1.5)
    server.misbehave(**misdeed)
    assert code(client.refresh()) == "download"
    server.misdeeds.clear()
    assert client.refresh() is None


def test_nothing_listens(fleet, serve, make_client):
    server = serve(fleet.tuf)
    client = make_client(server, fleet)
    server.close()
    assert code(client.refresh()) == "download"


def test_a_file_without_end_is_cut_off(fleet, serve, make_client):
    """The server answers with megabytes of blanks where a timestamp belongs."""
    server = serve(fleet.tuf)
    server.misbehave(path="timestamp", replace=lambda data: data + b" " * 3_000_000)
    assert code(make_client(server, fleet).refresh()) == "download"


def test_metadata_torn_by_a_power_cut_is_fetched_again(fleet, serve, make_client, tmp_path):
    fleet.publish("1")
    server = serve(fleet.tuf)
    assert not isinstance(look_up(make_client(server, fleet)), Refusal)
    for name in ("timestamp", "snapshot", "targets", "stable"):
        path = tmp_path / "device" / f"{name}.json"
        path.write_bytes(path.read_bytes()[:50])
    assert not isinstance(look_up(make_client(server, fleet)), Refusal)


def test_a_planted_root_on_the_device_is_no_anchor(make_fleet, serve, make_client, tmp_path):
    """Somebody writes his own root into the metadata folder: the root that came with the board still decides."""
    ours, theirs = make_fleet().initialise(), make_fleet().initialise()
    client = make_client(serve(ours.tuf), ours)
    assert client.refresh() is None
    (tmp_path / "device" / "root_history" / "1.root.json").write_bytes(theirs.root.to_bytes())
    assert make_client(serve(theirs.tuf), ours).refresh().code == "signature"
    assert make_client(serve(ours.tuf), ours).refresh() is None


def test_an_assignment_by_another_key_or_with_another_text_is_not_believed(fleet, serve, make_client):
    """The timestamp key is online too, but it may not say what a device runs; nor may a changed letter."""
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    keys = client.assignment_keys()
    word = TimeAnswer(nonce="n" * 16, now_s=fleet.now_s)
    good = sign_payload(word, fleet.repository.assignment_signer())
    assert verify_payload(good, keys) == good.payload
    wrong_key = sign_payload(word, fleet.repository._keys.signer("timestamp"))
    with pytest.raises(TrustError, match="does not name"):
        verify_payload(wrong_key, keys)
    changed = type(good)(payload=good.payload.replace("n" * 16, "m" * 16), keyid=good.keyid, signature=good.signature)
    with pytest.raises(TrustError, match="does not fit"):
        verify_payload(changed, keys)
    borrowed = type(good)(payload=good.payload, keyid=good.keyid, signature=wrong_key.signature)
    with pytest.raises(TrustError):
        verify_payload(borrowed, keys)
    odd = type(good)(payload=good.payload, keyid=good.keyid, signature="a" * 17)
    with pytest.raises(TrustError):
        verify_payload(odd, keys)


def test_metadata_survives_serialisation(fleet):
    """What the CLI reads back is what was signed: a second signer may append after a round trip through a file."""
    again = Metadata.from_bytes(fleet.root.to_bytes())
    roles.sign(again, fleet.signers["root-3"])
    status = roles.signature_status(again, fleet.root)
    assert len(status.signed) == 3
    assert status.complete
    assert str(status) == "3 of 3 signed, 2 needed"


class Board:
    """The trusted clock of a board whose own clock says what the test wants."""

    def __init__(self, floor_s: float, system_s: float) -> None:
        self.steady_s = 0.0
        self.clock = TrustedClock(floor_s, now=lambda: system_s, steady=lambda: self.steady_s, keep=lambda _: None)


@pytest.mark.parametrize("system_s", [0.0, 1_000.0])
def test_a_board_in_1970_judges_by_its_floor(fleet, serve, make_client, system_s):
    """The battery is empty. Metadata that has expired by the floor is refused, whatever the board's own clock says."""
    fleet.publish("1")
    board = Board(fleet.now_s, system_s)
    client = make_client(serve(fleet.tuf), fleet, reference_time=board.clock.now_s)
    assert look_up(client).path == "stable/yard/1/manifest.json"
    board.steady_s = 61 * DAY_S
    assert code(look_up(client)) == "expired"


def test_one_2099_does_not_end_the_board(fleet, serve, make_client):
    """A server with a broken clock signs 2099 once: the floor stops where metadata ends, so the next release is taken."""
    fleet.publish("1")
    board = Board(fleet.now_s, 0.0)
    client = make_client(serve(fleet.tuf), fleet, reference_time=board.clock.now_s)
    board.clock.bound_by(client.earliest_end_s)
    assert client.earliest_end_s() == fleet.root.signed.expires.timestamp(), "before anything was fetched: of the pinned root"
    assert client.refresh() is None
    assert client.find("stable/yard/1/manifest.json").path
    ends_s = fleet.now_s + 60 * DAY_S
    assert client.earliest_end_s() == ends_s, "the channel's end is the first"
    board.clock.verified(4_080_000_000.0)
    assert board.clock.now_s() == ends_s
    fleet.now_s = ends_s  # the fleet lives on, and people sign as ever
    assert fleet.repository.refresh_timestamp() is True
    manifest = fleet.release("2", counter=2)
    following = roles.add_release(fleet.channel(), target_path("stable", "yard", "2"), manifest, fleet.now_s + 60 * DAY_S)
    roles.sign(following, fleet.signers["stable-1"])
    assert isinstance(fleet.repository.publish_channel("stable", following.to_bytes(), [manifest]), list)
    assert look_up(client, "2").path == "stable/yard/2/manifest.json"
