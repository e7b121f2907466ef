"""Keys over the years, with the command line, a real server and a board that was given the first root: rotation and revocation of
every role, policies, a server that was restored."""

import functools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from fleet_server.accounts import service as accounts
from ota.bundle.manifest import Manifest, Variant, target_path
from ota.bundle.writer_disk import file_entry, write_bundle
from ota.trust import roles
from ota.trust.client_http import TrustClient
from ota.trust.keys_disk import load_signer
from ota.trust.refusal import Refusal
from tests.fakes.key_people import Desk
from tests.fakes.operator_site import OperatorSite, operator_site

YARD = Path(__file__).resolve().parents[2] / "models" / "rendered" / "releases" / "yard-1"


class Static(SimpleHTTPRequestHandler):
    """The published files, as any web server hands them out."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        pass


class Years:
    """A desk, a server, and boards."""

    def __init__(self, folder: Path, site: OperatorSite) -> None:
        self.folder, self.site = folder, site
        with site.context.database.write() as session:
            here = accounts.Actor("local:root", "", time.time())
            grant = accounts.machine_grant(session, here, name="desk", role="admin", ttl_s=7200.0)
        self.desk = Desk(folder, ROOKERY_SERVER=site.url, ROOKERY_TOKEN=grant.token)
        self.tuf = site.context.settings.data_dir / "tuf"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Static, directory=str(self.tuf)))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self._first: bytes = b""

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def begin(self, *channels: str, threshold: int = 1) -> None:
        for name in ("Ada", "Ben", "Cleo", "Rita", "Sven"):
            if not (self.folder / f"{name.lower()}.pem").exists():
                self.desk.person(name)
        keys = [word for name in ("ada", "ben", "cleo") for word in ("--root-key", f"{name}.pem.pub")]
        lines = [word for one in channels for word in ("--channel", one)]
        self.desk.ok("key", "create", "trust", *keys, *lines)
        self.sittings("ada", "cleo")
        self._first = (self.folder / "trust" / "root.json").read_bytes()

    def sittings(self, *names: str) -> str:
        """Each signs what waits for him; then it is pushed."""
        for name in names:
            self.desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
        return self.desk.ok("key", "push", "trust").err

    def bundle(self, version: str, channel: str = "stable") -> Path:
        files = {"model.tflite": (YARD / "model_int8.tflite").read_bytes(), "card.toml": (YARD / "card.toml").read_bytes()}
        variant = Variant(id="cpu-int8", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml",
                          files=["model.tflite", "card.toml"])  # fmt: skip
        manifest = Manifest(
            name="yard", version=version, channel=channel, counter=int(version), created_s=1_700_000_000, hardware=["*"],
            labels=["person", "cart", "animal"], variants=[variant],
            files={path: file_entry(data) for path, data in files.items()},
        )  # fmt: skip
        path = self.folder / f"yard-{version}.rookery"
        write_bundle(path, manifest, files)
        return path

    def release(self, version: str, key: str) -> None:
        """Sign and push a release."""
        bundle = self.bundle(version)
        self.desk.ok("bundle", "sign", bundle, "--key", key)
        self.desk.ok("bundle", "push", bundle)

    def board(self, where: str) -> TrustClient:
        """A board that was given the first root, whatever came since."""
        url = f"http://127.0.0.1:{self._http.server_port}"
        return TrustClient(
            self.folder / where, metadata_url=f"{url}/metadata", targets_url=f"{url}/targets", pool=urllib3.PoolManager(),
            bootstrap_root=self._first, reference_time=time.time,
        )  # fmt: skip


@pytest.fixture
def years(tmp_path: Path) -> Iterator[Years]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with operator_site(tmp_path / "data") as site:
        made = Years(folder, site)
        try:
            yield made
        finally:
            made.close()


def found(board: TrustClient, version: str) -> bool:
    """Whether the board may install this release now."""
    assert board.refresh() is None
    outcome = board.find(target_path("stable", "yard", version))
    if isinstance(outcome, Refusal):
        assert outcome.code in ("signature", "mismatch"), outcome
        return False
    return True


def test_a_leaked_release_key_counts_no_more(years: Years) -> None:
    """Rita's key was copied, and the thief has published a release of his own with it (he had a releaser's token, too). Her key
    is revoked: boards refuse all that it alone has signed, the thief's and hers; the server refuses what comes after. Sven looks
    at the list, leaves the thief's release out, signs the rest anew, and boards take hers again."""
    years.begin("stable=rita.pem.pub", "stable=sven.pem.pub")
    years.release("1", "rita.pem")
    board = years.board("shop")
    assert found(board, "1")
    years.release("66", "rita.pem")  # the thief's
    assert found(board, "66")
    said = years.desk.ok("key", "revoke", "Rita", "trust")
    assert "Rita will count no more for: stable" in said.err
    assert "boards refuse what that key alone has signed on stable (what runs goes on)" in said.err
    years.sittings("ada", "ben")
    assert not found(board, "1")
    assert not found(board, "66")
    assert not found(years.board("new-board"), "66")
    thief = roles.add_release(
        roles.parse_metadata(years.site.context.repository.channel_metadata("stable") or b"", "stable"),
        target_path("stable", "yard", "67"), years_manifest(years, "67"),
    )  # fmt: skip
    roles.sign(thief, load_signer(years.folder / "rita.pem", None))
    outcome = years.site.context.repository.publish_channel("stable", thief.to_bytes(), [])
    assert isinstance(outcome, Refusal)
    assert outcome.code == "signature"
    refused = years.desk("bundle", "sign", years.bundle("68"), "--key", "rita.pem")
    assert (refused.code, "rookery key resign stable" in refused.err) == (5, True), refused.err
    listed = years.desk.ok("key", "resign", "stable", "trust", "--drop", target_path("stable", "yard", "66"))
    assert "stable/yard/1/manifest.json  sha256 " in listed.err
    assert "look at each of these before you sign: only Rita has signed them" in listed.err
    assert "yard/66" not in listed.err
    again = years.desk("key", "sign", "--yes", "trust", "--key", "rita.pem")
    assert again.code == 5, again.err
    pushed = years.sittings("sven")
    assert "stable version 3 is published" in pushed
    assert found(board, "1")
    assert not found(board, "66")
    refused = years.desk("bundle", "sign", years.bundle("68"), "--key", "rita.pem")
    assert (refused.code, "not a release key of channel stable" in refused.err) == (5, True), refused.err
    years.release("2", "sven.pem")
    assert found(board, "2")


def years_manifest(years: Years, version: str) -> bytes:
    from ota.bundle.reader_disk import open_bundle

    return open_bundle(years.bundle(version)).manifest_bytes


def test_a_channel_signed_anew_before_the_revocation_leaves_no_gap(years: Years) -> None:
    """Resigned and revoked in one push: there is no moment in which a board finds nothing valid, and no release is lost."""
    years.begin("stable=rita.pem.pub", "stable=sven.pem.pub")
    years.release("1", "rita.pem")
    board = years.board("shop")
    assert found(board, "1")
    years.desk.ok("key", "revoke", "Rita", "trust")
    years.desk.ok("key", "resign", "stable", "trust")
    twice = years.desk("key", "resign", "stable", "trust")
    assert (twice.code, "a draft of stable is there already" in twice.err) == (5, True)
    asked: list[bool] = []
    real = years.site.context.repository._store.write

    def write(role: str, version: int | None, data: bytes) -> None:
        real(role, version, data)
        asked.append(found(years.board(f"asks-{len(asked)}"), "1"))

    for name in ("sven", "ada", "ben"):
        years.desk.ok("key", "sign", "--yes", "trust", "--key", f"{name}.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(years.site.context.repository._store, "write", write)
        pushed = years.desk.ok("key", "push", "trust").err
    assert pushed.index("stable version 2 is published") < pushed.index("targets version 2 are in force")
    assert len(asked) >= 5
    assert all(asked)


def test_every_role_changes_hands_and_a_board_of_the_first_day_follows(years: Years) -> None:
    """Root signers, the server's three keys, a channel's threshold, a new channel, the policy role: each through the server, and
    a board that slept through all of it reaches today's releases from the root that it was given."""
    years.begin("stable=rita.pem.pub", "stable=sven.pem.pub")
    years.release("1", "rita.pem")
    board, desk = years.board("awake"), years.desk
    assert found(board, "1")
    desk.person("Dora")
    desk.ok("key", "rotate", "root", "trust", "--remove", "Cleo", "--add", "dora.pem.pub")
    years.sittings("dora", "ada", "ben")
    assert found(board, "1")
    gone = desk("key", "sign", "--yes", "trust", "--key", "cleo.pem")
    assert gone.code == 5, "Cleo signs nothing any more"
    desk.ok("key", "online", "online.json", "--next", "snapshot", "--next", "timestamp", "--next", "assignment")
    before = json.loads((years.folder / "online.json").read_text())
    for role in ("snapshot", "timestamp", "assignment"):
        desk.ok("key", "rotate", role, "trust", "--online", "online.json")
    years.sittings("ben", "dora")
    assert found(board, "1")
    after = years.site.context.repository.online_keys()
    assert {role: key.keyval for role, key in after.items()} == {role: before["next"][role]["keyval"] for role in after}
    assert set(board.assignment_keys()) == {after["assignment"].keyid}
    desk.person("Tess")
    desk.ok("key", "rotate", "stable", "trust", "--add", "tess.pem.pub", "--threshold", "2")
    desk.ok("key", "rotate", "beta", "trust", "--new", "--add", "tess.pem.pub")
    desk.ok("key", "rotate", "policy", "trust", "--new", "--add", "sven.pem.pub")
    desk.ok("key", "resign", "stable", "trust")
    years.sittings("ada", "dora", "rita", "tess")
    assert found(board, "1")
    bundle = years.bundle("2")
    one = desk.ok("bundle", "sign", bundle, "--key", "rita.pem")
    assert "1 of 3 signed, 2 needed" in one.err
    assert desk("bundle", "push", bundle).code == 5
    desk.ok("bundle", "sign", bundle, "--key", "tess.pem")
    desk.ok("bundle", "push", bundle)
    assert found(board, "2")
    sleeper = years.board("asleep")
    assert found(sleeper, "2")
    assert sleeper.versions()["root"] == 3
    status = {item["role"]: item for item in json.loads(desk.ok("-o", "json", "key", "status", "trust").out)["items"]}
    assert (status["stable"]["threshold"], len(status["stable"]["keys"]), status["root"]["version"]) == (2, 3, 3)
    assert status["timestamp"]["expires_s"] > time.time()


def test_a_policy_is_published_and_replaced_by_a_higher_counter_only(years: Years) -> None:
    """A policy target keeps its name; boards go by its counter. The server takes no step back, and no policy of another key."""
    years.begin("stable=rita.pem.pub")
    desk = years.desk
    desk.ok("key", "rotate", "policy", "trust", "--new", "--add", "sven.pem.pub")
    years.sittings("ada", "ben")
    shops = years.folder / "shops.toml"
    shops.write_text("local_install = true\n")
    stranger = desk("policy", "sign", shops, "--key", "rita.pem")
    assert (stranger.code, "not a key of the policy role" in stranger.err) == (5, True)
    assert "policy/shops.toml with counter 1" in desk.ok("policy", "sign", shops, "--key", "sven.pem").err
    desk.ok("policy", "push")
    board = years.board("shop")
    first = board.find("policy/shops.toml")
    assert not isinstance(first, Refusal)
    assert dict(first.custom) == {"counter": 1}
    shops.write_text("local_install = false\n")
    back = desk("policy", "sign", shops, "--key", "sven.pem", "--counter", "1")
    assert (back.code, "not above the published 1" in back.err) == (5, True)
    desk.ok("policy", "sign", shops, "--key", "sven.pem")
    desk.ok("policy", "push")
    assert board.refresh() is None
    second = board.find("policy/shops.toml")
    assert not isinstance(second, Refusal)
    assert (dict(second.custom), second.sha256 != first.sha256) == ({"counter": 2}, True)
    assert years.desk("policy", "push").code == 3, "nothing waits"
    repository = years.site.context.repository
    for counter in (1, 2):  # whoever has the key and not this command line
        back_data = b"live_view = true\n"
        evil = roles.next_version(roles.parse_metadata(repository.channel_metadata("policy") or b"", "policy"))
        evil.signed.targets.pop("policy/shops.toml")
        evil = roles.add_policy(evil, "policy/shops.toml", back_data, counter, time.time() + 86_400.0)
        roles.sign(evil, load_signer(years.folder / "sven.pem", None))
        outcome = repository.publish_channel("policy", evil.to_bytes(), [back_data])
        assert isinstance(outcome, Refusal)
        assert outcome.code == "sequence"
    (years.folder / "bad.toml").write_text("[[[")
    assert "not TOML" in desk("policy", "sign", "bad.toml", "--key", "sven.pem").err


def test_a_restored_server_is_given_back_what_was_signed_since(years: Years) -> None:
    """The server comes back from yesterday's copy: two roots and two targets are gone from it. The folder of the ceremony has
    them, and gives them back in order; boards that had followed go on."""
    years.begin("stable=rita.pem.pub")
    shutil.copytree(years.tuf, years.folder / "copy")
    for _ in range(2):
        years.desk.ok("key", "renew", "trust")
        years.sittings("ada", "ben")
    board = years.board("shop")
    assert board.refresh() is None
    assert board.versions()["root"] == 3
    shutil.rmtree(years.tuf / "metadata")
    shutil.copytree(years.folder / "copy" / "metadata", years.tuf / "metadata")
    said = years.desk.ok("key", "push", "trust").err
    assert said.index("given back root 2, targets 2") < said.index("given back root 3, targets 3")
    status = years.site.context.repository.status()
    assert (status.root_version, status.versions["targets"], status.problems) == (3, 3, [])
    assert years.board("new-board").refresh() is None
