"""The server's own keys change while boards go on asking: no board is stranded, nothing is lost for good with a lost key."""

import pytest

from ota.bundle.tuf_types import Metadata, MetaFile, Timestamp
from ota.trust import roles, store_disk
from ota.trust.assignment import sign_payload, verify_payload
from ota.trust.ceremony import KeyChange, change_root, change_targets, draft_of
from ota.trust.errors import KeyFileError
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository
from ota.wire.enrolment import TimeAnswer

DAY_S = 86_400.0
WORD = TimeAnswer(nonce="ab" * 16, now_s=1.0)


def next_root(fleet, *changed, by=("root-1", "root-2")):
    """The next root, in which the keys that the server made to follow take the places of those in use."""
    following = fleet.repository.next_online_keys(changed)
    present = Metadata.from_bytes(fleet.repository.metadata_bytes("root"))
    draft = draft_of(present, None, fleet.now_s + 365 * DAY_S)
    for role in changed:
        change_root(draft, role, KeyChange([following[role]], tuple(present.signed.roles[role].keyids)))
    for name in by:
        roles.sign(draft, fleet.signers[name])
    return draft


def files(fleet):
    return sorted(path.name for path in (fleet.folder / "server" / "keys").iterdir())


@pytest.mark.parametrize("changed", [("timestamp",), ("snapshot",), ("snapshot", "timestamp")])
def test_online_keys_are_replaced_and_no_board_sees_a_gap(fleet, serve, make_client, monkeypatch, changed):
    """Boards ask in the very moment of the change: after each single file that the server writes, a board of before, one that has
    never asked, and one that followed the last time all find what they can verify."""
    fleet.publish("1")
    server = serve(fleet.tuf)
    boards = [make_client(server, fleet, where="before"), make_client(server, fleet, where="follower")]
    assert [board.refresh() for board in boards] == [None, None]
    draft = next_root(fleet, *changed)
    assert "timestamp.next.pem" in files(fleet) or "snapshot.next.pem" in files(fleet)
    written = []
    real = store_disk.write_whole

    def write_and_ask(path, data):
        real(path, data)
        written.append(path.name)
        fresh = make_client(server, fleet, where=f"new-{len(written)}")
        assert fresh.refresh() is None, f"a new board after {path.name}"
        assert boards[1].refresh() is None, f"a follower after {path.name}"

    with monkeypatch.context() as patch:  # the seam is the one function that puts a file in place
        patch.setattr(store_disk, "write_whole", write_and_ask)
        assert fleet.repository.initialise(draft.to_bytes(), None) is None
    assert "2.root.json" in written
    assert "timestamp.json" in written
    assert not [name for name in files(fleet) if ".next." in name]
    for board in boards:
        assert board.refresh() is None
        assert board.versions()["root"] == 2
    fleet.publish("2", counter=2)
    assert boards[0].refresh() is None
    assert fleet.repository.status().problems == []


def test_the_next_key_does_nothing_until_the_root_names_it(fleet, serve, make_client):
    """An operator (or whoever stole his token) makes next keys: what the server signs stays as it was."""
    before = fleet.repository.online_keys()
    made = fleet.repository.next_online_keys(["timestamp", "assignment"])
    assert fleet.repository.next_online_keys(["timestamp"]) == made, "made once"
    assert fleet.repository.refresh_timestamp(force=True) is True
    stamp = Metadata.from_bytes((fleet.tuf / "metadata" / "timestamp.json").read_bytes())
    assert set(stamp.signatures) == {before["timestamp"].keyid}
    assert fleet.repository.online_keys() == before
    assert make_client(serve(fleet.tuf), fleet).refresh() is None
    with pytest.raises(KeyFileError, match="not an online role"):
        fleet.repository.next_online_keys(["root"])


def test_a_lost_timestamp_key_is_made_anew_by_root(fleet, serve, make_client):
    """The server's disk was replaced and the key was in no backup. Without it nothing new can be signed, and the server says so;
    two root signers name a new one, and boards follow."""
    fleet.publish("1")
    board = make_client(serve(fleet.tuf), fleet)
    assert board.refresh() is None
    (fleet.folder / "server" / "keys" / "timestamp.pem").unlink()
    fleet.repository = Repository(fleet.tuf, fleet.folder / "server" / "keys", lambda: fleet.now_s)
    outcome = fleet.repository.refresh_timestamp(force=True)
    assert isinstance(outcome, Refusal)
    assert "timestamp" in outcome.detail
    assert "not on this server" in fleet.repository.status().problems[0]
    assert "timestamp" not in fleet.repository.online_keys(), "no key is made behind the signers' backs"
    fleet.now_s += 2 * DAY_S
    assert board.refresh().code == "expired"
    draft = next_root(fleet, "timestamp")
    assert fleet.repository.initialise(draft.to_bytes(), None) is None
    assert board.refresh() is None
    assert fleet.repository.status().problems == []
    fleet.publish("2", counter=2)
    assert board.refresh() is None


@pytest.mark.parametrize("step", range(5))
def test_the_server_dies_while_it_takes_a_root_after_a_lost_key(fleet, serve, make_client, monkeypatch, step):
    """Power is cut before file `step` is in place, in the one order that cannot be bridged: the root is sent again."""
    fleet.publish("1")
    (fleet.folder / "server" / "keys" / "timestamp.pem").unlink()
    draft = next_root(fleet, "timestamp").to_bytes()

    class PowerCutError(Exception):
        pass

    real, count = store_disk.write_whole, []

    def cut(path, data):
        if len(count) == step:
            raise PowerCutError
        count.append(path.name)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(store_disk, "write_whole", cut)
        try:
            assert fleet.repository.initialise(draft, None) is None
            assert step >= 3
        except PowerCutError:
            assert step < 3
    again = Repository(fleet.tuf, fleet.folder / "server" / "keys", lambda: fleet.now_s)
    assert again.initialise(draft, None) is None
    assert again.status().problems == []
    assert make_client(serve(fleet.tuf), fleet).refresh() is None


def test_fast_forward_is_undone_by_new_online_keys(fleet, serve, make_client):
    """Whoever stole timestamp and snapshot keys told boards of version 2^31, so that they refuse everything of the true server
    as too old. New keys for both roles, signed by root, make boards forget what the stolen ones said."""
    fleet.publish("1")
    server = serve(fleet.tuf)
    board = make_client(server, fleet)
    assert board.refresh() is None
    keys = fleet.repository._keys
    state = fleet.repository._store.load()
    state.snapshot.signed.version = 2**31
    state.snapshot.signed.meta["stable.json"] = MetaFile(2**31)
    state.snapshot.sign(keys.signer("snapshot"))
    evil = Metadata(Timestamp(version=2**31, expires=state.timestamp.signed.expires, snapshot_meta=MetaFile(2**31)))
    evil.sign(keys.signer("timestamp"))
    honest = (fleet.tuf / "metadata" / "timestamp.json").read_bytes()
    (fleet.tuf / "metadata" / f"{2**31}.snapshot.json").write_bytes(state.snapshot.to_bytes())
    (fleet.tuf / "metadata" / "timestamp.json").write_bytes(evil.to_bytes())
    assert board.refresh() is None, "the stolen keys are still trusted"
    (fleet.tuf / "metadata" / "timestamp.json").write_bytes(honest)
    assert fleet.repository.refresh_timestamp(force=True) is True
    assert board.refresh().code == "signature"
    draft = next_root(fleet, "snapshot", "timestamp")
    assert fleet.repository.initialise(draft.to_bytes(), None) is None
    assert board.refresh() is None
    assert not isinstance(board.find("stable/yard/1/manifest.json"), Refusal)


def test_the_assignment_key_changes_and_boards_believe_the_new_one_only(fleet, serve, make_client):
    """The server's word to boards is signed by a new key from the moment on in which the offline-signed targets name it; whoever
    holds the old one can order nothing any more."""
    board = make_client(serve(fleet.tuf), fleet)
    assert board.refresh() is None
    signer = fleet.repository.assignment_signer()
    old = sign_payload(WORD, signer)
    verify_payload(old, board.assignment_keys())
    following = fleet.repository.next_online_keys(["assignment"])["assignment"]
    draft = draft_of(fleet.targets, None, fleet.now_s + 100 * DAY_S)
    change_targets(draft, "assignment", KeyChange([following], [old.keyid]))
    roles.sign(draft, fleet.signers["targets"])
    assert fleet.repository.initialise(None, draft.to_bytes()) is None
    fresh = sign_payload(WORD, signer)  # the same object, in a process that was running all the time
    assert fresh.keyid == following.keyid
    assert board.refresh() is None
    verify_payload(fresh, board.assignment_keys())
    with pytest.raises(roles.TrustError, match="does not name"):
        verify_payload(old, board.assignment_keys())


def test_a_root_or_targets_that_would_silence_the_server_are_refused(fleet):
    """A slip in the ceremony: a key of somebody else's server is named. Nothing that this server signs would count any more."""
    stranger = fleet.key("beta")
    draft = draft_of(fleet.root, None, fleet.now_s + 365 * DAY_S)
    change_root(draft, "timestamp", KeyChange([stranger], tuple(fleet.root.signed.roles["timestamp"].keyids)))
    for name in ("root-1", "root-2"):
        roles.sign(draft, fleet.signers[name])
    outcome = fleet.repository.initialise(draft.to_bytes(), None)
    assert isinstance(outcome, Refusal)
    assert "timestamp key" in outcome.detail
    top = draft_of(fleet.targets, None, fleet.now_s + 100 * DAY_S)
    change_targets(top, "assignment", KeyChange([stranger], [fleet.repository.online_keys()["assignment"].keyid]))
    roles.sign(top, fleet.signers["targets"])
    outcome = fleet.repository.initialise(None, top.to_bytes())
    assert isinstance(outcome, Refusal)
    assert "no board would take its word" in outcome.detail
