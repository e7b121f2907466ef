"""Roll-back, mix-and-match, and the graph of delegations."""

import pytest
from tuf.api.metadata import Delegations, MetaFile, SuccinctRoles, Targets
from tuf_repository import Answer, SimulatedRepository


def state(client):
    return {name: path.read_bytes() for path in sorted(client.metadata.glob("*.json")) if (name := path.name)}


# -- roll-back ----------------------------------------------------------------------------------------------------------


def test_an_older_timestamp(client, repo):
    repo.timestamp.version = 7
    assert client.refresh() == 0
    before = state(client)
    repo.timestamp.version = 6
    assert client.refresh() == 1
    assert state(client) == before


def test_a_newer_timestamp_with_an_older_snapshot(client, repo):
    repo.bump("targets")
    assert client.refresh() == 0
    before = state(client)
    repo.snapshot.version = 1
    repo.bump_timestamp()
    assert client.refresh() == 1
    assert state(client) == before


@pytest.mark.parametrize("role", ["targets", "role"])
def test_a_newer_snapshot_with_older_targets(client, repo, role):
    repo.delegate("targets", "role", ["*"])
    repo.bump("targets", "role")
    assert client.refresh() == 0
    client.download("nothing")
    before = client.versions()
    repo.role(role).version -= 1
    repo.bump()
    assert client.refresh() == 1
    after = client.versions()
    assert (after["snapshot"], after["targets"], after["role"]) == (before["snapshot"], before["targets"], before["role"])


def test_a_newer_snapshot_that_leaves_a_role_out(client, repo):
    repo.delegate("targets", "role", ["*"])
    repo.bump("targets", "role")
    assert client.refresh() == 0
    repo.bump()
    del repo.snapshot.meta["role.json"]
    assert client.refresh() == 1
    assert client.versions()["snapshot"] == 2


def test_the_same_version_again_is_not_taken_anew(client, repo):
    """Equal versions, other bytes: what is trusted stays."""
    assert client.refresh() == 0
    before = state(client)
    repo.timestamp.unrecognized_fields["x"] = "changed"
    assert client.refresh() == 0
    assert state(client) == before


# -- mix and match ------------------------------------------------------------------------------------------------------


def test_a_snapshot_of_another_version_than_the_timestamp_says(client, repo):
    repo.bump()
    stale = repo.bytes_of("snapshot")
    repo.bump()
    repo.answers["3.snapshot"] = Answer(data=stale)
    assert client.refresh() == 1
    assert set(client.versions()) == {"root", "timestamp"}


@pytest.mark.parametrize("role", ["targets", "role"])
def test_targets_of_another_version_than_the_snapshot_says(client, repo, role):
    repo.delegate("targets", "role", ["*"])
    repo.bump("targets", "role")
    stale = repo.bytes_of(role)
    repo.bump("targets", "role")
    repo.answers[rf"3\.{role}"] = Answer(data=stale)
    assert client.download("nothing") == 1
    assert role not in client.versions()


@pytest.mark.parametrize("role", ["snapshot", "targets", "role"])
@pytest.mark.parametrize("wrong", ["hash", "length"])
def test_hash_and_length_where_the_metadata_states_them(client, repo, role, wrong):
    """Rightly signed and of the right version, but not the bytes that were meant when snapshot or timestamp were signed."""
    repo.hashes_in_meta = True
    repo.delegate("targets", "role", ["*"])
    repo.bump("targets", "role")
    meta = repo.timestamp.snapshot_meta if role == "snapshot" else repo.snapshot.meta[f"{role}.json"]
    if wrong == "hash":
        meta.hashes = {"sha256": "00" * 32}
    else:
        meta.length = (meta.length or 0) - 1
    if role != "snapshot":
        repo.bump_timestamp()
    assert client.download("nothing") == 1
    assert role not in client.versions()


def test_right_hashes_are_taken(client, repo):
    repo.hashes_in_meta = True
    repo.delegate("targets", "role", ["*"])
    repo.add_file("role", "a", b"x")
    repo.bump("targets", "role")
    assert client.download("a") == 0


def test_a_local_snapshot_with_another_hash_is_still_a_floor(client, repo):
    """Its hash in the new timestamp differs (the snapshot was signed again under its number): versions in it still hold."""
    repo.hashes_in_meta = True
    repo.bump("targets")
    assert client.refresh() == 0
    repo.targets.version = 1
    repo.bump()
    assert client.refresh() == 1
    assert client.versions()["targets"] == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_is_torn_on_the_disk_is_fetched_again(client, repo, role):
    assert client.refresh() == 0
    good = client.bytes_of(role)
    (client.metadata / f"{role}.json").write_bytes(good[: len(good) // 2])
    assert client.refresh() == 0
    assert client.bytes_of(role) == good


# -- delegations --------------------------------------------------------------------------------------------------------


def graph(*edges: tuple[str, str, list[str], bool]) -> SimulatedRepository:
    repo = SimulatedRepository()
    for parent, name, paths, terminating in edges:
        repo.delegate(parent, name, paths, terminating=terminating)
    repo.bump("targets", *repo.delegated)
    return repo


GRAPHS = {
    "none": ([], []),
    "no path fits": ([("targets", "a", ["other"], False)], []),
    "before those behind": ([("targets", "a", ["*"], False), ("targets", "b", ["*"], False)], ["a", "b"]),
    "depth first": (
        [("targets", "a", ["*"], False), ("targets", "b", ["*"], False), ("a", "c", ["*"], False), ("b", "d", ["*"], False)],
        ["a", "c", "b", "d"],
    ),
    "terminating ends the siblings": ([("targets", "a", ["*"], True), ("targets", "b", ["*"], False)], ["a"]),
    "terminating goes on below": (
        [("targets", "a", ["*"], True), ("targets", "b", ["*"], False), ("a", "c", ["*"], False)], ["a", "c"],
    ),
    "terminating whose path does not fit": ([("targets", "a", ["other"], True), ("targets", "b", ["*"], False)], ["b"]),
    "terminating deep down ends all": (
        [("targets", "a", ["*"], False), ("targets", "b", ["*"], False), ("a", "c", ["*"], True), ("a", "d", ["*"], False)],
        ["a", "c"],
    ),
    "diamond": (
        [("targets", "a", ["*"], False), ("targets", "b", ["*"], False), ("a", "c", ["*"], False), ("b", "c", ["*"], False)],
        ["a", "c", "b"],
    ),
    "circle": ([("targets", "a", ["*"], False), ("a", "b", ["*"], False), ("b", "a", ["*"], False)], ["a", "b"]),
    "only the fitting branch": (
        [("targets", "a", ["x/*"], False), ("targets", "b", ["d/*"], False), ("b", "c", ["d/?"], False)], ["b", "c"],
    ),
    "a star ends at a slash": ([("targets", "a", ["*"], False), ("targets", "b", ["*/*"], False)], ["b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(GRAPHS))
def test_the_order_in_which_roles_are_asked(make_client, name):
    """Only what must be seen is asked for, in the order of trust."""
    edges, visited = GRAPHS[name]
    slashed = name in ("a star ends at a slash", "only the fitting branch")
    client = make_client(graph(*edges))
    assert client.refresh() == 0
    assert set(client.versions()) == {"root", "timestamp", "snapshot", "targets"}
    assert client.download("d/f" if slashed else "f") == 1
    asked = [role for role, _ in client.repository.metadata_requests if role not in ("root", "timestamp")]
    assert asked == visited


@pytest.mark.parametrize(("bits", "path"), [(1, "bar"), (2, "foo"), (2, "doo"), (8, "d/bar")])
def test_hash_bins_lead_to_one_role(make_client, bits, path):
    """Succinct roles (TAP 15): of all bins only that of the path's hash is asked for."""
    repo = SimulatedRepository()
    bins = SuccinctRoles([], 1, bits, "bin")
    repo.targets.delegations = Delegations({}, None, bins)
    signer = repo.add_key("targets")
    repo.targets.add_key(signer.public_key)
    for name in bins.get_roles():
        repo.delegated[name] = Targets(expires=repo.expires)
        repo.signers[name] = {signer.public_key.keyid: signer}
    wanted = bins.get_role_for_target(path)
    repo.add_file(wanted, path, b"binned")
    repo.publish_root()
    repo.bump(wanted)
    client = make_client(repo)
    assert client.download(path) == 0
    assert [role for role, _ in repo.metadata_requests if role.startswith("bin-")] == [wanted]
    assert list(client.files().values()) == [b"binned"]


def test_the_first_role_that_lists_a_target_decides(make_client):
    repo = graph(("targets", "a", ["*"], False), ("targets", "b", ["*"], False))
    repo.add_file("b", "f", b"of b")
    repo.add_file("a", "f", b"of a")
    repo.bump("a", "b")
    client = make_client(repo)
    assert client.download("f") == 0
    assert client.files() == {"f": b"of a"}
    assert "b" not in client.versions()


def test_a_terminating_role_hides_what_others_list(make_client):
    repo = graph(("targets", "a", ["*"], True), ("targets", "b", ["*"], False))
    repo.add_file("b", "f", b"of b")
    repo.bump("b")
    client = make_client(repo)
    assert client.download("f") == 1
    assert client.files() == {}


def test_a_target_outside_of_the_delegated_paths(make_client):
    """The role lists it, but nobody let it."""
    repo = graph(("targets", "a", ["a/*"], False))
    repo.add_file("a", "b/f", b"x")
    repo.bump("a")
    assert make_client(repo).download("b/f") == 1


def test_more_than_32_roles_are_not_visited(make_client):
    """A chain that never ends: after top-level targets and 32 more it is enough."""
    names = [f"r{n}" for n in range(40)]
    repo = graph(*[(parent, name, ["*"], False) for parent, name in zip(["targets", *names], names, strict=False)])
    repo.add_file("r39", "f", b"x")
    repo.add_file("r31", "g", b"y")
    repo.bump("r39", "r31")
    client = make_client(repo)
    assert client.download("f") == 1
    assert [role for role, _ in client.repository.metadata_requests if role.startswith("r") and role != "root"] == names[:32]
    assert client.download("g") == 0


def test_a_role_that_is_delegated_and_not_in_the_snapshot(make_client):
    repo = graph(("targets", "a", ["*"], False))
    del repo.snapshot.meta["a.json"]
    assert make_client(repo).download("f") == 1


def test_a_delegated_role_signed_by_a_stranger(make_client):
    repo = graph(("targets", "a", ["*"], False))
    repo.add_file("a", "f", b"x")
    repo.bump("a")
    repo.signers["a"] = repo.signers["targets"]
    client = make_client(repo)
    assert client.refresh() == 0
    assert client.download("f") == 1
    assert "a" not in client.versions()


def test_a_cached_role_is_verified_against_the_delegator_of_today(make_client):
    """The release key was stolen and revoked: what it signed and we kept must be signed anew by the new one."""
    repo = graph(("targets", "a", ["*"], False))
    repo.add_file("a", "f", b"x")
    repo.bump("a")
    client = make_client(repo)
    assert client.download("f") == 0
    for keyid in list(repo.signers["a"]):
        repo.targets.revoke_key(keyid, "a")
    old = repo.signers.pop("a")
    repo.add_key("a", repo.targets)
    new = repo.signers["a"]
    repo.signers["a"] = old
    repo.bump("targets")
    assert client.download("f") == 1  # kept and served: both signed by the key of yesterday
    repo.signers["a"] = new
    assert client.download("f") == 0


def test_a_role_reached_by_two_ways_must_be_signed_for_both(make_client):
    """a and b both delegate to c, with different keys: that c satisfies a says nothing for b."""
    repo = graph(
        ("targets", "a", ["x"], False), ("targets", "b", ["y"], False), ("a", "c", ["x"], False), ("b", "c", ["y"], False),
    )  # fmt: skip
    for path in ("x", "y"):
        repo.add_file("c", path, path.encode())
    repo.bump("c")
    client = make_client(repo)
    assert client.download("x", "y") == 0
    for keyid in list(repo.delegated["b"].delegations.roles["c"].keyids):
        repo.delegated["b"].revoke_key(keyid, "c")
    stranger = SimulatedRepository().add_key("targets")
    repo.delegated["b"].add_key(stranger.public_key, "c")
    repo.bump("b")
    assert client.download("x") == 0
    (client.artifacts / "y").unlink()
    assert client.download("x", "y") == 1
    assert set(client.files()) == {"x"}


@pytest.mark.parametrize(
    "name", ["?", "#", "/delegatedrole", "../delegatedrole", "with space", "100%", "ünicode", "timestamp.json"]
)
def test_names_of_roles_are_quoted(make_client, name):
    """On the line and on the disk: one file in D, and none beside it."""
    repo = graph(("targets", name, ["*"], False))
    repo.add_file(name, "f", b"x")
    repo.bump(name)
    client = make_client(repo)
    assert client.download("f") == 0
    assert repo.metadata_requests[-1] == (name, 3)
    assert client.versions()[name] == 3
    assert {path.name for path in client.metadata.parent.iterdir()} == {"metadata", "artifacts", "initial_root.json"}


def test_a_role_may_be_new_in_the_next_snapshot(make_client):
    repo = SimulatedRepository()
    client = make_client(repo)
    assert client.refresh() == 0
    repo.delegate("targets", "late", ["*"])
    repo.add_file("late", "f", b"x")
    repo.bump("targets", "late")
    repo.snapshot.meta["unused.json"] = MetaFile(3)
    assert client.download("f") == 0
    assert client.versions()["late"] == 2
