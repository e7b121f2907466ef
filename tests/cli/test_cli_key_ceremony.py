"""Root ceremonies: people in several places, several days apart, with keys in files and on tokens; and what goes wrong there."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ota.trust import roles
from ota.trust.ceremony_disk import enforce, read_ceremony, write_ceremony
from ota.trust.roles import instant
from tests.fakes.key_people import Desk

DAY_S = 86_400.0
PEOPLE = ("Ada", "Ben", "Cleo")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A table with the keys of Ada, Ben and Cleo, a release key, and the online keys of a server."""
    made = Desk(tmp_path)
    for name in (*PEOPLE, "Rita", "Stranger"):
        made.person(name)
    made.online()
    return made


def begin(desk: Desk, *more: str, folder: str = "trust", threshold: int = 2) -> Path:
    """A ceremony of the three, not signed yet."""
    keys = [word for name in PEOPLE for word in ("--root-key", f"{name.lower()}.pem.pub")]
    desk.ok("key", "create", folder, "--threshold", threshold, *keys, "--channel", "stable=rita.pem.pub",
            "--online", "online.json", *more)  # fmt: skip
    return desk.folder / folder


def test_a_root_is_signed_in_sittings_on_several_machines(desk: Desk, tmp_path: Path) -> None:
    """The folder goes from Ada to Cleo on a stick. Each sitting says how many have signed and who is missing, by name."""
    begin(desk)
    first = desk.ok("key", "sign", "--yes", "trust", "--key", "ada.pem")
    for document in ("root 1", "targets 1"):
        assert f"{document}: 1 of 3 signed, 2 needed; missing: Ben, Cleo" in first.err
    assert "carry the folder to the next signer" in first.err
    early = desk("key", "push", "trust", ROOKERY_SERVER="http://127.0.0.1:9")
    assert early.code == 1, "no server is asked for what is unfinished, or it is not there"
    elsewhere = tmp_path / "cleos-laptop"
    elsewhere.mkdir()
    shutil.copytree(desk.folder / "trust", elsewhere / "trust")
    shutil.move(desk.folder / "cleo.pem", elsewhere / "cleo.pem")
    cleo = Desk(elsewhere)
    second = cleo.ok("key", "sign", "--yes", "trust", "--key", "cleo.pem")
    assert "root 1: 2 of 3 signed, 2 needed\n" in second.err
    assert "enough have signed; on a connected machine: rookery key push trust" in second.err
    status = json.loads(cleo.ok("-o", "json", "key", "status", "trust", "--offline").out)["items"]
    by_role = {item["role"]: item for item in status}
    assert [one["name"] for one in by_role["root"]["keys"]] == list(PEOPLE)
    assert (by_role["root"]["threshold"], by_role["root"]["version"]) == (2, 1)
    assert [one["name"] for one in by_role["stable"]["keys"]] == ["Rita"]
    assert 364 * DAY_S < by_role["root"]["expires_s"] - time.time() < 366 * DAY_S
    third = desk("key", "sign", "--yes", "trust", "--key", "ben.pem")
    assert third.code == 0, "who signs a copy that was left behind does no harm"


def test_two_who_sign_at_the_same_time_are_brought_together(desk: Desk) -> None:
    """Ada and Ben each got a copy of the unsigned folder: their signatures are merged, once, and only of the same text."""
    begin(desk)
    shutil.copytree(desk.folder / "trust", desk.folder / "copy")
    shutil.copytree(desk.folder / "trust", desk.folder / "other")
    desk.ok("key", "sign", "--yes", "trust", "--key", "ada.pem")
    desk.ok("key", "sign", "--yes", "copy", "--key", "ben.pem")
    desk.ok("key", "sign", "--yes", "other", "--key", "cleo.pem")
    merged = desk.ok("key", "merge", "trust", "copy")
    assert "2 signatures taken over" in merged.err
    assert "root 1: 2 of 3 signed, 2 needed" in merged.err
    assert "0 signatures taken over" in desk.ok("key", "merge", "trust", "copy").err
    changed = read_ceremony(desk.folder / "other")
    for one in (changed.root, changed.targets):  # somebody else's text under Cleo's signatures
        one.signed.expires = instant(time.time() + 9 * DAY_S)
    write_ceremony(desk.folder / "other", changed)
    assert "0 signatures taken over" in desk.ok("key", "merge", "trust", "other").err
    shutil.copytree(desk.folder / "trust", desk.folder / "bad")
    bad = read_ceremony(desk.folder / "bad")
    cleo = roles_signer(desk, "cleo").public_key.keyid
    for one in (bad.root, bad.targets):
        ada = next(iter(one.signatures.values()))
        one.signatures[cleo] = type(ada)(cleo, ada.signature)
    write_ceremony(desk.folder / "bad", bad)
    assert "0 signatures taken over" in desk.ok("key", "merge", "trust", "bad").err, "Ada's signature under Cleo's name"


def test_who_is_no_signer_signs_nothing(desk: Desk) -> None:
    """A stranger, and the releaser: their keys count for other things, and the folder stays as it was."""
    trust = begin(desk)
    before = (trust / "root.json").read_bytes()
    for key in ("stranger.pem", "rita.pem"):
        said = desk("key", "sign", "--yes", "trust", "--key", key)
        assert (said.code, "not one of this root's signers" in said.err) == (5, True), said.err
    assert (trust / "root.json").read_bytes() == before
    again = desk("key", "create", "trust", "--root-key", "ada.pem.pub", "--threshold", "1", "--channel", "stable=rita.pem.pub",
                 "--online", "online.json")  # fmt: skip
    assert (again.code, "never overwritten" in again.err) == (5, True)


@pytest.mark.parametrize(("arguments", "said"), [
    (("key", "create", "x", "--root-key", "ada.pem.pub", "--channel", "stable=rita.pem.pub", "--online", "online.json"),
     "threshold 2 with 1 keys"),
    (("key", "create", "x", "--root-key", "ada.pem", "--channel", "stable=rita.pem.pub", "--online", "online.json"),
     "not a public key"),
    (("key", "create", "x", "--root-key", "ada.pem.pub", "--channel", "stable", "--online", "online.json"), "is not NAME=PUB"),
    (("key", "create", "x", "--root-key", "ada.pem.pub", "--channel", "stable=rita.pem.pub", "--online", "ada.pem.pub"),
     "the server has no snapshot key"),
    (("key", "create", "x", "--root-key", "pkcs11:token=T;object=x?pin-value=1", "--channel", "stable=rita.pem.pub",
      "--online", "online.json"), "list of processes"),
    (("key", "sign", "none", "--key", "ada.pem"), "no folder none"),
    (("key", "sign", "--yes", "trust", "--key", "nobody.pem"), "no such key file"),
    (("key", "rotate", "beta", "trust", "--add", "ada.pem.pub"), "is not there"),
    (("key", "rotate", "stable", "trust", "--add", "rita.pem.pub"), "a key of the role stable already"),
    (("key", "rotate", "root", "trust", "--remove", "Ada", "--remove", "Ben"), "threshold 2 with 1 keys"),
    (("key", "rotate", "root", "trust"), "nothing is to change"),
    (("key", "rotate", "root", "trust", "--remove", "Nobody"), "no key of this ceremony"),
    (("key", "revoke", "Rita", "trust"), "no key would be left"),
    (("key", "show", "gcpkms:projects/x"), "are not used here"),
    (("key", "rotate", "timestamp", "trust", "--online", "online.json"), "the server has no next timestamp key"),
])  # fmt: skip
def test_a_slip_in_the_ceremony_is_a_sentence(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    """Nothing is left half done, and the sentence says what was wrong."""
    begin(desk)
    answer = desk(*arguments)
    assert answer.code in (1, 2, 3, 5), answer.err
    assert said in answer.err, answer.err
    assert not (desk.folder / "x").exists()
    assert not list((desk.folder / "trust").glob("*.draft.json"))


def test_the_next_root_needs_old_and_new_signers(desk: Desk) -> None:
    """Cleo leaves, Dora comes, and three of four must sign from now on: the new root counts once 2 of the old three and 3 of the
    new four have signed it; whoever signs for one side only is not enough, and the lines say which side waits for whom."""
    begin(desk)
    for name in ("ada", "ben"):
        desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    desk.person("Dora")
    desk.person("Eve")
    drafted = desk.ok("key", "rotate", "root", "trust", "--remove", "Cleo", "--add", "dora.pem.pub", "--add", "eve.pem.pub",
                      "--threshold", "3")  # fmt: skip
    assert "by root 1: 0 of 3 signed, 2 needed; missing: Ada, Ben, Cleo" in drafted.err
    assert "by root 2: 0 of 4 signed, 3 needed; missing: Ada, Ben, Dora, Eve" in drafted.err
    for name in ("dora", "eve", "ada"):
        said = desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    assert "root 2: by root 1: 1 of 3 signed, 2 needed; missing: Ben, Cleo | by root 2: 3 of 4 signed, 3 needed" in said.err
    made = read_ceremony(desk.folder / "trust")
    assert not made.waiting()[0].complete
    assert made.root.signed.version == 1, "what is in force stays until the draft is pushed"
    # Fewer of the new targets signers than are needed now have signed the targets in force: boards need new ones to cross.
    assert made.next_targets is not None
    said = desk.ok("key", "sign", "--yes", "trust", "--key", "ben.pem")
    assert "enough have signed" in said.err
    assert all(one.complete for one in read_ceremony(desk.folder / "trust").waiting())
    edited = desk.ok("key", "rotate", "root", "trust", "--threshold", "2")
    assert "0 of 4 signed" in edited.err, "a changed draft loses the signatures that were given for something else"
    draft = read_ceremony(desk.folder / "trust").next_root
    assert draft is not None
    assert draft.signatures == {}
    desk.ok("key", "abandon", "trust")
    assert read_ceremony(desk.folder / "trust").drafts() == []


def test_ends_are_told_long_before(desk: Desk) -> None:
    """Root ends in three weeks and its signers live in three cities: every look at the metadata says so; a draft renews it."""
    begin(desk)
    made = read_ceremony(desk.folder / "trust")
    made.root.signed.expires = instant(time.time() + 21.5 * DAY_S)
    made.targets.signed.expires = instant(time.time() - 2.5 * DAY_S)
    write_ceremony(desk.folder / "trust", made)
    said = desk.ok("key", "status", "trust", "--offline")
    assert "warning: root expires in 21 days; its signers must renew it: rookery key renew FOLDER" in said.err
    assert "warning: targets has expired 2 days ago (nothing new is installed; what runs goes on)" in said.err
    for name in ("ada", "ben"):
        desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    desk.ok("key", "renew", "trust")
    following = read_ceremony(desk.folder / "trust")
    assert following.next_root is not None
    assert following.next_targets is not None
    assert following.next_root.signed.expires.timestamp() - time.time() > 360 * DAY_S
    assert following.next_targets.signed.expires.timestamp() - time.time() > 260 * DAY_S


def test_the_pinned_root_moves_forward_only(desk: Desk) -> None:
    """A root is trusted once, by a person; later ones only where the pinned one leads there."""
    from fleet_server.cli.key_pin import pinned_root

    trust = begin(desk)
    unsigned = desk("key", "pin", "trust/root.json")
    assert (unsigned.code, "not trusted" in unsigned.err) == (5, True)
    for name in ("ada", "ben"):
        desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    pinned = desk.ok("-o", "json", "key", "pin", "trust/root.json")
    assert len(json.loads(pinned.out)["fingerprint"]) == 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOKERY_CONFIG", desk.environment["ROOKERY_CONFIG"])
        assert pinned_root() == (trust / "root.json").read_bytes()
    begin(desk, folder="foreign")
    for name in ("ben", "cleo"):
        desk.ok("key", "sign", "--yes", "foreign", "--key", f"{name}.pem")
    foreign = read_ceremony(desk.folder / "foreign")
    foreign.root.signed.expires = instant(time.time() + 99 * DAY_S)
    for name in ("ben", "cleo"):
        roles.sign(foreign.root, roles_signer(desk, name))
    write_ceremony(desk.folder / "foreign", foreign)
    other = desk("key", "pin", "foreign/root.json")
    assert (other.code, "does not lead to" in other.err) == (5, True), other.err
    desk.ok("key", "pin", "foreign/root.json", "--replace")
    desk.ok("key", "pin", "trust/root.json", "--replace")
    for version in (1, 2):
        enforce(trust, read_ceremony(trust))
        shutil.copy(trust / "root.json", trust / f"{version}.root.json")
        desk.ok("key", "renew", "trust", "--role", "root")
        for name in ("ada", "ben"):
            desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
        enforce(trust, read_ceremony(trust))
    desk.ok("key", "pin", "trust/1.root.json")
    desk.ok("key", "pin", "trust/root.json")


def test_a_folder_that_was_changed_between_two_sittings_is_seen_by_the_next_signer(desk: Desk) -> None:
    """Cleo leaves and Dora comes. On its way from Ada to Ben the folder lies in a thief's hands: he puts a key of his own among
    the next root's, lowers its threshold to one, and calls his key Dora. Ben is shown each of that before he signs; without a
    person to look nothing is signed; and who goes by the fingerprint that Ada read out signs nothing else."""
    trust = begin(desk)
    for name in ("ada", "ben"):
        desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    enforce(trust, read_ceremony(trust))
    desk.person("Dora")
    desk.ok("key", "rotate", "root", "trust", "--remove", "Cleo", "--add", "dora.pem.pub")
    shown = desk.ok("key", "sign", "--yes", "trust", "--key", "ada.pem").err
    dora, cleo = (keys_id(desk, name) for name in ("dora", "cleo"))
    assert f"root: + Dora ({dora[:12]})" in shown
    assert f"root: - Cleo ({cleo[:12]})" in shown
    read_out = re.findall(r"fingerprint ([0-9a-f]{64})", shown)
    assert len(read_out) == 1
    desk.ok("key", "rotate", "root", "trust", "--add", "stranger.pem.pub", "--threshold", "1")
    made = read_ceremony(trust)
    made.people[keys_id(desk, "stranger")] = "Dora"
    write_ceremony(trust, made)
    before = {path.name: path.read_bytes() for path in trust.iterdir()}
    asked = desk("key", "sign", "trust", "--key", "ben.pem")
    assert (asked.code, "nobody can be asked" in asked.err) == (2, True), asked.err
    assert "root: 1 must sign, 2 until now" in asked.err
    assert f"root: + Dora ({keys_id(desk, 'stranger')[:12]})" in asked.err
    told = desk("key", "sign", "trust", "--key", "ben.pem", "--fingerprint", read_out[0])
    assert (told.code, "another fingerprint than those given; nothing was signed" in told.err) == (5, True), told.err
    assert {path.name: path.read_bytes() for path in trust.iterdir()} == before
    begin(desk, folder="foreign", threshold=1)
    desk.ok("key", "sign", "--yes", "foreign", "--key", "cleo.pem")
    shutil.copy(desk.folder / "foreign" / "root.json", trust / "root.json")
    forged = read_ceremony(trust)
    forged.root.signed.roles["root"].threshold = 3
    write_ceremony(trust, forged)
    base = desk("key", "sign", "--yes", "trust", "--key", "ben.pem")
    assert (base.code, "not signed by its own keys" in base.err) == (5, True), base.err


def test_what_is_in_force_is_never_signed_again(desk: Desk) -> None:
    """Only a channel's line is drafted: the root in force stays as it is, byte for byte, whoever signs. Who has no name beside
    his key is called as his file is."""
    desk.ok("key", "generate", "paul.pem", "--no-passphrase")
    trust = begin(desk)
    for name in ("ada", "ben"):
        desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    enforce(trust, read_ceremony(trust))
    root = (trust / "root.json").read_bytes()
    nothing = desk("key", "sign", "--yes", "trust", "--key", "cleo.pem")
    assert (nothing.code, "nothing waits for a signature" in nothing.err) == (5, True), nothing.err
    desk.ok("key", "rotate", "stable", "trust", "--add", "paul.pem.pub")
    said = desk.ok("key", "sign", "--yes", "trust", "--key", "cleo.pem").err
    assert "stable: + paul (" in said
    assert "root" not in said.replace("rookery", "").replace("root 1:", "")
    assert (trust / "root.json").read_bytes() == root


def keys_id(desk: Desk, name: str) -> str:
    return str(roles_signer(desk, name).public_key.keyid)


def roles_signer(desk: Desk, name: str):
    from ota.trust.keys_disk import load_signer

    return load_signer(desk.folder / f"{name}.pem", None)


def test_a_root_key_on_a_token_signs_with_its_pin(desk: Desk, softhsm) -> None:
    """Ben's key never left his token: it takes part in the ceremony like the others, its PIN comes from a file or the
    environment, and a wrong PIN signs nothing."""
    module = softhsm.environment(desk)
    reference = softhsm.make("Ben", "root", "0b")
    desk.ok("key", "export", reference, "ben.pem.pub", "--name", "Ben", **module)
    begin(desk)
    desk.ok("key", "sign", "--yes", "trust", "--key", "ada.pem")
    wrong = desk("key", "sign", "--yes", "trust", "--key", reference, ROOKERY_PASSPHRASE="0000", **module)
    assert (wrong.code, "PIN is wrong" in wrong.err) == (5, True), wrong.err
    nobody = desk("--no-input", "key", "sign", "--yes", "trust", "--key", reference, **module)
    assert (nobody.code, "--passphrase-file" in nobody.err) == (2, True), nobody.err
    assert "missing: Ben, Cleo" in desk.ok("root", "show", "trust").out
    (desk.folder / "pin").write_text(softhsm.PIN + "\n")
    signed = desk.ok("key", "sign", "--yes", "trust", "--key", reference, "--passphrase-file", "pin", **module)
    assert "root 1: 2 of 3 signed" in signed.err
    assert all(one.complete for one in read_ceremony(desk.folder / "trust").waiting())
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert f"--pin {softhsm.PIN}" not in shown
