"""Releases through the real repository and both doors: what is signed is published, what is not is refused."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete

from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.releases import service
from fleet_server.releases.published_disk import published_channels
from fleet_server.releases.tables import ChannelRow, ReleaseRow
from fleet_server.settings import Settings
from ota.bundle.manifest import Delta, FileEntry, Manifest, Packed, Variant, encode_manifest, target_path
from ota.bundle.tuf_types import DelegatedRole
from ota.trust.key_types import CryptoSigner
from ota.trust.repository_disk import Repository
from ota.trust.roles import (
    ChannelKeys,
    add_policy,
    add_release,
    delegated_paths,
    new_channel,
    new_root,
    new_targets,
    parse_metadata,
    remove_target,
    sign,
)  # fmt: skip
from ota.wire.topics import BUNDLES, METADATA

MODEL = b"model bytes " * 100
CARD = b"card"


@dataclass
class Signers:
    """The offline keys of a small fleet."""

    root: CryptoSigner = field(default_factory=CryptoSigner.generate_ecdsa)
    channel: CryptoSigner = field(default_factory=CryptoSigner.generate_ecdsa)


@pytest.fixture
def repository(settings: Settings, clock: Any) -> Repository:
    return Repository(settings.data_dir / "tuf", settings.data_dir / "keys", clock)


@pytest.fixture
def signers() -> Signers:
    return Signers()


def trust(repository: Repository, signers: Signers, now_s: float) -> dict[str, Any]:
    online = repository.online_keys()
    keys = {"root": [signers.root.public_key], "targets": [signers.root.public_key],
            "snapshot": [online["snapshot"]], "timestamp": [online["timestamp"]]}  # fmt: skip
    root = new_root(keys, {}, now_s + 1e7)
    targets = new_targets({"stable": ChannelKeys([signers.channel.public_key])}, [online["assignment"]], now_s + 1e7)
    sign(root, signers.root)
    sign(targets, signers.root)
    return {"root": json.loads(root.to_bytes()), "targets": json.loads(targets.to_bytes())}


def manifest(version: str, counter: int = 1) -> bytes:
    files = {"m.tflite": MODEL, "c.toml": CARD}
    one = Manifest(
        name="yard", version=version, channel="stable", counter=counter, created_s=1_700_000_000, hardware=["*"],
        variants=[Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m.tflite", card="c.toml", files=list(files))],
        files={path: FileEntry(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data)) for path, data in files.items()},
    )  # fmt: skip
    return encode_manifest(one)


@pytest.fixture
def admin(sign_in: Callable[[str], FlaskClient], repository: Repository, signers: Signers, clock: Any) -> FlaskClient:
    client = sign_in("admin")
    assert client.get("/api/v1/trust").json["initialised"] is False
    answer = client.post("/api/v1/trust/root", json=trust(repository, signers, clock()))
    assert answer.status_code == 201, answer.json
    return client


def put_content(client: FlaskClient) -> None:
    for data in (MODEL, CARD):
        assert client.put(f"/api/v1/content/{hashlib.sha256(data).hexdigest()}", data=data).status_code == 201


def signed(signers: Signers, now_s: float, version: str = "1", before: bytes | None = None) -> tuple[dict[str, Any], str]:
    data = manifest(version, int(version))
    channel = parse_metadata(before, "stable") if before else new_channel(now_s + 1e6)
    channel = add_release(channel, target_path("stable", "yard", version), data, now_s + 1e6)
    sign(channel, signers.channel)
    return json.loads(channel.to_bytes()), data.decode()


def post(client: FlaskClient, metadata: dict[str, Any], *manifests: str) -> Any:
    return client.post("/api/v1/channels/stable/metadata", json={"metadata": metadata, "manifests": list(manifests)})


def test_a_release_is_published_listed_and_served(
    admin: FlaskClient, device_door: Any, signers: Signers, clock: Any, repository: Repository
) -> None:
    put_content(admin)
    metadata, text = signed(signers, clock())
    answer = post(admin, metadata, text)
    assert (answer.status_code, answer.json["changed"]) == (201, ["yard@1"])
    found = admin.get("/api/v1/releases/yard@1").json
    assert found["variants"] == [{"id": "cpu", "accelerator": "cpu", "length_bytes": len(MODEL) + len(CARD)}]
    assert (found["parity_only"], found["acceptance"], found["yanked"], found["problems"]) == (True, None, False, [])
    assert [one["release"] for one in admin.get("/api/v1/releases").json["items"]] == ["yard@1"]
    path = f"{BUNDLES}/stable/yard/1/{found['sha256']}.manifest.json"
    assert device_door.client.get(path).data == text.encode()
    part = device_door.client.get(f"{BUNDLES}/files/{hashlib.sha256(MODEL).hexdigest()}", headers={"Range": "bytes=6-17"})
    assert (part.status_code, part.data) == (206, MODEL[6:18])
    stamp = device_door.client.get(f"{METADATA}/timestamp.json")
    assert (stamp.status_code, stamp.headers["Cache-Control"]) == (200, "no-cache")
    assert device_door.client.get(f"{BUNDLES}/../metadata/timestamp.json").status_code == 404
    assert device_door.client.get(f"{METADATA}/%2e%2e/%2e%2e/keys/web-secret").status_code == 404


def test_a_release_that_nobody_with_a_channel_key_signed_is_refused(admin: FlaskClient, clock: Any) -> None:
    """A thief has the server's password and no release key."""
    put_content(admin)
    metadata, text = signed(Signers(), clock())
    answer = post(admin, metadata, text)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert "refused(signature)" in answer.json["detail"]
    metadata["signatures"] = []
    assert "refused(signature)" in post(admin, metadata, text).json["detail"]
    assert admin.get("/api/v1/releases").json["items"] == []


def test_a_manifest_changed_after_signing_is_refused(admin: FlaskClient, signers: Signers, clock: Any) -> None:
    put_content(admin)
    metadata, text = signed(signers, clock())
    answer = post(admin, metadata, text.replace('"counter":1', '"counter":9'))
    assert answer.status_code == 400
    assert "refused(hash)" in answer.json["detail"]


def test_a_release_whose_files_were_not_sent_is_refused(admin: FlaskClient, signers: Signers, clock: Any) -> None:
    metadata, text = signed(signers, clock())
    answer = post(admin, metadata, text)
    assert answer.status_code == 400
    assert "is not on the server" in answer.json["detail"]


def test_a_lost_answer_costs_nothing_and_an_old_version_is_a_conflict(
    admin: FlaskClient, signers: Signers, clock: Any, repository: Repository
) -> None:
    put_content(admin)
    first, text = signed(signers, clock())
    assert post(admin, first, text).status_code == 201
    again = post(admin, first, text)
    assert (again.status_code, again.json["changed"]) == (201, [])
    present = admin.get("/api/v1/channels/stable/metadata").data
    second, other = signed(signers, clock(), "2", present)
    assert post(admin, second, other).json["version"] == 2
    assert post(admin, first, text).status_code == 409


def test_a_yanked_release_stays_in_the_list_and_says_so(
    admin: FlaskClient, signers: Signers, clock: Any, repository: Repository
) -> None:
    put_content(admin)
    metadata, text = signed(signers, clock())
    post(admin, metadata, text)
    present = parse_metadata(repository.channel_metadata("stable") or b"", "stable")
    without = remove_target(present, target_path("stable", "yard", "1"), clock() + 1e6)
    sign(without, signers.channel)
    assert post(admin, json.loads(without.to_bytes())).status_code == 201
    assert admin.get("/api/v1/releases/yard@1").json["yanked"] is True


def test_a_flipped_byte_in_the_store_is_seen_on_the_page(
    admin: FlaskClient, signers: Signers, clock: Any, repository: Repository
) -> None:
    put_content(admin)
    metadata, text = signed(signers, clock())
    post(admin, metadata, text)
    path = repository.content_path(hashlib.sha256(MODEL).hexdigest())
    path.write_bytes(b"X" + MODEL[1:])
    assert admin.get("/api/v1/releases/yard@1").json["problems"] == ["m.tflite is damaged on the server"]


def test_the_rows_are_only_a_cache(
    admin: FlaskClient, signers: Signers, clock: Any, repository: Repository, database: Database, settings: Settings
) -> None:
    """The database is lost, the repository is not: an empty database says the same after it was read again."""
    put_content(admin)
    metadata, text = signed(signers, clock())
    post(admin, metadata, text)
    with database.write() as session:
        session.execute(delete(ReleaseRow))
        session.execute(delete(ChannelRow))
    with database.write() as session:
        assert service.is_behind(session, repository)
        assert service.take_over(session, published_channels(repository, settings.data_dir), clock()) == ["yard@1"]
    with database.write() as session:
        assert not service.is_behind(session, repository)
        assert service.release(session, "yard@1").sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert service.take_over(session, published_channels(repository, settings.data_dir), clock()) == []


def test_only_releasers_publish_and_only_admins_touch_the_root(
    admin: FlaskClient, sign_in: Callable[[str], FlaskClient], server: Context
) -> None:
    operator = sign_in("operator")
    assert operator.put(f"/api/v1/content/{'0' * 64}", data=b"x").status_code == 403
    assert post(operator, {}).status_code == 403
    assert sign_in("releaser").post("/api/v1/trust/root", json={}).status_code == 403
    assert admin.put(f"/api/v1/content/{'0' * 64}", data=b"x").status_code == 400


def test_an_advisory_yank_is_said_and_taken_back_and_a_real_one_is_signed(
    admin: FlaskClient, sign_in: Callable[[str], FlaskClient], signers: Signers, clock: Any, server: Any
) -> None:
    """Nobody with a release key is awake: the server offers it no longer and says that boards would still take it."""
    put_content(admin)
    metadata, text = signed(signers, clock())
    post(admin, metadata, text)
    assert sign_in("operator").post("/api/v1/releases/yard@1/yank", json={"reason": "it sees ghosts"}).status_code == 403
    assert admin.post("/api/v1/releases/yard@1/yank", json={"reason": ""}).status_code == 400
    assert admin.post("/api/v1/releases/yard@2/yank", json={"reason": "x"}).status_code == 404
    found = admin.post("/api/v1/releases/yard@1/yank", json={"reason": "it sees ghosts"}).json
    assert (found["advisory"], found["yanked"]) == ("it sees ghosts", False)
    refused = admin.post("/api/v1/rollouts", json={"release": "yard@1"})
    assert (refused.status_code, "it sees ghosts" in refused.json["detail"]) == (409, True)
    assert "a USB stick may install it" in admin.get("/releases").text
    assert admin.delete("/api/v1/releases/yard@1/yank").json["advisory"] == ""
    who = [one["what"] for one in admin.get("/api/v1/audit").json["items"]]
    assert {"release.yank", "release.unyank"} <= set(who)


def test_what_bears_its_hash_never_changes_and_the_timestamp_always_may(
    admin: FlaskClient, device_door: Any, signers: Signers, clock: Any
) -> None:
    """A content network may keep what is named by its hash for ever; what a restore may sign anew it asks for again."""
    put_content(admin)
    metadata, text = signed(signers, clock())
    post(admin, metadata, text)
    content = device_door.client.get(f"{BUNDLES}/files/{hashlib.sha256(MODEL).hexdigest()}")
    assert content.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert device_door.client.get(f"{METADATA}/1.root.json").headers["Cache-Control"] == "public, max-age=3600"
    assert device_door.client.get(f"{METADATA}/timestamp.json").headers["Cache-Control"] == "no-cache"
    for missing in (f"{METADATA}/2.root.json", f"{BUNDLES}/files/{'0' * 64}"):
        answer = device_door.client.get(missing)
        assert answer.status_code == 404
        assert "max-age" not in answer.headers.get("Cache-Control", ""), "what is not there today may be there tomorrow"


def test_packed_files_and_patches_are_demanded_as_they_travel(
    admin: FlaskClient, signers: Signers, clock: Any, repository: Repository
) -> None:
    """The manifest of version 2 names a packed form and a patch: without them no board could fetch the release."""
    packed, patch = b"packed " * 9, b"patch"
    entry = {
        "model": FileEntry(
            sha256=hashlib.sha256(MODEL).hexdigest(), length_bytes=len(MODEL),
            packed=Packed(encoding="zstd", sha256=hashlib.sha256(packed).hexdigest(), length_bytes=len(packed)),
            deltas=[Delta(encoding="zstd-patch", base_sha256="a" * 64, sha256=hashlib.sha256(patch).hexdigest(), length_bytes=5)],
        ),
        "card": FileEntry(sha256=hashlib.sha256(CARD).hexdigest(), length_bytes=len(CARD)),
    }  # fmt: skip
    data = encode_manifest(Manifest(
        name="yard", version="1", channel="stable", counter=1, created_s=1_700_000_000, hardware=["*"], files=entry,
        variants=[Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="model", card="card", files=["model", "card"])],
    ))  # fmt: skip
    channel = add_release(new_channel(clock() + 1e6), target_path("stable", "yard", "1"), data, clock() + 1e6)
    sign(channel, signers.channel)
    metadata = json.loads(channel.to_bytes())

    def put(content: bytes) -> None:
        assert admin.put(f"/api/v1/content/{hashlib.sha256(content).hexdigest()}", data=content).status_code == 201

    put(CARD)
    put(MODEL)  # unpacked it is of no use: nobody asks for it
    for content in (packed, patch):
        refused = post(admin, metadata, data.decode())
        assert (refused.status_code, hashlib.sha256(content).hexdigest()[:12] in refused.json["detail"]) == (400, True)
        put(content)
    assert post(admin, metadata, data.decode()).status_code == 201
    found = admin.get("/api/v1/releases/yard@1").json
    assert found["variants"][0]["length_bytes"] == len(packed) + len(CARD), "what a board fetches"
    assert found["problems"] == []
    repository.content_path(hashlib.sha256(patch).hexdigest()).write_bytes(b"other")
    assert "the patch of model from aaaaaaaaaaaa… is damaged" in admin.get("/api/v1/releases/yard@1").json["problems"][0]


def test_only_what_the_store_lacks_need_be_sent(admin: FlaskClient, repository: Repository) -> None:
    """A releaser on a slow line asks first; what was damaged on the server's disk counts as missing."""
    put_content(admin)
    digests = [hashlib.sha256(data).hexdigest() for data in (MODEL, CARD, b"never sent")]
    repository.content_path(digests[1]).write_bytes(b"damaged")
    answer = admin.post("/api/v1/content/missing", json={"sha256": digests})
    assert answer.json == {"missing": digests[1:]}
    assert admin.post("/api/v1/content/missing", json={"sha256": [digests[2]] * 1000}).json == {"missing": digests[2:]}
    assert admin.post("/api/v1/content/missing", json={"sha256": ["../../x"]}).status_code == 400


def test_half_a_character_is_a_fault_of_whoever_sends_it(admin: FlaskClient) -> None:
    """JSON can say what no text is: half of a pair."""
    body = b'{"metadata": {"signed": {}, "signatures": []}, "manifests": ["\\ud800"]}'
    answer = admin.post("/api/v1/channels/stable/metadata", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "half of a character" in answer.json["detail"]


POLICY = b'counter = 1\n[channels]\nallowed = ["stable"]\n'


def test_policies_are_published_like_a_channel_and_are_none(
    admin: FlaskClient, repository: Repository, signers: Signers, clock: Any, device_door: Any
) -> None:
    """The role ``policy`` is pushed through the same door; no list of channels shows it, and its counter must rise."""
    channels = {"stable": ChannelKeys([signers.channel.public_key])}
    targets = new_targets(channels, [repository.online_keys()["assignment"]], clock() + 1e7, 2)
    targets.signed.delegations.roles["policy"] = DelegatedRole("policy", [], 1, True, delegated_paths("policy"))
    targets.signed.add_key(signers.root.public_key, "policy")
    sign(targets, signers.root)
    assert admin.post("/api/v1/trust/root", json={"targets": json.loads(targets.to_bytes())}).status_code == 201

    def push(before: Any, data: bytes, counter: int, signer: Any = None) -> Any:
        metadata = add_policy(before, "policy/shops.toml", data, 9, clock() + 1e6)
        metadata.signed.targets["policy/shops.toml"].unrecognized_fields["custom"] = {"counter": counter}
        sign(metadata, signer or signers.root)
        body = {"metadata": json.loads(metadata.to_bytes()), "manifests": [data.decode()]}
        return admin.post("/api/v1/channels/policy/metadata", json=body), metadata

    assert push(new_channel(clock() + 1e6), POLICY, 1, signers.channel)[0].status_code == 400, "a release key signs no policy"
    answer, first = push(new_channel(clock() + 1e6), POLICY, 1)
    assert (answer.status_code, answer.json["version"]) == (201, 1)
    changed = POLICY + b"# wider\n"
    assert push(first, changed, 1)[0].status_code == 409
    assert push(first, changed, 2)[0].status_code == 201
    trust = admin.get("/api/v1/trust").json
    assert (trust["channels"], trust["versions"]["policy"]) == ({}, 2)
    assert admin.get("/api/v1/releases").json["items"] == []
    digest = hashlib.sha256(changed).hexdigest()
    assert device_door.client.get(f"{BUNDLES}/policy/{digest}.shops.toml").data == changed
