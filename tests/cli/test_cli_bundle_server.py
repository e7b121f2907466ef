"""``rookery bundle`` and a server: signed with a model signature, pushed with patches, carried on a stick, taken back."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_server.cli import bundle_transfer
from fleet_server.cli.client_http import Client
from fleet_server.cli.errors import FAILURE, CliError
from fleet_server.cli.main import main
from ota.bundle.model_signature import sign_model, statement
from ota.bundle.reader_disk import open_bundle
from ota.trust.keys_disk import load_signer
from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite

pytestmark = pytest.mark.timeout(300)

RELEASES = Path(__file__).resolve().parents[2] / "models" / "rendered" / "releases"
SPEC = """
name = "yard"
version = "{version}"
channel = "stable"
counter = {version}
hardware = ["*"]
created_s = 1700000000
[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workplace: Path) -> Call:
    """The command in this process (a process each costs a second): exit code, standard output, standard error."""
    monkeypatch.setenv("ROOKERY_CONFIG", str(workplace / "config.toml"))
    monkeypatch.chdir(workplace)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rookery", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert "unexpected" not in said.err, said.err
        return int(str(code or 0)), said.out, said.err

    return run


def build(call: Call, workplace: Path, version: str, *more: object) -> Path:
    """yard@VERSION; each has a byte of its weights changed, so that patches pay."""
    folder = workplace / f"folder-{version}"
    folder.mkdir()
    for name in ("model_int8.tflite", "card.toml"):
        shutil.copy(RELEASES / "yard-1" / name, folder)
    model = bytearray((folder / "model_int8.tflite").read_bytes())
    model[90_000] ^= int(version)
    (folder / "model_int8.tflite").write_bytes(model)
    (folder / "bundle.toml").write_text(SPEC.format(version=version))
    code, _, err = call("bundle", "build", folder, *more)
    assert code == 0, err
    return workplace / f"yard-{version}.rookery"


def signed(call: Call, workplace: Path, version: str, *more: object) -> Path:
    file = build(call, workplace, version, *more)
    code, _, err = call("bundle", "sign", file, "--key", "stable.pem")
    assert code == 0, err
    return file


@pytest.fixture
def trust(call: Call, signed_in: OperatorSite, workplace: Path) -> Path:
    """One root key, one release key, in force on the server; made once."""
    assert (NAME, bool(PASSWORD)) == (NAME, True)
    folder = workplace / "trust"
    if not folder.exists():
        for name in ("root", "stable"):
            assert call("key", "generate", f"{name}.pem", "--no-passphrase")[0] == 0
        assert call("root", "online-keys", "online.json")[0] == 0
        steps = [
            ("root", "create", "trust", "--root-key", "root.pem.pub", "--threshold", "1", "--channel", "stable=stable.pem.pub",
             "--online", "online.json"),
            ("root", "sign", "trust", "--key", "root.pem", "--yes"),
            ("root", "push", "trust"),
        ]  # fmt: skip
        for step in steps:
            code, _, err = call(*step)
            assert code == 0, err
    return folder


def test_a_release_goes_out_and_comes_back(call: Call, trust: Path, workplace: Path, signed_in: OperatorSite) -> None:
    """Signed with model.sig, pushed, pushed again (nothing is sent), a successor with a patch, yanked both ways."""
    one = signed(call, workplace, "1")
    opened = open_bundle(one)
    assert opened.manifest.model_signature == "model.sig"
    code, out, err = call("-o", "json", "bundle", "verify", one, "--root", trust / "root.json")
    assert (code, json.loads(out)["model_signature"]) == (0, True), err
    before = one.read_bytes()
    assert call("bundle", "sign", one, "--key", "stable.pem")[0] == 0  # the same signer again: the same manifest
    assert open_bundle(one).manifest_bytes == opened.manifest_bytes
    assert len(one.read_bytes()) - len(before) in range(-8, 9)
    code, _, err = call("bundle", "push", one)
    assert (code, "yard@1 is published on stable" in err) == (0, True), err
    code, _, err = call("bundle", "push", one)
    assert (code, "0 B sent" in err) == (0, True), err
    two = signed(call, workplace, "2", "--delta-from", one)
    patch = open_bundle(two).manifest.files["model_int8.tflite"].deltas[0]
    code, _, err = call("bundle", "push", two)
    assert code == 0, err
    stored = signed_in.context.settings.data_dir.rglob(patch.sha256)
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in stored] == [patch.sha256]
    # Back again: by the server's word, and by the channel's.
    code, _, err = call("bundle", "yank", "yard@2", "--advisory", "--reason", "counts dogs as carts")
    assert (code, "advisory" in err) == (0, True), err
    listed = {item["release"]: item for item in json.loads(call("-o", "json", "bundle", "list")[1])["items"]}
    assert listed["yard@2"]["advisory"] == "counts dogs as carts"
    assert call("bundle", "yank", "yard@2", "--advisory", "--undo", "--reason", "it does not")[0] == 0
    code, _, err = call("bundle", "yank", "yard@2", "--reason", "it does")
    assert (code, "--key" in err) == (5, True), err
    code, _, err = call("bundle", "yank", "yard@2", "--reason", "it does", "--key", "stable.pem")
    assert (code, "(real)" in err) == (0, True), err
    # Who carries it on a stick all the same is told so, as long as there is a server to ask.
    export = ("bundle", "export", two, "--out", "stick.rookery", "--root", trust / "root.json")
    code, _, err = call(*export)
    assert (code, "warning: yard@2 was yanked from stable" in err, "--metadata FILE" in err) == (0, True, True), err
    code, _, err = call("--server", "http://127.0.0.1:9", *export)
    assert (code, "yanked" in err) == (0, False), err
    code, _, err = call("bundle", "export", one, "--out", "stick.rookery", "--root", trust / "root.json")
    assert (code, "yanked" in err) == (0, False), err
    assert call("channel", "fetch", "stable", "--out", "stable.json")[0] == 0
    assert list(json.loads((workplace / "stable.json").read_text())["signed"]["targets"]) == ["stable/yard/1/manifest.json"]
    code, _, err = call("bundle", "export", two, "--out", "stick.rookery", "--root", trust / "root.json",
                        "--metadata", "stable.json")  # fmt: skip
    assert (code, "no longer" in err) == (5, True), err


def test_a_push_that_broke_off_goes_on_where_it_was(
    call: Call, trust: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line breaks for good after the second file: begun again, only the others travel. A hiccup costs one file once more."""
    four = signed(call, workplace, "4")
    put, sent = Client.put_content, []

    def broken(self: Client, sha256: str, data: bytes) -> bool:
        sent.append(sha256)
        if len(sent) > 1:
            raise CliError(FAILURE, "cannot reach the server: connection reset")
        return put(self, sha256, data)

    monkeypatch.setattr(Client, "put_content", broken)
    monkeypatch.setattr(bundle_transfer, "PAUSE_S", 0.0)
    code, _, err = call("bundle", "push", four)
    assert (code, "connection reset" in err) == (1, True), err
    assert len(sent) == 1 + bundle_transfer.TRIES
    hiccups = [True]

    def hiccup(self: Client, sha256: str, data: bytes) -> bool:
        sent.append(sha256)
        if hiccups.pop() if hiccups else False:
            raise CliError(FAILURE, "cannot reach the server: connection reset")
        return put(self, sha256, data)

    first, sent[:] = sent[0], []
    monkeypatch.setattr(Client, "put_content", hiccup)
    code, _, err = call("bundle", "push", four)
    assert (code, "trying again" in err, "yard@4 is published" in err) == (0, True, True), err
    assert first not in sent
    assert sent[0] == sent[1]


def test_a_stick_is_taken_in_after_every_check(call: Call, trust: Path, workplace: Path) -> None:
    """A bundle carried by hand: root, content, the upstream's word on the model; then pushed. Each check can say no."""
    three = signed(call, workplace, "3")
    stick = workplace / "stick" / "yard-3.rookery"
    code, _, err = call("bundle", "export", three, "--out", stick, "--root", trust / "root.json", "--trust", trust)
    assert code == 0, err
    spoilt = bytearray(stick.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    (workplace / "spoilt.rookery").write_bytes(spoilt)
    root = ("--root", trust / "root.json")
    code, _, err = call("bundle", "import", "spoilt.rookery", *root)
    assert (code, "is refused (hash)" in err) == (5, True), err
    signer = load_signer(workplace / "stable.pem", None)  # stands for whoever trained the model
    pem = str(signer.public_key.keyval["public"]).encode()
    (workplace / "maker.pem").write_bytes(pem)
    model = open_bundle(stick).manifest.files["model_int8.tflite"].sha256
    for name, sha256 in (("good.sig", model), ("other.sig", "00" * 32)):
        data = sign_model(statement("m", {"net.tflite": sha256}), lambda one: bytes.fromhex(signer.sign(one).signature), pem)
        (workplace / name).write_bytes(data)
    wanted = ("--upstream-key", "maker.pem")
    code, _, err = call("bundle", "import", stick, *root, "--upstream", "other.sig", *wanted)
    assert (code, "does not vouch for model_int8.tflite" in err) == (5, True), err
    code, _, err = call("bundle", "import", stick, *root, "--upstream", "good.sig")
    assert (code, "--upstream-key" in err) == (5, True), err
    assert "yard@3" not in call("bundle", "list")[1]
    code, _, err = call("bundle", "import", stick, *root, "--upstream", "good.sig", *wanted)
    assert (code, "net.tflite" in err, "yard@3 is published" in err) == (0, True, True), err
    assert "yard@3" in call("bundle", "list")[1]
