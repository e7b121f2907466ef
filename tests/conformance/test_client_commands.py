"""The three commands of the contract: what they ask for, what they leave in D and T, and how they end."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tuf_repository import Answer

HERE = Path(__file__).parent
FRESH = [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
NO_NEWS = [("root", 2), ("timestamp", None)]


def test_a_fresh_client_asks_for_each_role_once_and_keeps_what_was_served(client, repo):
    """The exact requests and the exact bytes: own renderings of metadata would prove nothing."""
    assert client.refresh() == 0
    assert repo.metadata_requests == FRESH
    assert client.versions() == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
    assert client.bytes_of("root") == repo.roots[0]
    for role in ("timestamp", "snapshot", "targets"):
        assert client.bytes_of(role) == repo.bytes_of(role)


def test_when_nothing_changed_two_files_are_asked_for(client, repo):
    assert client.refresh() == 0
    assert client.refresh() == 0
    assert repo.metadata_requests == NO_NEWS


def test_a_new_timestamp_alone_brings_nothing_else(client, repo):
    assert client.refresh() == 0
    repo.bump_timestamp()
    assert client.refresh() == 0
    assert repo.metadata_requests == NO_NEWS
    assert client.versions()["timestamp"] == 2


def test_a_new_snapshot_brings_only_the_roles_that_changed(client, repo):
    assert client.refresh() == 0
    repo.bump()
    assert client.refresh() == 0
    assert repo.metadata_requests == [*NO_NEWS, ("snapshot", 2)]
    repo.bump("targets")
    assert client.refresh() == 0
    assert repo.metadata_requests == [*NO_NEWS, ("snapshot", 3), ("targets", 2)]


def test_init_needs_no_network_and_judges_what_it_is_given(make_client, repo):
    client = make_client(initialised=False)
    client.url = "http://127.0.0.1:9"
    assert client.init() == 0
    assert client.versions() == {"root": 1}
    assert client.repository.metadata_requests == []
    for broken in (
        b"",
        b"{}",
        b"[" * 100_000,
        repo.bytes_of("timestamp"),
        client.repository.roots[0].replace(b'"version":1', b'"version":9'),
    ):
        other = make_client(initialised=False)
        assert other.init(broken) == 1
        assert other.versions() == {}


def test_init_with_a_file_that_is_not_there(client):
    assert client.run("--metadata-dir", client.metadata, "init", client.metadata / "nothing") == 1


def test_refresh_before_init_and_wrong_command_lines_end_with_one(make_client, capsys):
    client = make_client(initialised=False)
    assert client.refresh() == 1
    assert client.run("--metadata-dir", client.metadata, "refresh") == 1
    assert client.run("refresh") == 1
    assert client.run("--metadata-dir", client.metadata, "burn") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_dead_server_and_an_answer_that_breaks_off(client, repo):
    repo.answers["timestamp"] = Answer(data=repo.bytes_of("timestamp"), cut_at_bytes=20)
    assert client.refresh() == 1
    assert client.versions() == {"root": 1}
    client.url = "http://127.0.0.1:9"
    assert client.refresh() == 1


def test_the_root_in_the_folder_is_no_anchor(client, repo, make_client):
    """Somebody writes his own root.json into D: the one that init was given still decides."""
    foreign = make_client().repository
    (client.metadata / "root.json").unlink()
    (client.metadata / "root.json").write_bytes(foreign.roots[0])
    assert client.refresh() == 0
    assert client.bytes_of("root") == repo.roots[0]


# -- artifacts ----------------------------------------------------------------------------------------------------------


def test_an_artifact_comes_under_its_hash_and_lies_under_its_quoted_name(client, repo):
    repo.add_file("targets", "models/yard v2%.tflite", b"first")
    repo.bump("targets")
    assert client.download("models/yard v2%.tflite") == 0
    assert client.files() == {"models%2Fyard%20v2%25.tflite": b"first"}
    ((path, prefix),) = repo.artifact_requests
    assert path == "models/yard v2%.tflite"
    assert len(prefix or "") == 64


def test_what_is_there_with_the_right_hash_is_not_asked_for_again(client, repo):
    repo.add_file("targets", "a", b"content")
    repo.bump("targets")
    assert client.download("a") == 0
    assert client.download("a") == 0
    assert repo.artifact_requests == []
    assert repo.metadata_requests == NO_NEWS


@pytest.mark.parametrize("hashes", [("sha512",), ("sha256", "sha512")], ids="+".join)
def test_an_artifact_of_a_repository_that_signs_sha512(client, repo, hashes):
    """Ours bear sha256; the contract knows others. Fetched once under either hash, judged by it, and not fetched again."""
    for name, content in (("d/a", b"content"), ("empty", b"")):
        repo.add_file("targets", name, content, hashes)
    repo.bump("targets")
    assert client.download("d/a", "empty") == 0
    assert client.files() == {"d%2Fa": b"content", "empty": b""}
    assert repo.artifact_requests[0] in [("d/a", digest) for digest in repo.targets.targets["d/a"].hashes.values()]
    assert client.download("d/a", "empty") == 0
    assert repo.artifact_requests == []
    (client.artifacts / "d%2Fa").write_bytes(b"tampere")
    repo.answers["/targets/"] = Answer(data=b"contenX")
    assert client.download("d/a") == 1
    assert len(repo.artifact_requests) == 1
    assert client.files() == {"d%2Fa": b"tampere", "empty": b""}
    del repo.answers["/targets/"]
    assert client.download("d/a") == 0
    assert client.files() == {"d%2Fa": b"content", "empty": b""}


def test_an_artifact_whose_hash_nobody_knows_is_refused(client, repo):
    repo.add_file("targets", "a", b"content", ("sha512",))
    hashes = repo.targets.targets["a"].hashes
    hashes["blake9"] = hashes.pop("sha512")
    repo.bump("targets")
    assert client.download("a") == 1
    assert client.files() == {}


def test_new_content_of_the_same_target_has_the_same_file_name(client, repo):
    repo.add_file("targets", "a/b", b"old")
    repo.bump("targets")
    assert client.download("a/b") == 0
    repo.add_file("targets", "a/b", b"new, and longer")
    repo.bump("targets")
    assert client.download("a/b") == 0
    assert client.files() == {"a%2Fb": b"new, and longer"}


def test_a_file_that_was_changed_on_the_disk_is_fetched_again(client, repo):
    repo.add_file("targets", "a", b"content")
    repo.bump("targets")
    assert client.download("a") == 0
    (client.artifacts / "a").write_bytes(b"tampere")
    assert client.download("a") == 0
    assert client.files() == {"a": b"content"}


ODD = [
    "../../escape",
    "/absolute",
    "sp ace",
    "hash#mark",
    "per%20cent",
    "plus+and&",
    "ünicode",
    "a" * 60,
    "..",
    "-dash",
    ".hidden",
    "x.part",
]


def test_odd_names_make_one_file_each_and_none_outside(client, repo, tmp_path):
    for index, name in enumerate(ODD):
        repo.add_file("targets", name, f"content {index}".encode())
    repo.bump("targets")
    served = [name for name in ODD if "#" not in name and "%" not in name and not name.startswith(("..", "/"))]
    for name in served:
        assert client.download(name) == 0, name
    assert len(client.files()) == len(served)
    for name in ODD:
        client.download(name)  # whatever an HTTP path makes of these: nothing lands outside T
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes().startswith(b"content")]
    assert written
    assert all(path.is_relative_to(client.artifacts) for path in written)


def test_several_artifacts_in_their_order_until_the_first_that_fails(client, repo):
    for name in ("one", "two", "four"):
        repo.add_file("targets", name, name.encode())
    repo.bump("targets")
    assert client.download("two", "one", "three", "four") == 1
    assert [path for path, _ in repo.artifact_requests] == ["two", "one"]
    assert set(client.files()) == {"one", "two"}


@pytest.mark.parametrize(
    "answer",
    [Answer(data=b"contenX"), Answer(data=b"content and more"), Answer(data=b"con"), Answer(404), Answer(500),
     Answer(data=b"content", cut_at_bytes=3), Answer(302, b"", {"Location": "/targets/elsewhere"})],
)  # fmt: skip
def test_a_wrong_artifact_leaves_what_was_there(client, repo, answer):
    """Changed, too long, too short, missing, broken off, sent elsewhere: one request, exit 1, and T as before."""
    repo.add_file("targets", "a", b"older")
    repo.bump("targets")
    assert client.download("a") == 0
    repo.add_file("targets", "a", b"content")
    repo.bump("targets")
    repo.answers["/targets/"] = answer
    assert client.download("a") == 1
    assert len(repo.artifact_requests) == 1
    assert client.files() == {"a": b"older"}


def test_without_consistent_snapshots_nothing_bears_version_or_hash(make_client):
    from tuf_repository import SimulatedRepository

    repo = SimulatedRepository(consistent_snapshot=False)
    repo.delegate("targets", "role", ["d/*"])
    repo.add_file("role", "d/a", b"content")
    repo.bump("targets", "role")
    client = make_client(repo)
    assert client.download("d/a") == 0
    assert repo.metadata_requests == [("root", 2), ("timestamp", None), ("snapshot", None), ("targets", None), ("role", None)]
    assert repo.artifact_requests == [("d/a", None)]
    assert client.files() == {"d%2Fa": b"content"}


# -- as a program -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [[str(HERE / "tuf_client")], [sys.executable, str(HERE / "tuf_client")]])
def test_the_program_itself(client, repo, start):
    """Started as the suite starts it: by itself, and by a Python."""
    repo.add_file("targets", "a", b"content")
    repo.bump("targets")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*words: str) -> int:
        command = [*start, "--metadata-dir", str(client.metadata), *words]
        return subprocess.run(command, env=environment, check=False, timeout=120).returncode

    root = client.metadata.parent / "initial_root.json"
    assert run("init", str(root)) == 0
    assert run("--metadata-url", f"{client.url}/metadata/", "refresh") == 0
    assert client.versions() == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}
    words = ["--target-base-url", f"{client.url}/targets/", "--target-dir", str(client.artifacts), "download"]
    assert run("--metadata-url", f"{client.url}/metadata/", "--target-name", "a", *words) == 0
    assert client.files() == {"a": b"content"}
    assert run("--metadata-url", f"{client.url}/metadata/", "--target-name", "b", *words) == 1


def test_the_reference_time_is_the_systems_clock(client, repo):
    """Under faketime, as the suite's expiry tests have it: the same metadata is fresh today and expired in 31 days."""
    faketime = shutil.which("faketime")
    if faketime is None:
        # The clock is an argument of ``main``; the program hands it time.time, which is all that faketime changes.
        client.later_s = 31 * 86_400.0
        assert client.refresh() == 1
        return
    words = [
        sys.executable,
        str(HERE / "tuf_client"),
        "--metadata-dir",
        str(client.metadata),
        "--metadata-url",
        f"{client.url}/metadata",
        "refresh",
    ]
    later = (repo.now + timedelta(days=31)).strftime("%Y-%m-%d %H:%M:%S")
    environment = {**os.environ, "TZ": "UTC"}
    assert subprocess.run([faketime, later, *words], env=environment, check=False, timeout=120).returncode == 1
    assert subprocess.run(words, check=False, timeout=120).returncode == 0
    earlier = (repo.now - timedelta(days=400)).strftime("%Y-%m-%d %H:%M:%S")
    assert subprocess.run([faketime, earlier, *words], env=environment, check=False, timeout=120).returncode == 0


@pytest.mark.timeout(1500)
def test_the_public_suite(suite):
    """All of the public suite, from its own checkout and environment, against the program."""
    own = (suite / ".venv/bin/python", suite.parent / "cv/bin/python")
    python = next((one for one in own if one.exists()), Path(sys.executable))
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "tuf_conformance", "--entrypoint", f"{sys.executable} {HERE / 'tuf_client'}"],
        cwd=suite, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
