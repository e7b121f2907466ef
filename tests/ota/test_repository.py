"""The server's repository: what it refuses to publish, and that a crash at any file leaves clients a whole state."""

import hashlib
import io
import stat
import threading

import pytest

from ota import durable_disk
from ota.bundle.manifest import target_path
from ota.trust import repository_disk, roles, store_disk
from ota.trust.content_disk import Content
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository

DAY_S = 86_400.0


def code(outcome):
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


def upload(fleet, metadata, manifests, channel="stable"):
    return fleet.repository.publish_channel(channel, metadata.to_bytes(), manifests)


def test_published_targets_are_named(fleet):
    manifest = fleet.release("1")
    published = upload(fleet, fleet.signed_channel(manifest, "1"), [manifest])
    assert [(one.path, one.sha256, one.length_bytes) for one in published] == [
        ("stable/yard/1/manifest.json", hashlib.sha256(manifest).hexdigest(), len(manifest))
    ]
    assert published[0].manifest.release == "yard@1"
    status = fleet.repository.status()
    assert status.channels == {"stable": 1}
    assert status.problems == []
    assert status.root_version == 1


def test_the_same_upload_twice_is_a_version_that_does_not_follow(fleet):
    manifest = fleet.release("1")
    signed = fleet.signed_channel(manifest, "1")
    assert isinstance(upload(fleet, signed, [manifest]), list)
    assert code(upload(fleet, signed, [manifest])) == "sequence"


def test_version_jump(fleet):
    """A releaser's laptop is ahead, or an attacker wants to lock the channel by exhausting its versions."""
    fleet.publish("1")
    manifest = fleet.release("2", counter=2)
    metadata = fleet.signed_channel(manifest, "2")
    metadata.signed.version = 900
    roles.sign(metadata, fleet.signers["stable-1"], append=False)
    refused = upload(fleet, metadata, [manifest])
    assert code(refused) == "sequence"
    assert "sign version 2" in refused.detail


def test_one_of_two_signed_is_refused(make_fleet):
    fleet = make_fleet(channel_threshold=2).initialise()
    manifest = fleet.release("1")
    metadata = fleet.signed_channel(manifest, "1", by=("stable-1",))
    status = roles.signature_status(metadata, fleet.targets, "stable")
    assert not status.complete
    assert str(status).startswith("1 of 2 signed, 2 needed; missing: ")
    assert status.missing == (fleet.key("stable-2").keyid,)
    assert code(upload(fleet, metadata, [manifest])) == "signature"
    roles.sign(metadata, fleet.signers["stable-2"])
    assert isinstance(upload(fleet, metadata, [manifest]), list)


def test_two_of_three_root_keys_are_needed(make_fleet):
    fleet = make_fleet()
    fleet.root.signatures.pop(fleet.key("root-2").keyid)
    assert code(fleet.repository.initialise(fleet.root.to_bytes(), fleet.targets.to_bytes())) == "signature"
    assert not fleet.repository.status().initialised
    roles.sign(fleet.root, fleet.signers["root-3"])
    assert fleet.repository.initialise(fleet.root.to_bytes(), fleet.targets.to_bytes()) is None
    assert fleet.repository.status().initialised


def test_outside_its_path(fleet):
    manifest = fleet.release("1", channel="beta")
    metadata = roles.add_release(fleet.channel("stable"), target_path("beta", "yard", "1"), manifest)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [manifest])) == "channel"


def test_a_manifest_of_another_release_under_this_path(fleet):
    """The path says yard@2, the manifest inside says yard@1."""
    manifest = fleet.release("1")
    metadata = roles._with_target(fleet.channel(), "stable/yard/2/manifest.json", manifest, None)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [manifest])) == "channel"


def test_a_published_release_never_changes(fleet):
    fleet.publish("1")
    other = fleet.release("1", counter=7)
    metadata = roles.next_version(fleet.channel())
    entry = metadata.signed.targets["stable/yard/1/manifest.json"]
    entry.hashes["sha256"], entry.length = hashlib.sha256(other).hexdigest(), len(other)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [other])) == "mismatch"


def test_missing_damaged_and_unsent_content(fleet):
    """Every file must lie on the server, whole, before a device can hear of the release."""
    manifest = fleet.release("1", put=False)
    metadata = fleet.signed_channel(manifest, "1")
    refused = upload(fleet, metadata, [manifest])
    assert code(refused) == "hash"
    assert "is not on the server" in refused.detail
    assert code(upload(fleet, metadata, [])) == "hash"
    fleet.release("1")
    first = next((fleet.tuf / "targets" / "files").iterdir())
    good = first.read_bytes()
    first.write_bytes(good[:-1] + b"x")
    refused = upload(fleet, metadata, [manifest])
    assert code(refused) == "hash"
    assert "damaged" in refused.detail
    assert isinstance(fleet.repository.put_content(first.name, io.BytesIO(good)), Content)
    assert isinstance(upload(fleet, metadata, [manifest]), list)


def test_acceptance_sets_need_their_pictures_too(fleet):
    import json

    picture = b"a labelled picture"
    digest = hashlib.sha256(picture).hexdigest()
    data = json.dumps(
        {"v": 1, "name": "yard", "min_ap50": 0.6, "images": [{"file": "1.png", "sha256": digest, "objects": []}]}
    ).encode()
    metadata = roles.add_acceptance(fleet.channel(), "stable/acceptance/1/acceptance.json", data)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [data])) == "hash"
    fleet.put(picture)
    published = upload(fleet, metadata, [data])
    assert [one.manifest for one in published] == [None]


def test_an_expired_or_unknown_channel(fleet):
    manifest = fleet.release("1")
    assert code(upload(fleet, fleet.signed_channel(manifest, "1"), [manifest], "gamma")) == "channel"
    metadata = roles.add_release(fleet.channel(), "stable/yard/1/manifest.json", manifest, expires_s=fleet.now_s - 1)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [manifest])) == "expired"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"signed": {"_type": "root"}, "signatures": []}']
)
def test_garbage_is_a_refusal(fleet, data):
    assert code(fleet.repository.publish_channel("stable", data, [])) == "signature"
    assert code(fleet.repository.initialise(data, None)) == "signature"
    assert code(fleet.repository.initialise(None, data)) == "signature"


def test_a_root_that_does_not_name_our_online_keys(make_fleet):
    """A root made for another server: nothing that this one signs would count."""
    ours, theirs = make_fleet(), make_fleet()
    assert code(ours.repository.initialise(theirs.root.to_bytes(), theirs.targets.to_bytes())) == "signature"


def test_before_the_first_upload(make_fleet):
    fleet = make_fleet()
    assert fleet.repository.status().problems == ["no root was uploaded yet"]
    assert code(fleet.repository.publish_channel("stable", b"{}", [])) == "signature"
    assert code(fleet.repository.refresh_timestamp()) == "signature"
    assert fleet.repository.channel_metadata("stable") is None


def test_trust_uploads_may_be_repeated_and_must_follow(fleet):
    assert fleet.repository.initialise(fleet.root.to_bytes(), fleet.targets.to_bytes()) is None
    jump = roles.next_version(fleet.targets)
    jump.signed.version = 5
    roles.sign(jump, fleet.signers["targets"])
    assert code(fleet.repository.initialise(None, jump.to_bytes())) == "sequence"
    jump.signed.version = 2
    roles.sign(jump, fleet.signers["targets"], append=False)
    assert fleet.repository.initialise(None, jump.to_bytes()) is None
    assert fleet.repository.status().versions["targets"] == 2


def test_new_targets_keys_need_a_bridge(fleet, serve, make_client):
    """Root 2 replaces the targets key: targets signed by the new key alone would strand devices between the two files."""
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    rotated = roles.next_version(fleet.root)
    rotated.signed.revoke_key(fleet.key("targets").keyid, "targets")
    rotated.signed.add_key(fleet.key("beta"), "targets")
    for name in ("root-1", "root-3"):
        roles.sign(rotated, fleet.signers[name])
    following = roles.next_version(fleet.targets)
    roles.sign(following, fleet.signers["beta"])
    assert code(fleet.repository.initialise(rotated.to_bytes(), following.to_bytes())) == "signature"
    roles.sign(following, fleet.signers["targets"])
    assert fleet.repository.initialise(rotated.to_bytes(), following.to_bytes()) is None
    assert client.refresh() is None
    assert client.versions()["root"] == 2
    assert client.versions()["targets"] == 2


def test_keys_are_for_their_owner_only_and_survive_a_restart(fleet):
    keys = fleet.folder / "server" / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    again = Repository(fleet.folder / "server" / "tuf", keys)
    assert again.online_keys() == fleet.repository.online_keys()


def test_the_timestamp_is_signed_anew_at_half_life_only(fleet):
    before = fleet.repository.status()
    assert fleet.repository.refresh_timestamp() is False
    fleet.now_s += 13 * 3600
    assert fleet.repository.refresh_timestamp() is True
    after = fleet.repository.status()
    assert after.versions["timestamp"] == before.versions["timestamp"] + 1
    assert after.versions["snapshot"] == before.versions["snapshot"]
    fleet.now_s += 4 * DAY_S
    assert fleet.repository.status().problems == ["timestamp expired"]
    assert fleet.repository.refresh_timestamp() is True
    assert fleet.repository.status().versions["snapshot"] == before.versions["snapshot"] + 1


def test_the_server_does_not_sign_over_a_damaged_store(fleet):
    """A byte of the snapshot was flipped on the server's disk: a fresh timestamp over it would make the damage look meant."""
    path = fleet.tuf / "metadata" / "1.snapshot.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":3'))
    assert code(fleet.repository.refresh_timestamp(force=True)) == "signature"
    assert fleet.repository.status().problems[0].startswith("the metadata store is damaged")


def test_a_damaged_channel_file_does_not_stop_the_others(fleet):
    fleet.publish("1")
    (fleet.tuf / "metadata" / "1.stable.json").write_bytes(b"{")
    assert any("stable" in problem for problem in fleet.repository.status().problems)
    fleet.publish("1", channel="beta")
    manifest = fleet.release("0", counter=9)
    fresh = roles.add_release(roles.new_channel(fleet.now_s + DAY_S), "stable/yard/0/manifest.json", manifest)
    roles.sign(fresh, fleet.signers["stable-1"])
    assert code(upload(fleet, fresh, [manifest])) == "sequence"  # version 1 again: damage must not reset the count


def test_a_damaged_channel_file_is_healed_by_the_next_version(fleet, serve, make_client):
    """A digit of a hash flipped on the server's disk: what is signed next does not inherit it, and devices recover."""
    manifest = fleet.publish("1")
    good = fleet.channel()
    path = fleet.tuf / "metadata" / "1.stable.json"
    digest = hashlib.sha256(manifest).hexdigest()
    path.write_bytes(path.read_bytes().replace(digest.encode(), (digest[:-1] + ("0" if digest[-1] != "0" else "1")).encode()))
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    assert code(client.find("stable/yard/1/manifest.json")) == "signature"
    second = fleet.release("2", counter=2)
    following = roles.add_release(good, "stable/yard/2/manifest.json", second)
    roles.sign(following, fleet.signers["stable-1"])
    assert {one.path for one in upload(fleet, following, [second])} == {f"stable/yard/{n}/manifest.json" for n in (1, 2)}
    assert client.refresh() is None
    assert client.manifest("stable/yard/1/manifest.json", digest) == manifest


def test_wrong_content_is_not_stored(fleet):
    assert code(fleet.repository.put_content("ab" * 32, io.BytesIO(b"other"))) == "hash"
    assert code(fleet.repository.put_content("../../etc/passwd", io.BytesIO(b"x"))) == "format"
    assert list((fleet.tuf / "targets" / "files").iterdir()) == []


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("step", range(8))
def test_a_crash_at_any_file_leaves_a_whole_state(fleet, serve, make_client, monkeypatch, step):
    """The server dies while it publishes, before file number `step` is in place: a device sees the state before or after, and the
    releaser simply sends it again."""
    fleet.publish("1")
    manifest = fleet.release("2", counter=2)
    metadata = fleet.signed_channel(manifest, "2")
    written = []

    def cut(path, data, mode=0o644):
        if len(written) == step:
            raise PowerCutError
        written.append(path.name)
        durable_disk.write_whole(path, data, mode)

    with monkeypatch.context() as patch:  # the seam is the one function that puts a file in place
        patch.setattr(store_disk, "write_whole", cut)
        patch.setattr(repository_disk, "write_whole", cut)
        try:
            outcome = upload(fleet, metadata, [manifest])
        except PowerCutError:
            outcome = None
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    assert not isinstance(client.find("stable/yard/1/manifest.json"), Refusal)
    found = client.find("stable/yard/2/manifest.json")
    assert isinstance(found, Refusal) == (outcome is None)
    if outcome is None:
        assert isinstance(upload(fleet, metadata, [manifest]), list)
        assert client.refresh() is None
    else:
        assert written == [
            f"{hashlib.sha256(manifest).hexdigest()}.manifest.json",
            "2.stable.json",
            "3.snapshot.json",
            "timestamp.json",
        ]
    assert client.manifest("stable/yard/2/manifest.json", hashlib.sha256(manifest).hexdigest()) == manifest


def test_two_uploads_and_the_worker_at_the_same_moment(fleet, serve, make_client):
    """Two releasers push to two channels while the worker signs a timestamp, each in a process of its own: nothing is lost."""
    uploads = []
    for channel in ("stable", "beta"):
        manifest = fleet.release("1", channel=channel)
        uploads.append((channel, fleet.signed_channel(manifest, "1", channel=channel).to_bytes(), [manifest]))
    outcomes = []
    start = threading.Barrier(3)

    def another():  # a lock per open file: three objects stand for three processes
        return Repository(fleet.tuf, fleet.folder / "server" / "keys", lambda: fleet.now_s)

    def publish(upload_of):
        start.wait()
        outcomes.append(another().publish_channel(*upload_of))

    def refresh():
        start.wait()
        outcomes.append(another().refresh_timestamp(force=True))

    threads = [threading.Thread(target=publish, args=(one,)) for one in uploads] + [threading.Thread(target=refresh)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(isinstance(one, Refusal) for one in outcomes)
    assert fleet.repository.status().channels == {"stable": 1, "beta": 1}
    assert fleet.repository.status().versions["timestamp"] == 4
    client = make_client(serve(fleet.tuf), fleet)
    assert client.refresh() is None
    for channel in ("stable", "beta"):
        assert not isinstance(client.find(f"{channel}/yard/1/manifest.json"), Refusal)


def test_a_channel_signs_no_acceptance_set_of_another(fleet):
    """The set decides what passes: whoever holds the key of stable must not loosen what beta demands."""
    data = b'{"v": 1, "name": "yard", "min_ap50": 0.0, "images": []}'
    metadata = roles._with_target(fleet.channel("stable"), "beta/acceptance/1/acceptance.json", data, None)
    roles.sign(metadata, fleet.signers["stable-1"])
    assert code(upload(fleet, metadata, [data])) == "channel"
