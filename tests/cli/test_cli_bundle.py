"""``rookery bundle`` without a server: from a model file to a verified bundle, what boards get of it, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_server.cli import bundle_files, key_pin
from fleet_server.cli.main import main
from ota.bundle.model_signature import read_model_signature, sign_model, statement
from ota.bundle.reader_disk import open_bundle
from ota.bundle.tuf_types import Metadata
from ota.trust.keys_disk import load_signer

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ROOT / "models" / "rendered" / "releases"
FIXTURE = ROOT / "tests" / "fixtures" / "bundles" / "yard-1.rookery"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command in this process (a process each costs a second): exit code, standard output, standard error."""
    monkeypatch.setenv("ROOKERY_CONFIG", str(tmp_path / "settings" / "config.toml"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rookery", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err, said.err
        return int(str(code or 0)), said.out, said.err

    return run


# verify


def spoilt(folder: Path, at: int) -> Path:
    """A copy of the fixture with one bit flipped."""
    data = bytearray(FIXTURE.read_bytes())
    data[at] ^= 1
    (folder / "spoilt.rookery").write_bytes(data)
    shutil.copy(FIXTURE.with_name("root.json"), folder)
    return folder / "spoilt.rookery"


def test_the_fixture_is_verified_as_it_stands(call: Call) -> None:
    """Nothing given, nothing pinned: by root.json beside it; the fingerprint is printed for comparing."""
    code, out, err = call("bundle", "verify", FIXTURE)
    assert (code, "all content are right" in out) == (0, True), err
    code, out, _ = call("-o", "json", "bundle", "verify", FIXTURE)
    said = json.loads(out)
    assert (said["release"], said["model_signature"], said["root_from"]) == ("yard@1", True, str(FIXTURE.with_name("root.json")))
    code, out, _ = call("-o", "name", "key", "pin", FIXTURE.with_name("root.json"))
    assert (code, out.strip()) == (0, said["root_fingerprint"])


@pytest.mark.parametrize("at", [3, 40, 700, 3000, -30])
def test_one_flipped_bit_ends_with_exit_code_5(call: Call, tmp_path: Path, at: int) -> None:
    code, out, err = call("bundle", "verify", spoilt(tmp_path, at))
    assert (code, out) == (5, "")
    assert "is refused (" in err or "not a bundle" in err, err


def test_an_expired_bundle_has_its_own_message(call: Call) -> None:
    """In 2121 as in 1: what was right is said, and how to look at what was right then."""
    code, _, err = call("bundle", "verify", FIXTURE, "--at", "2121-01-01")
    assert (code, "has expired (expired)" in err, "signatures and content are right" in err) == (5, True, True), err
    assert call("bundle", "verify", FIXTURE, "--at", "2119-12-31T23:59:59Z")[0] == 0
    assert call("bundle", "verify", FIXTURE, "--at", "1700000000")[0] == 0
    for odd in ("next week", "nan", "inf", "-5", "1e30", ""):
        code, _, err = call("bundle", "verify", FIXTURE, "--at", odd)
        assert (code, "unexpected" in err) == (2, False), err


def foreign_root(folder: Path) -> Path:
    """A root by other keys, well signed."""
    from ota.trust import roles
    from ota.trust.keys_disk import generate_key

    generate_key(folder / "foreign.pem", None)
    signer = load_signer(folder / "foreign.pem", None)
    keys = {role: [signer.public_key] for role in ("root", "targets", "snapshot", "timestamp")}
    root = roles.new_root(keys, {}, 4_000_000_000.0)
    roles.sign(root, signer)
    (folder / "foreign.json").write_bytes(root.to_bytes())
    return folder / "foreign.json"


def test_which_root_judges(call: Call, tmp_path: Path) -> None:
    """--root before the pinned one, the pinned one before root.json beside; one inside a bundle never."""
    copy = Path(shutil.copy(FIXTURE, tmp_path))
    code, _, err = call("bundle", "verify", copy)
    assert (code, "rookery key pin" in err) == (1, True), err  # none beside it: the one inside is not taken
    shutil.copy(FIXTURE.with_name("root.json"), tmp_path)
    assert call("bundle", "verify", copy)[0] == 0
    foreign = foreign_root(tmp_path)
    code, _, err = call("bundle", "verify", copy, "--root", foreign)
    assert (code, "refused (signature)" in err) == (5, True), err
    assert call("key", "pin", foreign)[0] == 0
    assert key_pin.pinned_root() == foreign.read_bytes()
    code, _, err = call("bundle", "verify", copy)
    assert (code, "refused (signature)" in err) == (5, True), err  # pinned: what lies beside it decides nothing
    assert call("bundle", "verify", copy, "--root", tmp_path / "root.json")[0] == 0
    (tmp_path / "foreign.json").write_bytes(b"hello")
    code, _, err = call("bundle", "verify", copy, "--root", foreign)
    assert (code, "the trusted root" in err) == (5, True), err


def test_a_model_signature_that_does_not_hold(call: Call, tmp_path: Path) -> None:
    """Rightly signed for the channel, but model.sig is by a stranger, or of other files: refused."""
    opened = open_bundle(FIXTURE)
    key = bundle_files.release_keys(opened)[0]
    read_model_signature(opened.read("model.sig"), [key])
    generated = tmp_path / "k.pem"
    from ota.trust.keys_disk import generate_key

    generate_key(generated, None)
    signer = load_signer(generated, None)
    files = {path: one.sha256 for path, one in opened.manifest.files.items() if path != "model.sig"}
    pem = str(signer.public_key.keyval["public"]).encode()
    for payload, keys, said in (
        (statement("yard-1", files), [key], "none of the keys"),
        (statement("yard-1", {"card.toml": files["card.toml"]}), [pem], "in the release but not signed"),
    ):
        data = sign_model(payload, lambda signed: bytes.fromhex(signer.sign(signed).signature), pem)

        class Changed(type(opened)):  # type: ignore[misc]
            def read(self, path: str, _data: bytes = data) -> bytes:
                return _data

        changed = Changed(opened.path, opened.manifest_bytes, opened.manifest, opened.entries)
        with pytest.raises(bundle_files.CliError, match=said):
            bundle_files.check_model_signature(changed, keys)


# from a model file to a bundle


def release(folder: Path, version: str = "1", **changes: str) -> Path:
    """A folder with the yard's little models and a spec."""
    folder.mkdir(parents=True)
    for name in ("model_int8.tflite", "card.toml"):
        shutil.copy(RELEASES / "yard-1" / name, folder)
    keys = {"name": '"yard"', "version": f'"{version}"', "channel": '"stable"', "counter": version, "hardware": '["*"]',
            "created_s": "1700000000", **changes}  # fmt: skip
    lines = [f"{key} = {value}" for key, value in keys.items()]
    variant = ['[[variant]]', 'id = "cpu-int8"', 'accelerator = "cpu"', 'model = "model_int8.tflite"', 'card = "card.toml"']
    (folder / "bundle.toml").write_text("\n".join([*lines, *variant]) + "\n")
    return folder


def test_init_writes_a_folder_that_builds(call: Call, tmp_path: Path) -> None:
    """A model file and its card become a commented folder; build takes it as it stands; a second init spoils nothing."""
    yard = RELEASES / "yard-1"
    code, out, err = call("bundle", "init", "new", "--model", yard / "model_int8.tflite", "--card", yard / "card.toml")
    assert (code, "points" in out) == (0, True), err
    text = (tmp_path / "new" / "bundle.toml").read_text()
    assert 'name = "model_int8"' in text
    assert "# Variants in order of preference" in text
    assert call("bundle", "build", "new")[0] == 0
    assert open_bundle(tmp_path / "model_int8-1.rookery").manifest.labels == ["person", "cart", "animal"]
    code, _, err = call("bundle", "init", "new", "--model", yard / "model_int8.tflite")
    assert (code, "is there already" in err) == (5, True), err
    code, _, err = call("bundle", "init", "other", "--model", yard / "model_int8.tflite")
    assert (code, "--card" in err, (tmp_path / "other").exists()) == (5, True, False), err


def test_the_same_folder_gives_the_same_bytes_packed(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, from other folders, under another time zone and locale: one sha256; smaller than its files; --plain as before."""
    release(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")
    one = json.loads(call("-o", "json", "bundle", "build", "a", "--out", "a.rookery")[1])
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    two = json.loads(call("-o", "json", "bundle", "build", "b/c", "--out", "b.rookery")[1])
    assert one["sha256"] == two["sha256"]
    assert one["travelling_bytes"] < 0.9 * one["length_bytes"]
    manifest = open_bundle(tmp_path / "a.rookery").manifest
    assert (manifest.v, manifest.provenance["packed_by"].startswith("zstd ")) == (2, True)
    assert call("bundle", "build", "a", "--plain", "--out", "plain.rookery")[0] == 0
    plain = open_bundle(tmp_path / "plain.rookery").manifest
    assert (plain.v, [entry.packed for entry in plain.files.values()]) == (1, [None, None])


def test_deltas_are_listed_where_they_save(call: Call, tmp_path: Path) -> None:
    """A release whose model changed in a few bytes: a patch from the old one; diff says what each board fetches."""
    release(tmp_path / "one")
    two = release(tmp_path / "two", "2", min_counter="1")
    model = bytearray((two / "model_int8.tflite").read_bytes())
    model[90_000:90_004] = bytes(one ^ 1 for one in model[90_000:90_004])  # among the weights
    (two / "model_int8.tflite").write_bytes(model)
    card = (two / "card.toml").read_text()
    (two / "card.toml").write_text(card.replace("score = 0.5", "score = 0.4"))
    assert call("bundle", "build", "one")[0] == 0
    code, out, err = call("bundle", "build", "two", "--delta-from", "yard-1.rookery")
    assert code == 0, err
    opened = open_bundle(tmp_path / "yard-2.rookery")
    old = open_bundle(tmp_path / "yard-1.rookery").manifest
    deltas = opened.manifest.files["model_int8.tflite"].deltas
    assert [one.base_sha256 for one in deltas] == [old.files["model_int8.tflite"].sha256]
    assert deltas[0].length_bytes < 2000
    assert opened.has_deltas
    code, out, err = call("-o", "json", "bundle", "diff", "yard-1.rookery", "yard-2.rookery")
    rows = {row["what"]: (row["old"], row["new"]) for row in json.loads(out)["items"]}
    assert (rows["release"], rows["floor"]) == (("yard@1", "yard@2"), (0, 1))
    assert rows["cpu-int8 thresholds.score"] == ("0.5", "0.4")
    assert "file model_int8.tflite" in rows
    full, with_old = (int(text.split()[0]) for text in rows["fetch cpu-int8"])
    assert with_old < 3000 < full


def test_golden_writes_parity_samples_beside_the_pictures(call: Call, tmp_path: Path) -> None:
    """By the float model, by the release itself; a build then takes the file, and refuses it when the pictures changed."""
    folder = release(tmp_path / "one", golden='{pictures = "golden"}')
    (folder / "golden").mkdir()
    shutil.copy(ROOT / "models" / "rendered" / "acceptance" / "01_day.jpg", folder / "golden")
    code, out, err = call("-o", "json", "bundle", "golden", "one")
    own = json.loads(out)
    assert (code, own["reference"], "against itself" in err) == (0, "self", True), err
    assert 0.05 <= own["tolerance_score"] <= 0.15
    assert 0.7 <= own["tolerance_iou"] <= 0.9
    code, out, err = call("-o", "json", "bundle", "golden", "one", "--reference", RELEASES / "yard-1" / "model_float32.tflite")
    assert (code, json.loads(out)["reference"]) == (0, "float32"), err
    kept = (folder / "golden" / "parity.json").read_bytes()
    assert call("bundle", "build", "one")[0] == 0
    assert open_bundle(tmp_path / "yard-1.rookery").read("golden/parity.json") == kept
    shutil.copy(ROOT / "models" / "rendered" / "acceptance" / "01_day.jpg", folder / "golden" / "two.jpg")
    code, _, err = call("bundle", "build", "one")
    assert (code, "of other pictures" in err) == (5, True), err


def test_provenance_is_listed_and_shown(call: Call, tmp_path: Path) -> None:
    """A SLSA statement travels as a file and is shown in words; what is no statement is refused."""
    folder = release(tmp_path / "one", provenance_statement='"slsa.json"')
    said = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "predicate": {
        "buildDefinition": {"resolvedDependencies": [{"uri": "git+https://example.org/train@1234"}]},
        "runDetails": {"builder": {"id": "https://example.org/builder"}},
    }}  # fmt: skip
    (folder / "slsa.json").write_text(json.dumps(said))
    assert call("bundle", "build", "one")[0] == 0
    code, out, _ = call("bundle", "info", "yard-1.rookery")
    assert (code, "built by https://example.org/builder; of git+https://example.org/train@1234" in out) == (0, True)
    (folder / "slsa.json").write_text("[]")
    code, _, err = call("bundle", "build", "one")
    assert (code, "not an in-toto statement" in err) == (5, True), err


def test_info_explains_every_variant(call: Call, tmp_path: Path) -> None:
    """For a profile, and for facts as a board tells them: which variant and why, or why none."""
    code, out, err = call("bundle", "info", FIXTURE, "--for", "rpi-5")
    assert (code, "none: no variant fits: edgetpu: no Edge TPU on this board" in out) == (0, True), err
    facts = {"profile": "rpi-4", "board_model": "x", "machine": "aarch64", "memory_bytes": 10**9, "python": "3.11",
             "agent_version": "1", "runtimes": {"litert": "2"},
             "accelerators": [{"kind": "edgetpu-usb", "present": True, "usable": True}]}  # fmt: skip
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    code, out, _ = call("-o", "json", "bundle", "info", FIXTURE, "--for", "facts.json")
    said = json.loads(out)["for"]
    assert (code, said["variant"]) == (0, "edgetpu")
    assert said["variants"] == [
        {"variant": "edgetpu", "fits": True, "chosen": True, "words": "chosen: the first that fits"}
    ]
    (tmp_path / "facts.json").write_text("{}")
    code, _, err = call("bundle", "info", FIXTURE, "--for", "facts.json")
    assert (code, "no facts of a board" in err) == (5, True), err


def test_export_drops_deltas_and_never_keeps_a_bad_file(call: Call, tmp_path: Path) -> None:
    """One file for the stick, verified before it bears its name; a spoilt source leaves nothing."""
    code, out, err = call("bundle", "export", FIXTURE, "--out", "stick.rookery")
    assert (code, "2120" in out) == (0, True), err
    assert (tmp_path / "stick.rookery").read_bytes() == FIXTURE.read_bytes()
    code, _, err = call("bundle", "export", spoilt(tmp_path, 1500), "--out", "bad.rookery")
    assert code == 5, err
    code, _, err = call("bundle", "export", FIXTURE, "--out", "late.rookery", "--at", "2121-01-01")
    assert (code, "expired" in err) == (5, True), err
    assert [one.name for one in tmp_path.iterdir() if "bad" in one.name or "late" in one.name] == []


def test_an_agent_release_is_built_of_wheels(call: Call, tmp_path: Path) -> None:
    """kind = agent: wheels by ABI and machine, with their lock; labels and models have no place in it."""
    folder = tmp_path / "agent"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "rookery-1.0-py3-none-any.whl").write_bytes(b"PK" + bytes(500))
    head = 'kind = "agent"\nname = "agent"\nversion = "1"\nchannel = "stable"\ncounter = 1\nhardware = ["*"]\ncreated_s = 17\n'
    variant = '[[variant]]\nid = "cp311-aarch64"\nabi = "cp311"\nmachines = ["aarch64"]\nwheels = "wheels"\n'
    (folder / "bundle.toml").write_text(head + variant)
    code, _, err = call("bundle", "build", "agent")
    assert code == 0, err
    manifest = open_bundle(tmp_path / "agent-1.rookery").manifest
    assert (manifest.kind, manifest.variants[0].abi, manifest.labels) == ("agent", "cp311", [])
    assert sorted(manifest.files) == ["cp311-aarch64/lock.json", "cp311-aarch64/wheels/rookery-1.0-py3-none-any.whl"]
    (folder / "bundle.toml").write_text(head + variant + 'model = "x.tflite"\n')
    code, _, err = call("bundle", "build", "agent")
    assert (code, "unknown key 'model'" in err) == (5, True), err


def test_old_and_new_metadata_of_a_channel_go_on_the_stick(call: Call, tmp_path: Path) -> None:
    """--metadata takes a channel's newer version; one that nobody signed is refused."""
    channel = Metadata.from_bytes(open_bundle(FIXTURE).metadata()["stable.json"])
    channel.signed.version += 1
    (tmp_path / "stable.json").write_bytes(channel.to_bytes())
    code, _, err = call("bundle", "export", FIXTURE, "--out", "stick.rookery", "--metadata", "stable.json")
    assert (code, "refused (signature)" in err) == (5, True), err

