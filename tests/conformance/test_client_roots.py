"""Root rotations, expiry, keys: who may say what is trusted, and for how long."""

import json
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata
from tuf_repository import Answer, SimulatedRepository

# -- expiry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_an_expired_role_ends_the_refresh(client, repo, role):
    """One role of four is past its date: exit 1, and nothing that hangs below it becomes trusted."""
    (repo.root if role == "root" else repo.role(role)).expires = repo.now - timedelta(seconds=1)
    if role == "root":
        repo.publish_root()
    else:
        repo.bump(*([role] if role == "targets" else []))
    assert client.refresh() == 1
    # An expired piece is kept for one use only: what comes later may not be older than it.
    kept = {
        "root": {"root"},
        "timestamp": {"root"},
        "snapshot": {"root", "timestamp"},
        "targets": {"root", "timestamp", "snapshot"},
    }
    assert set(client.versions()) == kept[role]


def test_an_expired_delegated_role(client, repo):
    repo.delegate("targets", "role", ["a"])
    repo.add_file("role", "a", b"x")
    repo.delegated["role"].expires = repo.now - timedelta(seconds=1)
    repo.bump("targets", "role")
    assert client.refresh() == 0
    assert client.download("a") == 1
    assert client.files() == {}


def test_expired_intermediate_roots_are_only_steps(client, repo):
    """The device slept for two years: roots 2 and 3 have expired, 4 has not."""
    for expires in (repo.now - timedelta(days=400), repo.now - timedelta(days=30), repo.expires):
        repo.root.expires = expires
        repo.rotate("root")
        repo.publish_root()
    assert client.refresh() == 0
    assert client.versions()["root"] == 4


def test_metadata_that_expires_while_nothing_new_comes(client, repo):
    """A mirror is frozen: what was trusted yesterday is refused today, and heals when the server signs again."""
    assert client.refresh() == 0
    client.later_s = 31 * 86_400.0
    assert client.refresh() == 1
    later = repo.expires + timedelta(days=30)
    repo.root.expires = repo.timestamp.expires = repo.snapshot.expires = repo.targets.expires = later
    repo.publish_root()
    repo.bump("targets")
    assert client.refresh() == 0
    assert client.versions() == {"root": 2, "snapshot": 2, "targets": 2, "timestamp": 2}


def test_an_expired_local_timestamp_still_guards_against_an_older_one(client, repo):
    repo.timestamp.version = 5
    repo.timestamp.expires = repo.now + timedelta(days=1)
    assert client.refresh() == 0
    client.later_s = 2 * 86_400.0
    repo.timestamp.version, repo.timestamp.expires = 4, repo.expires
    assert client.refresh() == 1
    assert client.versions()["timestamp"] == 5


# -- the chain of roots -------------------------------------------------------------------------------------------------


def test_each_root_is_asked_for_in_its_order(client, repo):
    for _ in range(4):
        repo.rotate("root")
        repo.publish_root()
    assert client.refresh() == 0
    assert repo.metadata_requests[:6] == [*[("root", n) for n in range(2, 7)], ("timestamp", None)]
    assert client.bytes_of("root") == repo.roots[-1]
    assert client.refresh() == 0
    assert repo.metadata_requests == [("root", 6), ("timestamp", None)]


def test_a_client_that_slept_through_255_roots(client, repo):
    """The first root came with the board; the chain up to the last one is followed in one refresh."""
    for _ in range(255):
        repo.publish_root()
    assert client.refresh() == 0
    assert client.versions()["root"] == 256
    assert repo.metadata_requests[:256] == [("root", n) for n in range(2, 258)]


@pytest.mark.parametrize("status", [403, 404])
def test_403_and_404_end_the_chain(client, repo, status):
    repo.answers["2.root.json"] = Answer(status)
    assert client.refresh() == 0


@pytest.mark.parametrize("status", [400, 410, 500, 503])
def test_any_other_answer_is_no_end_of_the_chain(client, repo, status):
    """A broken server must not look like one that has no newer root: the newest root may revoke the key that signs below."""
    repo.answers["2.root.json"] = Answer(status)
    assert client.refresh() == 1
    assert repo.metadata_requests == [("root", 2)]
    assert client.versions() == {"root": 1}


def test_a_missing_root_in_between_hides_those_behind_it(client, repo):
    for _ in range(2):
        repo.rotate("timestamp")
        repo.publish_root()
    repo.answers["2.root.json"] = Answer(404)
    assert client.refresh() == 1  # root 1 does not name the key that signs timestamps by now
    assert client.versions() == {"root": 1}
    repo.answers.clear()
    assert client.refresh() == 0


@pytest.mark.parametrize("by", ["old", "new", "nobody", "stranger"])
def test_a_root_needs_the_old_keys_and_its_own(client, repo, by):
    old = list(repo.signers["root"].values())
    repo.rotate("root")
    new = list(repo.signers["root"].values())
    repo.publish_root(by={"old": old, "new": new, "nobody": [], "stranger": [CryptoSigner.generate_ed25519()]}[by])
    assert client.refresh() == 1
    assert client.versions() == {"root": 1}


def test_a_root_that_does_not_follow(client, repo):
    """2.root.json holds version 3, or version 1 once more."""
    repo.root.version = 2
    repo.publish_root()
    assert repo.root.version == 3
    assert client.refresh() == 1
    repo.roots[1] = repo.roots[0]
    assert client.refresh() == 1
    assert client.versions() == {"root": 1}


def test_two_of_three_old_keys_and_two_of_three_new_ones(make_client):
    """Thresholds of both roots must be met: one old key short, one new key short, then enough."""
    repo = SimulatedRepository()
    for _ in range(2):
        repo.add_key("root")
    repo.root.roles["root"].threshold = 2
    repo.roots.clear()
    repo.publish_root(bump=False)
    client = make_client(repo)
    old = list(repo.signers["root"].values())
    for keyid in list(repo.root.roles["root"].keyids)[:2]:
        repo.root.revoke_key(keyid, "root")
    new = [repo.add_key("root"), repo.add_key("root")]
    repo.publish_root(by=[old[0], *new])
    assert client.refresh() == 1
    repo.roots.pop()
    repo.publish_root(bump=False, by=[old[0], old[1], new[0]])
    assert client.refresh() == 1
    repo.roots.pop()
    repo.publish_root(bump=False, by=[old[0], old[1], *new])
    assert client.refresh() == 0
    assert client.versions()["root"] == 2


def test_a_higher_threshold_that_the_next_root_does_not_meet(client, repo):
    repo.add_key("root")
    repo.root.roles["root"].threshold = 2
    signers = list(repo.signers["root"].values())
    repo.publish_root(by=signers[:1])
    assert client.refresh() == 1
    repo.roots.pop()
    repo.publish_root(bump=False, by=signers)
    repo.root.roles["root"].threshold = 1
    repo.publish_root(by=signers[:1])  # root 2 asks for two
    assert client.refresh() == 1
    assert client.versions() == {"root": 2}
    repo.roots.pop()
    repo.publish_root(bump=False, by=signers)
    assert client.refresh() == 0
    assert client.versions()["root"] == 3


# -- fast-forward, and how one recovers from it -------------------------------------------------------------------------


def test_a_timestamp_of_two_billion_is_recovered_from_by_a_new_key(client, repo):
    """Whoever stole the timestamp key signed version 2^31: a new root with a new key lets the count begin anew."""
    repo.timestamp.version = 2**31
    assert client.refresh() == 0
    repo.timestamp.version = 2
    assert client.refresh() == 1
    repo.rotate("timestamp")
    repo.publish_root()
    assert client.refresh() == 0
    assert client.versions()["timestamp"] == 2


def test_a_snapshot_of_two_billion_needs_both_online_keys_anew(client, repo):
    repo.snapshot.version = 2**31
    repo.bump()
    assert client.refresh() == 0
    repo.snapshot.version = 3
    repo.bump_timestamp()
    assert client.refresh() == 1
    for role in ("snapshot", "timestamp"):
        repo.rotate(role)
    repo.publish_root()
    assert client.refresh() == 0
    assert client.versions()["snapshot"] == 3


@pytest.mark.parametrize("role", ["targets", "role"])
def test_targets_of_two_billion_need_a_new_snapshot_key(client, repo, role):
    repo.delegate("targets", "role", ["*"])
    repo.role(role).version = 2**31
    repo.bump()
    assert client.refresh() == 0
    assert client.download("nothing") == 1
    repo.role(role).version = 2
    repo.bump()
    assert client.refresh() == 1
    for one in ("snapshot", "timestamp"):
        repo.rotate(one)
    repo.publish_root()
    assert client.refresh() == 0
    client.download("nothing")
    assert client.versions()[role] == 2


# -- keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, lambda: CryptoSigner.generate_rsa(size=2048)],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_each_kind_of_key(make_client, make):
    client = make_client(SimulatedRepository(make_key=make))
    assert client.refresh() == 0


@pytest.mark.parametrize("keyid", ["0", "not hexadecimal", "ab" * 32, "ключ", "../../x"])
def test_a_key_may_have_any_id(make_client, keyid):
    repo = SimulatedRepository()
    made = CryptoSigner.generate_ed25519()
    signer = CryptoSigner(made._private_key, Key.from_dict(keyid, made.public_key.to_dict()))
    for old in list(repo.root.roles["timestamp"].keyids):
        repo.root.revoke_key(old, "timestamp")
    repo.signers["timestamp"] = {}
    repo.add_key("timestamp", signer=signer)
    repo.roots.clear()
    repo.publish_root(bump=False)
    assert make_client(repo).refresh() == 0


def test_the_same_signature_twice_counts_once(client, repo):
    repo.add_key("timestamp")
    repo.root.roles["timestamp"].threshold = 2
    repo.publish_root()
    signers = list(repo.signers["timestamp"].values())
    metadata = Metadata(repo.timestamp)
    metadata.sign(signers[0])
    plain = metadata.to_dict()
    for signatures in (
        [plain["signatures"][0]] * 2,
        [plain["signatures"][0], {**plain["signatures"][0], "keyid": signers[1].public_key.keyid}],
    ):
        repo.answers["timestamp"] = Answer(data=json.dumps({**plain, "signatures": signatures}).encode())
        assert client.refresh() == 1
        assert "timestamp" not in client.versions()


def test_a_key_of_one_role_signs_no_other(client, repo):
    repo.signers["timestamp"], repo.signers["snapshot"] = repo.signers["snapshot"], repo.signers["timestamp"]
    assert client.refresh() == 1
    assert client.versions() == {"root": 1}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"\xff", b"[" * 50_000, b'{"signatures":[],"signed":{"_type":"root"}}'], ids=range(6)
)
def test_garbage_in_the_place_of_a_role(client, repo, role, data):
    repo.answers[rf"\b{role}\.json"] = Answer(data=data)
    assert client.refresh() == 1
    assert role not in client.versions()


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_unsigned_metadata(client, repo, role):
    if role == "root":
        repo.publish_root(by=[])
    else:
        repo.signers[role] = {}
    assert client.refresh() == 1
    assert client.versions().get(role) in (None, 1 if role == "root" else None)


@pytest.mark.parametrize(
    ("role", "limit"), [("root", 512_000), ("timestamp", 16_384), ("snapshot", 2_000_000), ("targets", 5_000_000)]
)
def test_endless_metadata_is_cut_off(client, repo, role, limit):
    """Rightly signed or not: beyond the limit nobody reads on."""
    if role == "root":
        repo.root.unrecognized_fields["filler"] = "x" * limit
        repo.publish_root()
    else:
        repo.role(role).unrecognized_fields["filler"] = "x" * limit
    assert client.refresh() == 1
    assert role == "root" or role not in client.versions()


def test_fields_that_nobody_knows_are_signed_with_the_rest(client, repo):
    for role in ("timestamp", "snapshot", "targets"):
        repo.role(role).unrecognized_fields["x-later"] = {"a": [1, "b"]}
    assert client.refresh() == 0
    assert client.bytes_of("targets") == repo.bytes_of("targets")
