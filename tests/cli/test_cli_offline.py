"""Release work on a machine without a network: the first release of a channel, ends that are told, files that are none."""

import json
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ota.bundle.reader_disk import open_bundle
from ota.plain_disk import DOCUMENT_BYTES
from tests.fakes.key_people import Desk

ROOT = Path(__file__).resolve().parents[2]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
FIXTURE = ROOT / "tests" / "fixtures" / "bundles" / "yard-1.rookery"
SPEC = """
name = "yard"
version = "1"
channel = "stable"
counter = 1
hardware = ["*"]
created_s = 1700000000
[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A signer's table far from any server: root and channel made, a bundle built, nothing released."""
    made = Desk(tmp_path)
    for name in ("Ada", "Rita", "Sven"):
        made.person(name)
    made.online()
    made.ok("key", "create", "trust", "--threshold", 1, "--root-key", "ada.pem.pub", "--channel", "stable=rita.pem.pub",
            "--online", "online.json")  # fmt: skip
    made.ok("key", "sign", "--yes", "trust", "--key", "ada.pem")
    (tmp_path / "yard-1").mkdir()
    for name in ("model_int8.tflite", "card.toml"):
        shutil.copy(YARD / name, tmp_path / "yard-1")
    (tmp_path / "yard-1" / "bundle.toml").write_text(SPEC)
    made.ok("bundle", "build", "yard-1")
    return made


def test_the_first_release_of_a_channel_is_signed_without_a_server(desk: Desk) -> None:
    """Nothing was ever published, so there is no metadata to carry over: --first begins version 1, and is for nothing else."""
    said = desk("bundle", "sign", "yard-1.rookery", "--key", "rita.pem")
    assert (said.code, "--first" in said.err) == (4, True), said.err  # no server is known; the hint knows the way
    said = desk("bundle", "sign", "yard-1.rookery", "--key", "rita.pem", "--first", "--metadata", "stable.json")
    assert (said.code, "--first or --metadata" in said.err) == (2, True), said.err
    said = desk("bundle", "sign", "yard-1.rookery", "--key", "sven.pem", "--first")
    assert (said.code, "not a release key of channel stable" in said.err) == (5, True), said.err
    said = desk.ok("bundle", "sign", "yard-1.rookery", "--key", "rita.pem", "--first")
    assert "yard@1 on stable, version 1 of the channel" in said.err
    desk.ok("bundle", "verify", "yard-1.rookery", "--root", "trust/root.json")
    assert json.loads(open_bundle(desk.folder / "yard-1.rookery").metadata()["stable.json"])["signed"]["version"] == 1


def test_all_that_ended_is_named_and_what_ended_first_comes_first(desk: Desk) -> None:
    """A channel lives for two months, targets for nine, a root for twelve; a year alone is no instant."""
    desk.ok("bundle", "sign", "yard-1.rookery", "--key", "rita.pem", "--first")
    said = desk("bundle", "verify", "yard-1.rookery", "--root", "trust/root.json", "--at", "2100")
    assert (said.code, "2100-01-01" in said.err) == (2, True), said.err
    said = desk("bundle", "verify", "yard-1.rookery", "--root", "trust/root.json", "--at", "2100-01-01")
    assert (said.code, "has expired (expired)" in said.err) == (5, True), said.err
    places = [said.err.index(f"{role}: expired 2") for role in ("stable", "targets", "root")]
    assert places == sorted(places), said.err


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A verb that reads a file without end fails here, instead of taking the machine with it."""
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 512 * 1024 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def no_documents(folder: Path) -> dict[str, tuple[Path, str]]:
    """What is none, and the words for it."""
    os.mkfifo(folder / "fifo")
    with (folder / "large").open("wb") as file:
        file.truncate(DOCUMENT_BYTES + 1)
    return {
        "zero": (Path("/dev/zero"), "it is not a plain file"),
        "fifo": (folder / "fifo", "it is not a plain file"),
        "large": (folder / "large", "it has more than "),
        "long": (folder / ("n" * 300), "name too long"),
    }


VERBS = {
    "root": ("bundle", "verify", FIXTURE, "--root", "{}"),
    "bundle": ("bundle", "verify", "{}", "--root", "trust/root.json"),
    "import": ("bundle", "import", "{}", "--root", "trust/root.json"),
    "info": ("bundle", "info", "{}"),
    "diff": ("bundle", "diff", "{}", FIXTURE),
    "facts": ("bundle", "info", FIXTURE, "--for", "{}.json"),
    "channel": ("bundle", "sign", "yard-1.rookery", "--key", "rita.pem", "--metadata", "{}"),
    "newer": ("bundle", "export", FIXTURE, "--root", FIXTURE.with_name("root.json"), "--out", "out.rookery", "--metadata", "{}"),
    "upstream": ("bundle", "import", FIXTURE, "--root", FIXTURE.with_name("root.json"), "--upstream", "{}",
                 "--upstream-key", "ada.pem"),
    "card": ("bundle", "init", "new", "--model", YARD / "model_int8.tflite", "--card", "{}"),
    "labels": ("bundle", "init", "new", "--model", YARD / "model_int8.tflite", "--labels", "{}"),
    "model": ("bundle", "init", "new", "--model", "{}"),
    "key": ("bundle", "sign", "yard-1.rookery", "--key", "{}", "--first"),
    "policy": ("policy", "sign", "{}", "--key", "rita.pem"),
    "configuration": ("config", "set", "fleet", "{}"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("little_memory")
def test_what_is_no_document_is_a_sentence_at_every_verb(desk: Desk) -> None:
    """A device without an end, a FIFO that nobody writes to, a file of 16 MiB too much, a name that no disk takes."""
    wrong = []
    for kind, (path, words) in no_documents(desk.folder).items():
        for verb, arguments in VERBS.items():
            if kind == "large" and verb in ("bundle", "import", "info", "diff", "model"):
                continue  # those may be large; what is inside is judged
            if verb == "facts":
                if kind in ("zero", "long"):
                    continue
                (desk.folder / f"{kind}.json").unlink(missing_ok=True)
                (desk.folder / f"{kind}.json").symlink_to(path)
            said = desk(*[str(one).replace("{}", str(path)) for one in arguments], ROOKERY_SERVER="http://127.0.0.1:9")
            known = words.lower() in said.err.lower() or (verb == "key" and "not a PEM private key" in said.err)
            if said.code not in (1, 2, 5) or not known:
                wrong.append((verb, kind, said.code, said.err))
    assert wrong == []


def test_the_same_of_a_folder_that_may_not_be_entered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle in somebody else's folder: permission denied is a sentence, not a fault of ours. (Root may enter any folder:
    the refusal is the system call's, made to say no.)
    """
    closed = desk.folder / "closed" / "x.rookery"
    for name in ("open", "stat"):
        real = getattr(os, name)

        def refusing(path: object, *more: object, _real=real, **options: object) -> object:
            if str(path) == str(closed):
                raise PermissionError(13, "Permission denied", str(path))
            return _real(path, *more, **options)

        monkeypatch.setattr(os, name, refusing)
    for arguments in (("bundle", "verify", closed), ("bundle", "import", closed), ("bundle", "info", closed)):
        said = desk(*arguments)
        assert (said.code, f"cannot read {closed}: Permission denied" in said.err) == (1, True), said.err


def test_an_empty_file_is_refused_in_plain_words(desk: Desk) -> None:
    """Of the whole file the reason stands alone: no path of a field that people do not know."""
    (desk.folder / "zero.rookery").write_bytes(b"")
    said = desk("bundle", "verify", "zero.rookery", "--root", "trust/root.json")
    refusal = "zero.rookery is refused (format): zero.rookery is not a bundle: 0 bytes"
    assert (said.code, refusal in said.err) == (5, True), said.err
