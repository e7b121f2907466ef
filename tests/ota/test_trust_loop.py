"""The whole trust path in one story: people sign, the server publishes, a device verifies and fetches."""

import hashlib
import json

import msgspec

from ota.bundle.manifest import parse_manifest
from ota.trust.assignment import sign_payload, verify_payload
from ota.trust.content_http import Fetched, fetch
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment


def test_a_release_goes_from_the_signer_to_the_device(fleet, serve, make_client, pool, tmp_path):
    """A releaser signs offline, uploads, the server assigns, the device checks every link and fetches its variant's files."""
    manifest = fleet.publish("1")
    server = serve(fleet.tuf)
    client = make_client(server, fleet)

    assert client.assignment_keys() == {}
    assert client.refresh() is None
    path = "stable/yard/1/manifest.json"
    digest = hashlib.sha256(manifest).hexdigest()
    word = Assignment(
        device="yard-1",
        seq=1,
        issued_s=fleet.now_s,
        expires_s=fleet.now_s + 60,
        bundle=AssignedBundle(path=path, sha256=digest, length_bytes=len(manifest), channel="stable", release="yard@1"),
    )
    signed = sign_payload(word, fleet.repository.assignment_signer())
    heard = msgspec.json.decode(verify_payload(signed, client.assignment_keys()), type=Assignment)
    assert heard == word
    assert heard.bundle is not None

    data = client.manifest(heard.bundle.path, heard.bundle.sha256, heard.bundle.length_bytes)
    assert data == manifest
    parsed = parse_manifest(data)
    for file in parsed.variants[1].files:
        entry = parsed.files[file]
        got = fetch(
            pool,
            f"{server.url}/targets/files/{entry.sha256}",
            tmp_path / "in" / file,
            length_bytes=entry.length_bytes,
            sha256=entry.sha256,
        )
        assert isinstance(got, Fetched), got
    assert (tmp_path / "in" / "model-b.tflite").read_bytes() == b"model-b.tflite of yard@1 " * 900
    assert client.versions() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "stable": 1}


def test_a_device_that_starts_without_a_network_still_knows_who_may_assign(fleet, serve, make_client):
    """After a reboot in an outage the keys come from verified metadata on disk, never from an unverified file."""
    server = serve(fleet.tuf)
    assert make_client(server, fleet).refresh() is None
    again = make_client(server, fleet)
    assert set(again.assignment_keys()) == {fleet.repository.online_keys()["assignment"].keyid}
    stored = next(path for path in (fleet.folder.parent / "device").glob("targets.json"))
    forged = json.loads(stored.read_bytes())
    forged["signed"]["version"] += 1
    stored.write_text(json.dumps(forged))
    assert make_client(server, fleet).assignment_keys() == {}


def test_a_path_that_nobody_signed_is_a_mismatch(fleet, serve, make_client):
    fleet.publish("1")
    client = make_client(serve(fleet.tuf), fleet)
    for path in ("stable/yard/9/manifest.json", "other/yard/1/manifest.json"):
        refused = client.find(path)
        assert isinstance(refused, Refusal)
        assert refused.code == "mismatch"
    assert client.manifest("stable/yard/1/manifest.json", "0" * 64, 5).code == "mismatch"


def test_when_nothing_changed_two_small_files_are_asked_for(fleet, serve, make_client):
    """The next root (there is none) and the timestamp, over the connection that is open already."""
    server = serve(fleet.tuf)
    client = make_client(server, fleet)
    assert client.refresh() is None
    server.requests.clear()
    assert client.refresh() is None
    assert [path for path, _ in server.requests] == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    assert server.connections == 1
