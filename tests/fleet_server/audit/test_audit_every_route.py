"""Every route of the operator door that changes something leaves a row: who, from where, what stood before, what stands now.

The routes come from the map of routes, so one that is added tomorrow fails here until it has a line in STORIES (an address, how
to call it so that it changes something) or, with its reason, in EXCEPTIONS. Secrets that went in or came out are in no row.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from fleet_server.accounts import service as accounts
from fleet_server.accounts.tables import OperatorRow, ProviderSubjectRow
from fleet_server.alerts.tables import AlertRow
from fleet_server.app import create_operator_app, load_tables
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.settings import Settings
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.trust.key_types import CryptoSigner
from ota.trust.repository_disk import Repository
from ota.trust.roles import ChannelKeys, add_release, new_channel, new_root, new_targets, sign
from tests.fakes.seeded_fleet import pending, seed_fleet

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PASSWORD = "canary password of ada"
EXCEPTIONS = {
    "dashboard.post_theme": "a cookie of one's own browser; the server keeps nothing",
    "dashboard.account_prove": "the password again, for what follows and is audited; a wrong one is audited as a failed sign-in",
    "accounts.post_factor": "makes a secret that does nothing until it is confirmed, which is audited",
    "dashboard.account_factor_begin": "the same",
    "dashboard.provider_connect": "leads the browser to the provider; what it brings back is audited as account.provider-connect",
    "releases.post_missing": "a question: its body is too long for an address",
    "enrolment.post_rule_test": "a question",
}  # fmt: skip
"""Routes that may change without a row. Each with its reason; short."""


class World:
    """A fleet in every state, and an admin who is signed in with a browser's session."""

    def __init__(self, make: Callable[[Path], Context], folder: Path, clock: Any) -> None:
        self.make, self.folder, self.clock = make, folder, clock
        self.context = make(folder / "first")
        authority_x509.prepare(self.context.settings.pki_dir, ["localhost"], clock())
        self.app: Flask = create_operator_app(self.context)
        self.digest = accounts.hash_password(PASSWORD)  # slow on purpose: once
        self.secrets: set[str] = {PASSWORD}
        self.fleet: Any = None
        self.me: Person = None  # type: ignore[assignment]  # set by the first story
        self.known: dict[str, Any] = {}

    def person(self, name: str, role: str = "viewer") -> "Person":
        """Somebody with an account and an open session."""
        with self.context.database.write() as session:
            accounts.add_operator(session, name=name, password_hash=self.digest, role=role, now_s=self.clock())
        return Person(self, name)

    def board(self) -> str:
        """One more board that waits."""
        with self.context.database.write() as session:
            pending(self.context, session, self.clock())
        return str(self.me.get("/api/v1/enrolments")["items"][0]["id"])

    def device(self, name: str) -> str:
        return str(self.fleet.devices[name])

    def secret(self, value: str) -> str:
        """Remember that this must stand nowhere."""
        self.secrets.add(value.rpartition("token=")[2])
        return value


class Person:
    """A browser in which somebody is signed in; each call says its CSRF token."""

    def __init__(self, world: World, name: str, *, signed_in: bool = True) -> None:
        self.world, self.name = world, name
        self.client: FlaskClient = world.app.test_client()
        if signed_in:
            answer = self.client.post("/api/v1/login", json={"name": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.json

    def get(self, path: str) -> Any:
        return self.client.get(path).json

    def token(self) -> str:
        page = self.client.get("/login" if self.client.get_cookie("rookery_session") is None else "/releases")
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert found is not None
        return found[1]

    def __call__(self, method: str, path: str, body: Any = None, **form: Any) -> Any:
        """The request; JSON where there is a body, else a form."""
        headers = {"X-CSRFToken": self.token()}
        if isinstance(body, bytes):
            return self.client.open(path, method=method, data=body, headers=headers)
        if path.startswith("/api/"):
            return self.client.open(path, method=method, json=body if body is not None else {}, headers=headers)
        return self.client.open(path, method=method, data=form, headers=headers)


STORIES: dict[str, Callable[[World], Any]] = {}


def story(endpoint: str) -> Callable[[Callable[[World], Any]], Callable[[World], Any]]:
    """``(answer, …)``: the last thing that the function calls is the route itself."""

    def keep(told: Callable[[World], Any]) -> Callable[[World], Any]:
        assert endpoint not in STORIES
        STORIES[endpoint] = told
        return told

    return keep


def tell(endpoint: str, method: str, path: str, body: Any = None, **form: Any) -> None:
    """A story of one call by the admin; ``{name}`` in path and body are the fleet's ids."""

    def told(world: World) -> Any:
        fill = lambda text: re.sub(r"\{([\w-]+)\}", lambda found: str(world.known[found[1]]), text)  # noqa: E731
        filled = json.loads(fill(json.dumps(body))) if body is not None else None
        return world.me(method, fill(path), filled, **{key: fill(one) for key, one in form.items()})

    story(endpoint)(told)


def totp(secret: str, now_s: float) -> str:
    """The six digits of RFC 6238 at this time."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(now_s) // 30), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


# --- setting up, signing in and out -----------------------------------------------------------------------------------------


@story("accounts.post_setup")
def _(world: World) -> Any:
    with world.context.database.write() as session:
        token = world.secret(accounts.new_setup_link(session, ttl_s=60.0, now_s=world.clock()).token)
    body = {"token": token, "name": "ada", "password": PASSWORD}
    return Person(world, "ada", signed_in=False)("POST", "/api/v1/setup", body)


@story("dashboard.post_setup")
def _(world: World) -> Any:
    other = World(world.make, world.folder / "second", world.clock)
    with other.context.database.write() as session:
        token = accounts.new_setup_link(session, ttl_s=60.0, now_s=world.clock()).token
    form = {"token": token, "name": "ada", "password": PASSWORD, "again": PASSWORD}
    answer = Person(other, "ada", signed_in=False)("POST", "/setup", **form)
    with other.context.database.read() as session:
        assert [one.what for one in audit.entries(session)] == ["session.open", "setup"]
    other.context.database.dispose()
    world.person("eve")  # a row in this world, too
    Person(world, "eve")
    return answer


@story("accounts.post_login")
def _(world: World) -> Any:
    return Person(world, "ada", signed_in=False)("POST", "/api/v1/login", {"name": "ada", "password": PASSWORD})


@story("dashboard.post_login")
def _(world: World) -> Any:
    answer = Person(world, "ada", signed_in=False)("POST", "/login", name="ada", password=PASSWORD, next="/")
    world.me = Person(world, "ada")
    return answer


@story("accounts.post_token")
def _(world: World) -> Any:
    body = {"name": "ada", "password": PASSWORD, "token_name": "cli"}
    answer = Person(world, "ada", signed_in=False)("POST", "/api/v1/tokens", body)
    world.secret(answer.json["token"])
    return answer


@story("accounts.post_logout")
def _(world: World) -> Any:
    return Person(world, "ada")("POST", "/api/v1/logout")


@story("dashboard.post_logout")
def _(world: World) -> Any:
    return Person(world, "ada")("POST", "/logout")


# --- one's own account --------------------------------------------------------------------------------------------------------


def with_factor(world: World, name: str) -> tuple[Person, str]:
    """Somebody whose second factor is on."""
    who = world.person(name)
    secret = world.secret(who("POST", "/api/v1/account/second-factor", {"password": PASSWORD}).json["secret"])
    answer = who("POST", "/api/v1/account/second-factor/confirm", {"code": totp(secret, world.clock())})
    assert answer.status_code == 200, answer.json
    world.secrets |= set(answer.json["recovery_codes"])
    world.clock.forward(30)
    return who, secret


@story("accounts.post_password")
def _(world: World) -> Any:
    new = world.secret("canary new password one")
    return world.person("pw1")("POST", "/api/v1/account/password", {"password": PASSWORD, "new_password": new})


@story("dashboard.account_password")
def _(world: World) -> Any:
    new = world.secret("canary new password two")
    return world.person("pw2")("POST", "/account/password", password=PASSWORD, new=new, again=new)


@story("dashboard.provider_disconnect")
def _(world: World) -> Any:
    linked = world.person("linked")
    with world.context.database.write() as db:
        account = db.scalars(select(OperatorRow).where(OperatorRow.name == "linked")).one()
        issuer = "https://id.example.org"
        db.add(ProviderSubjectRow(issuer=issuer, subject="s-1", operator_id=account.id, linked_s=1.0, ruled=False))
    return linked("POST", "/account/provider/disconnect")


@story("accounts.post_factor_confirm")
def _(world: World) -> Any:
    who = world.person("tf1")
    secret = world.secret(who("POST", "/api/v1/account/second-factor", {"password": PASSWORD}).json["secret"])
    answer = who("POST", "/api/v1/account/second-factor/confirm", {"code": totp(secret, world.clock())})
    world.secrets |= set(answer.json["recovery_codes"])
    return answer


@story("dashboard.account_factor_confirm")
def _(world: World) -> Any:
    who = world.person("tf2")
    secret = world.secret(who("POST", "/api/v1/account/second-factor", {"password": PASSWORD}).json["secret"])
    return who("POST", "/account/second-factor/confirm", code=totp(secret, world.clock()))


@story("accounts.post_recovery_codes")
def _(world: World) -> Any:
    who, secret = with_factor(world, "tf3")
    body = {"password": PASSWORD, "code": totp(secret, world.clock())}
    answer = who("POST", "/api/v1/account/recovery-codes", body)
    world.secrets |= set(answer.json["recovery_codes"])
    return answer


@story("dashboard.account_recovery_codes")
def _(world: World) -> Any:
    who, secret = with_factor(world, "tf4")
    return who("POST", "/account/recovery-codes", password=PASSWORD, code=totp(secret, world.clock()))


@story("accounts.post_factor_remove")
def _(world: World) -> Any:
    who, secret = with_factor(world, "tf5")
    body = {"password": PASSWORD, "code": totp(secret, world.clock())}
    return who("POST", "/api/v1/account/second-factor/remove", body)


@story("dashboard.account_factor_remove")
def _(world: World) -> Any:
    who, secret = with_factor(world, "tf6")
    return who("POST", "/account/second-factor/remove", password=PASSWORD, code=totp(secret, world.clock()))


@story("accounts.post_own_token")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/account/tokens", {"token_name": "own", "password": PASSWORD})
    world.secret(answer.json["token"])
    return answer


@story("accounts.delete_token")
def _(world: World) -> Any:
    return world.me("DELETE", f"/api/v1/account/tokens/{world.me.get('/api/v1/account/tokens')['items'][0]['id']}")


@story("dashboard.account_token")
def _(world: World) -> Any:
    return world.me("POST", "/account/tokens", name="page", days="1", scope="viewer")


@story("dashboard.account_end")
def _(world: World) -> Any:
    return world.me("POST", f"/account/grants/{world.me.get('/api/v1/account/tokens')['items'][0]['id']}/end")


@story("accounts.delete_session")
def _(world: World) -> Any:
    before = {one["id"] for one in world.me.get("/api/v1/account/sessions")["items"]}
    Person(world, "ada")
    (other,) = {one["id"] for one in world.me.get("/api/v1/account/sessions")["items"]} - before
    return world.me("DELETE", f"/api/v1/account/sessions/{other}")


@story("accounts.delete_sessions")
def _(world: World) -> Any:
    Person(world, "ada")
    return world.me("DELETE", "/api/v1/account/sessions")


@story("dashboard.account_end_others")
def _(world: World) -> Any:
    Person(world, "ada")
    return world.me("POST", "/account/sessions/end-others")


# --- people -------------------------------------------------------------------------------------------------------------------


@story("accounts.post_account")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/accounts", {"name": "bob", "role": "viewer", "groups": ["yard"]})
    world.known["link"] = world.secret(answer.json["link"]).rpartition("token=")[2]
    return answer


@story("accounts.post_welcome")
def _(world: World) -> Any:
    body = {"token": world.known["link"], "password": world.secret("canary password of bob")}
    return Person(world, "bob", signed_in=False)("POST", "/api/v1/welcome", body)


tell("accounts.put_account", "PUT", "/api/v1/accounts/bob", {"role": "operator", "all_groups": True})
tell("accounts.post_disable", "POST", "/api/v1/accounts/bob/disable")
tell("accounts.post_enable", "POST", "/api/v1/accounts/bob/enable")


@story("accounts.post_link")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/accounts/bob/link", {"second_factor": True})
    world.known["link"] = world.secret(answer.json["link"]).rpartition("token=")[2]
    return answer


@story("dashboard.post_welcome")
def _(world: World) -> Any:
    new = world.secret("canary second password of bob")
    return Person(world, "bob", signed_in=False)("POST", "/welcome", token=world.known["link"], password=new, again=new)


@story("accounts.delete_factor")
def _(world: World) -> Any:
    with_factor(world, "tf7")
    return world.me("DELETE", "/api/v1/accounts/tf7/second-factor")


tell("accounts.delete_account_sessions", "DELETE", "/api/v1/accounts/tf7/sessions")


@story("accounts.post_machine_token")
def _(world: World) -> Any:
    made = world.me("POST", "/api/v1/accounts", {"name": "robot", "role": "operator", "kind": "machine"})
    assert made.status_code == 201, made.json
    answer = world.me("POST", "/api/v1/accounts/robot/tokens", {"token_name": "ci"})
    world.secret(answer.json["token"])
    world.known["robot_token"] = world.me.get("/api/v1/accounts/robot/tokens")["items"][0]["id"]
    return answer


tell("accounts.delete_account_token", "DELETE", "/api/v1/accounts/robot/tokens/{robot_token}")
tell("accounts.delete_account", "DELETE", "/api/v1/accounts/robot")
tell("dashboard.people_add", "POST", "/people", name="carol", role="viewer", kind="machine", reach="all")


@story("dashboard.person_action")
def _(world: World) -> Any:
    world.me("POST", "/people/carol/disable")
    world.me("POST", "/people/carol/enable")
    answer = world.me("POST", "/people/carol/tokens", token_name="page", days="1", scope="viewer")
    world.known["carol_token"] = world.me.get("/api/v1/accounts/carol/tokens")["items"][0]["id"]
    return answer


tell("dashboard.person_token_end", "POST", "/people/carol/tokens/{carol_token}/end")

# --- enrolment ----------------------------------------------------------------------------------------------------------------


@story("enrolment.post_claims")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/claims", {"count": 2, "group": "yard", "device_name": "fresh"})
    world.secrets |= {one["token"] for one in answer.json["items"]}
    world.known["claim"], world.known["claim2"] = (one["id"] for one in answer.json["items"])
    return answer


@story("enrolment.post_claims_csv")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/claims/csv", {"csv": "serial,group\n1234,yard\n1235,yard\n"})
    world.secrets |= {one["token"] for one in answer.json["items"]}
    return answer


tell("dashboard.make_claims", "POST", "/enrolment/claims", count="1", days="1", group="yard")
tell("enrolment.post_end_claim", "POST", "/api/v1/claims/{claim}/end")
tell("dashboard.end_claim", "POST", "/enrolment/claims/{claim2}/end")


@story("enrolment.post_rule")
def _(world: World) -> Any:
    answer = world.me("POST", "/api/v1/enrolment-rules", {"serial": "77*", "group": "yard", "most_per_day": 5})
    world.known["rule"] = answer.json["id"]
    return answer


tell("enrolment.delete_rule", "DELETE", "/api/v1/enrolment-rules/{rule}")
tell("dashboard.add_rule", "POST", "/enrolment/rules", serial="78*", group="yard", most_per_day="3", days="2")


@story("dashboard.remove_rule")
def _(world: World) -> Any:
    return world.me("POST", f"/enrolment/rules/{world.me.get('/api/v1/enrolment-rules')['items'][0]['id']}/remove")


@story("enrolment.post_accept")
def _(world: World) -> Any:
    return world.me("POST", f"/api/v1/enrolments/{world.board()}/accept")


@story("enrolment.post_reject")
def _(world: World) -> Any:
    return world.me("POST", f"/api/v1/enrolments/{world.board()}/reject", {"reason": "not ours"})


@story("enrolment.post_decide")
def _(world: World) -> Any:
    return world.me("POST", "/api/v1/enrolments/decide", {"enrolments": [world.board()], "accept": True})


@story("dashboard.decide")
def _(world: World) -> Any:
    return world.me("POST", "/enrolment/decide", enrolment=world.board(), action="reject", reason="not ours")


@story("dashboard.enrolment_action")
def _(world: World) -> Any:
    return world.me("POST", f"/enrolments/{world.board()}/accept")


tell("enrolment.post_readmit", "POST", "/api/v1/devices/{dock-1}/readmit", {"reason": "wiped"})
tell("enrolment.post_replace", "POST", "/api/v1/devices/{dock-1}/replace", {"reason": "dead"})
tell("dashboard.new_key", "POST", "/devices/{dock-2}/identity/readmit", hours="1", reason="wiped")
tell("enrolment.post_revoke", "POST", "/api/v1/devices/{yard-west}/revoke", {"reason": "stolen"})
tell("enrolment.post_decommission", "POST", "/api/v1/devices/{dock-1}/decommission", {"reason": "broken"})
tell("dashboard.decommission", "POST", "/devices/{dock-2}/identity/decommission", name="dock-2", reason="broken")

# --- what devices are told, asked and shown -------------------------------------------------------------------------------------

tell("configuration.put_fleet", "PUT", "/api/v1/configuration", {"content": {"log_level": "debug"}})
tell("configuration.put_of_device", "PUT", "/api/v1/devices/{gate-north}/configuration", {"content": {"log_level": "info"}})
tell("configuration.put_layer", "PUT", "/api/v1/configurations/group:yard", {"content": {"log_level": "info"}})
tell("configuration.post_undo", "POST", "/api/v1/configurations/group:yard/undo", {})
tell("dashboard.configuration_change", "POST", "/configuration/fleet/change", content='{"log_level": "info"}', why="calm")
tell("dashboard.configuration_undo", "POST", "/configuration/fleet/undo", to_version="1")


@story("logs.post_session")
def _(world: World) -> Any:
    body = {"log_level": "debug", "duration_s": 600, "reason": "INC-7"}
    answer = world.me("POST", f"/api/v1/devices/{world.device('gate-south')}/debug-sessions", body)
    world.known["session"] = answer.json["id"]
    return answer


tell("logs.post_frames", "POST", "/api/v1/devices/{gate-south}/debug-sessions/{session}/frames", {"frames": "last"})
tell("dashboard.ask_frames", "POST", "/devices/{gate-south}/debug/{session}/frames", frames="burst")
tell("logs.delete_session", "DELETE", "/api/v1/devices/{gate-south}/debug-sessions/{session}")
tell("dashboard.begin_debug", "POST", "/devices/{gate-south}/debug", log_level="debug", duration_s="60", reason="INC-8")


@story("dashboard.end_debug")
def _(world: World) -> Any:
    device = world.device("gate-south")
    found = world.me.get(f"/api/v1/devices/{device}/debug-sessions")["items"]
    session = next(one["id"] for one in found if one["active"])
    return world.me("POST", f"/devices/{device}/debug/{session}/end")


@story("alerts.post_webhook")
def _(world: World) -> Any:
    world.secrets |= {"canary-path", "canary-user"}
    body = {"url": "https://canary-user:x@hooks.example.org:8443/canary-path?key=canary-path"}
    answer = world.me("POST", "/api/v1/webhooks", body)
    if answer.status_code == 400:  # a user in an address may be refused altogether
        answer = world.me("POST", "/api/v1/webhooks", {"url": "https://hooks.example.org:8443/canary-path"})
    world.known["webhook"] = answer.json["id"]
    return answer


tell("alerts.delete_webhook", "DELETE", "/api/v1/webhooks/{webhook}")
tell("alerts.post_acknowledge", "POST", "/api/v1/alerts/{alert}/acknowledge")
tell("dashboard.acknowledge", "POST", "/alerts/{alert2}/acknowledge")

# --- releases and where they go -----------------------------------------------------------------------------------------------


tell("rollouts.post_unhold", "POST", "/api/v1/devices/{office}/unhold")
tell("dashboard.unhold", "POST", "/devices/{office}/unhold")
tell("releases.post_yank", "POST", "/api/v1/releases/yard@2/yank", {"reason": "blind at night"})
tell("releases.delete_yank", "DELETE", "/api/v1/releases/yard@2/yank")
tell("rollouts.post_resume", "POST", "/api/v1/rollouts/{rollout}/resume")
tell("rollouts.post_pause", "POST", "/api/v1/rollouts/{rollout}/pause")
tell("dashboard.rollout_action", "POST", "/rollouts/{rollout}/resume")
tell("rollouts.post_abort", "POST", "/api/v1/rollouts/{rollout}/abort")
tell("rollouts.post_rollout", "POST", "/api/v1/rollouts", {"release": "yard@2", "selector": {"group": "yard"}})


@story("experiments.post_end")
def _(world: World) -> Any:
    return world.me("POST", f"/api/v1/experiments/{world.me.get('/api/v1/experiments')['items'][0]['id']}/end")


tell("experiments.post_experiment", "POST", "/api/v1/experiments", {"name": "two", "a": "yard@1", "b": "yard@2"})
tell("releases.post_online_keys", "POST", "/api/v1/trust/online-keys", {"roles": ["snapshot"]})


@story("releases.post_root")
def _(world: World) -> Any:
    root, channel = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()
    world.known["channel_key"] = channel
    online, end_s = world.context.repository.online_keys(), world.clock() + 1e7
    keys = {"root": [root.public_key], "targets": [root.public_key], "snapshot": [online["snapshot"]],
            "timestamp": [online["timestamp"]]}  # fmt: skip
    one = new_root(keys, {}, end_s)
    targets = new_targets({"beta": ChannelKeys([channel.public_key])}, [online["assignment"]], end_s)
    for each in (one, targets):
        sign(each, root)
    return world.me("POST", "/api/v1/trust/root", {"root": json.loads(one.to_bytes()), "targets": json.loads(targets.to_bytes())})


@story("releases.put_content")
def _(world: World) -> Any:
    for data in (b"model", b"card"):
        answer = world.me("PUT", f"/api/v1/content/{hashlib.sha256(data).hexdigest()}", data)
    return answer


@story("releases.post_channel")
def _(world: World) -> Any:
    files = {"m.tflite": b"model", "c.toml": b"card"}
    variant = Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m.tflite", card="c.toml", files=list(files))
    data = encode_manifest(Manifest(
        name="field", version="1", channel="beta", counter=1, created_s=1_700_000_000, hardware=["*"], variants=[variant],
        files={path: FileEntry(sha256=hashlib.sha256(one).hexdigest(), length_bytes=len(one)) for path, one in files.items()},
    ))  # fmt: skip
    channel = add_release(new_channel(world.clock() + 1e6), target_path("beta", "field", "1"), data, world.clock() + 1e6)
    sign(channel, world.known["channel_key"])
    body = {"metadata": json.loads(channel.to_bytes()), "manifests": [data.decode()]}
    return world.me("POST", "/api/v1/channels/beta/metadata", body)


# --- the walk -----------------------------------------------------------------------------------------------------------------


def changing(app: Flask) -> set[str]:
    """Every route that may change something."""
    return {str(rule.endpoint) for rule in app.url_map.iter_rules() if (rule.methods or set()) & CHANGING}


def rows(world: World, after: int) -> list[audit.AuditEntry]:
    with world.context.database.read() as session:
        return audit.entries(session, after_id=after, limit=1000)


def faults_of(world: World, endpoint: str) -> list[str]:
    """What is wrong with the rows that one story left."""
    with world.context.database.read() as session:
        before = audit.head(session).id
    try:
        answer = STORIES[endpoint](world)
    except (AssertionError, LookupError, TypeError, AttributeError) as error:
        return [f"{endpoint}: the story does not work any more: {error!r}"]
    if answer.status_code >= 400:
        return [f"{endpoint}: the story does not work any more: {answer.status_code} {answer.text[:300]}"]
    found = rows(world, before)
    by_people = [one for one in found if one.origin == "127.0.0.1" and one.who not in ("", "server") and one.what and one.target]
    if not by_people:
        return [f"{endpoint}: no row says who did it and from where; rows: {[one.what for one in found]}"]
    if all(one.before is None and one.after is None for one in by_people):
        return [f"{endpoint}: neither before nor after stands in {[one.what for one in by_people]}"]
    return []


def ready(world: World) -> None:
    """Once somebody is signed in: the fleet, and the ids that stories name."""
    world.fleet = seed_fleet(world.context)
    world.known |= dict(world.fleet.devices) | {"rollout": world.fleet.paused_rollout}
    with world.context.database.read() as session:
        world.known["alert"], world.known["alert2"] = list(session.scalars(select(AlertRow.id)))[:2]


def test_every_route_that_changes_something_leaves_a_row(settings: Settings, clock: Any, tmp_path: Path) -> None:
    """Somebody adds a route and forgets the audit; somebody logs a whole request body, a password among it."""
    from tests.fleet_server.conftest import make_context

    def make(folder: Path) -> Context:
        folder.mkdir(parents=True)
        load_tables()
        database = Database(f"sqlite:///{folder / 'x.sqlite3'}")
        database.create_all()
        mine = Settings(data_dir=folder)
        return make_context(mine, database, clock, Repository(folder / "tuf", folder / "keys", clock))

    world = World(make, tmp_path, clock)
    found: list[str] = []
    for endpoint in STORIES:
        if world.me is not None and world.fleet is None:
            ready(world)
        found += faults_of(world, endpoint)
    assert found == [], "\n".join(found)
    walked = changing(world.app)
    assert walked - STORIES.keys() - EXCEPTIONS.keys() == set(), "each of these needs a story that leaves a row, or a reason"
    assert (STORIES.keys() | EXCEPTIONS.keys()) - walked == set(), "there are no such routes any more"
    assert STORIES.keys() & EXCEPTIONS.keys() == set()
    everything = json.dumps([[one.who, one.what, one.target, one.before, one.after] for one in rows(world, 0)])
    assert [secret for secret in world.secrets if secret in everything] == []
    assert "canary" not in everything
    assert audit.checked(world.context.database).findings == []
    world.context.database.dispose()
