"""A release from keys to rollout with the command line alone; and what is refused on the way."""

import hashlib
import json
import shutil
import stat
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleet_server.inventory import service as inventory
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import enrol

pytestmark = pytest.mark.timeout(300)

RENDERED = Path(__file__).resolve().parents[2] / "models" / "rendered"
SPEC = """
name = "yard"
version = "{version}"
channel = "stable"
counter = {counter}
hardware = ["*"]
created_s = 1700000000
{golden}
[[variant]]
id = "cpu-float32"
accelerator = "cpu"
model = "model_float32.tflite"
card = "card.toml"
profiles = ["rpi-5"]

[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
"""
GOLDEN = '[golden]\npictures = "golden"\nreference = "cpu-float32"\nacceptance = "acceptance"\n'


def release_folder(folder: Path, version: str, *, golden: str = "") -> Path:
    """A folder as a releaser has it: bundle.toml, models, card."""
    folder.mkdir()
    for name in ("model_float32.tflite", "model_int8.tflite", "card.toml"):
        shutil.copy(RENDERED / "releases" / "yard-1" / name, folder)
    (folder / "bundle.toml").write_text(SPEC.format(version=version, counter=int(version), golden=golden))
    return folder


def acceptance_folder(folder: Path) -> Path:
    """A labelled picture and its acceptance.json."""
    folder.mkdir(parents=True)
    picture = cv2.imencode(".png", np.full((240, 320, 3), 90, np.uint8))[1].tobytes()
    (folder / "one.png").write_bytes(picture)
    image = {"file": "one.png", "sha256": hashlib.sha256(picture).hexdigest(),
             "objects": [{"bbox": [10.0, 10.0, 20.0, 40.0], "label": "person"}]}  # fmt: skip
    (folder / "acceptance.json").write_text(json.dumps({"v": 1, "name": "set-1", "min_ap50": 0.1, "images": [image]}))
    return folder


@pytest.fixture(scope="module")
def trust(rookery, signed_in: OperatorSite, workplace: Path) -> Path:
    """Three root signers of whom two sign, and one release key; the root is in force on the server."""
    (workplace / "words").write_text("a passphrase of four words\n")
    for name in ("root-1", "root-2", "root-3"):
        assert rookery("key", "generate", f"{name}.pem", "--passphrase-file", "words").code == 0
    assert rookery("key", "generate", "stable.pem", "--no-passphrase").code == 0
    assert rookery("key", "generate", "stranger.pem", "--no-passphrase").code == 0
    assert stat.S_IMODE((workplace / "root-1.pem").stat().st_mode) == 0o600
    assert rookery("root", "online-keys", "online.json").code == 0
    keys = [part for name in ("root-1", "root-2", "root-3") for part in ("--root-key", f"{name}.pem.pub")]
    made = rookery("root", "create", "trust", *keys, "--channel", "stable=stable.pem.pub", "--online", "online.json")
    assert made.code == 0, made.err
    early = rookery("root", "push", "trust")
    assert early.code == 5, early.err
    first = rookery("root", "sign", "--yes", "trust", "--key", "root-1.pem", "--passphrase-file", "words")
    assert (first.code, "1 of 3" in first.err) == (0, True), first.err
    assert rookery("root", "sign", "--yes", "trust", "--key", "stranger.pem").code == 5
    phrase = "a passphrase of four words"
    assert rookery("root", "sign", "--yes", "trust", "--key", "root-3.pem", ROOKERY_PASSPHRASE=phrase).code == 0
    pushed = rookery("root", "push", "trust")
    assert (pushed.code, "root version 1 is in force" in pushed.err) == (0, True), pushed.err
    return workplace / "trust"


@pytest.fixture(scope="module")
def signed(rookery, trust: Path, workplace: Path) -> Path:
    """yard@1, built from our own models with parity and acceptance samples, signed."""
    acceptance = acceptance_folder(workplace / "acceptance")
    answer = rookery("channel", "acceptance", "stable", acceptance, "--key", "stable.pem")
    assert answer.code == 0, answer.err
    folder = release_folder(workplace / "yard-1", "1", golden=GOLDEN)
    shutil.copytree(acceptance, folder / "acceptance")
    (folder / "golden").mkdir()
    shutil.copy(RENDERED / "acceptance" / "01_day.jpg", folder / "golden")
    built = rookery("bundle", "build", folder)
    assert built.code == 0, built.err
    again = rookery("bundle", "build", folder, "--out", "again.rookery")
    assert (workplace / "again.rookery").read_bytes() == (workplace / "yard-1.rookery").read_bytes(), again.err
    done = rookery("bundle", "sign", "yard-1.rookery", "--key", "stable.pem")
    assert (done.code, "yard@1 on stable, version 2" in done.err) == (0, True), done.err
    return workplace / "yard-1.rookery"


def test_an_unsigned_bundle_goes_nowhere(rookery, trust: Path, workplace: Path) -> None:
    release_folder(workplace / "plain", "7")
    answer = rookery("bundle", "build", "plain")
    assert (answer.code, "parity only" in answer.err) == (0, True)
    assert rookery("bundle", "verify", "yard-7.rookery", "--root", trust / "root.json").code == 5
    pushed = rookery("bundle", "push", "yard-7.rookery")
    assert (pushed.code, "is not signed" in pushed.err) == (5, True)
    stranger = rookery("bundle", "sign", "yard-7.rookery", "--key", "stranger.pem")
    assert (stranger.code, "is not a release key of channel stable" in stranger.err) == (5, True)


def test_a_flipped_byte_is_found_before_it_travels(rookery, signed: Path, trust: Path, workplace: Path) -> None:
    """One bit of the model in the file: verify and push both refuse it, and say what is wrong."""
    data = bytearray(signed.read_bytes())
    at = len(data) // 2  # the packed models are by far the largest part
    data[at] ^= 1
    (workplace / "flipped.rookery").write_bytes(data)
    answer = rookery("bundle", "verify", "flipped.rookery", "--root", trust / "root.json")
    assert (answer.code, "refused (hash)" in answer.err) == (5, True), answer.err
    pushed = rookery("bundle", "push", "flipped.rookery")
    assert (pushed.code, "damaged" in pushed.err) == (5, True), pushed.err
    (workplace / "text.rookery").write_text("hello")
    for verb in ("verify", "info", "push"):
        arguments = ("--root", trust / "root.json") if verb == "verify" else ()
        assert rookery("bundle", verb, "text.rookery", *arguments).code == 5


def test_the_whole_way_of_a_release(rookery, signed: Path, trust: Path, signed_in: OperatorSite) -> None:
    """verify, push (twice: the second changes nothing), list, claim, rollout, status."""
    verified = rookery("bundle", "verify", signed, "--root", trust / "root.json")
    assert (verified.code, "all content are right" in verified.out) == (0, True), verified.err
    for _ in range(2):
        pushed = rookery("bundle", "push", signed)
        assert pushed.code == 0, pushed.err
    listed = json.loads(rookery("-o", "json", "bundle", "list").out)["items"]
    assert [(item["release"], item["parity_only"], item["yanked"]) for item in listed] == [("yard@1", False, False)]
    channels = json.loads(rookery("-o", "json", "channel", "list").out)["items"]
    assert [(one["name"], one["version"]) for one in channels] == [("stable", 2)]
    now_s = time.time()
    with signed_in.context.database.write() as session:
        device = enrol(signed_in.context, session, "gate", 1, now_s)
        inventory.record_seen(session, device, now_s)
    info = rookery("bundle", "info", signed, "--for", "gate")
    assert (info.code, "cpu-float32" in info.out) == (0, True), info.err
    made = rookery("-o", "name", "rollout", "create", "yard@1")
    assert made.code == 0, made.err
    status = rookery("rollout", "status", made.out.strip())
    assert (status.code, "gate" in status.out) == (0, True)


def test_a_captured_server_cannot_slip_its_release_under_the_releasers_signature(
    rookery, signed: Path, workplace: Path, trust: Path
) -> None:
    """The server hands out channel metadata with a target of the attacker's: nobody signs on top of that."""
    assert rookery("bundle", "push", signed).code == 0
    assert rookery("channel", "fetch", "stable", "--out", "stable.json").code == 0
    present = json.loads((workplace / "stable.json").read_text())
    present["signed"]["targets"]["stable/evil/1/manifest.json"] = {"hashes": {"sha256": "0" * 64}, "length": 10}
    (workplace / "evil.json").write_text(json.dumps(present))
    release_folder(workplace / "two", "2")
    assert rookery("bundle", "build", "two").code == 0
    answer = rookery("bundle", "sign", "yard-2.rookery", "--key", "stable.pem", "--metadata", "evil.json")
    assert (answer.code, "not built upon" in answer.err) == (5, True), answer.err
    assert rookery("bundle", "sign", "yard-2.rookery", "--key", "stable.pem", "--metadata", "stable.json").code == 0


@pytest.mark.parametrize(("text", "said"), [
    ('name = "yard"', "missing key 'version'"),
    (SPEC.format(version="1", counter=1, golden="colour = 'red'"), "unknown key 'colour'"),
    (SPEC.format(version="1", counter=1, golden="golden = 5"), "'golden' must be a table"),
    (SPEC.format(version="1", counter=1, golden="min_counter = 'x'"), "min_counter"),
    (SPEC.format(version="1", counter=1, golden="budget = {latency_ms = -1}"), "latency_ms"),
    (SPEC.format(version="../../x", counter=1, golden=""), "version"),
    (SPEC.format(version="1", counter=1, golden="").replace('"model_int8.tflite"', '"/etc/passwd"'), "passwd"),
    (SPEC.format(version="1", counter=1, golden="").replace('"model_int8.tflite"', '"none.tflite"'), "none.tflite"),
    (SPEC.format(version="1", counter=1, golden="").replace('"card.toml"', "7"), "'card' is missing or not text"),
    ("[[[", "cannot read"),
])  # fmt: skip
def test_a_wrong_bundle_toml_is_named(rookery, workplace: Path, tmp_path: Path, text: str, said: str) -> None:
    """What a person mistypes comes back as a sentence with the key, and leaves no file."""
    folder = release_folder(tmp_path / "folder", "1")
    (folder / "bundle.toml").write_text(text)
    answer = rookery("bundle", "build", folder, "--out", tmp_path / "out.rookery")
    assert answer.code in (1, 5), answer.err
    assert said in answer.err
    assert "unexpected" not in answer.err
    assert not (tmp_path / "out.rookery").exists()


def test_a_model_that_was_cut_in_half_is_not_packed(rookery, workplace: Path, tmp_path: Path) -> None:
    """A copy broke off: the bundle would be signed, sent and refused by every board. It is refused here."""
    folder = release_folder(tmp_path / "folder", "1")
    whole = (folder / "model_int8.tflite").read_bytes()
    (folder / "model_int8.tflite").write_bytes(whole[: len(whole) // 2])
    answer = rookery("bundle", "build", folder, "--out", tmp_path / "out.rookery")
    assert (answer.code, "cpu-int8" in answer.err) == (5, True), answer.err
    assert not (tmp_path / "out.rookery").exists()
