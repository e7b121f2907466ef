"""The repository for devices (static files), and for releasers the way into it."""

import json
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, request, send_from_directory
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.audit import service as audit
from fleet_server.context import context
from fleet_server.errors import ForbiddenError, InvalidError, NotFoundError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.releases import seen, service
from fleet_server.releases.published_disk import published_channels, tuf_folder
from fleet_server.releases.reconciling import Standing
from ota.bundle.archive import CHUNK_BYTES
from ota.bundle.manifest import MAX_FILE_BYTES
from ota.trust.expiry_warnings import expiry_warnings
from ota.trust.keys import key_to_dict
from ota.trust.refusal import Refusal
from ota.wire.topics import BUNDLES, METADATA

operator = APIBlueprint("releases", __name__, url_prefix="/api/v1")
device = Blueprint("releases_device", __name__)

MAX_PUBLISH_BYTES = 32 * 1024 * 1024
"""Channel metadata and a few manifests."""
IMMUTABLE = "public, max-age=31536000, immutable"


class ChannelPath(BaseModel):
    """A channel."""

    channel: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")


class ContentPath(BaseModel):
    """A content file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ReleasePath(BaseModel):
    """A release."""

    release: str = Field(max_length=200)


class YankBody(BaseModel):
    """Why a release is not to be offered any more."""

    reason: str = Field(min_length=1, max_length=500)


class ContentsBody(BaseModel):
    """Content files by their hashes."""

    sha256: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(max_length=2000)


class RootBody(BaseModel):
    """Signed root and top-level targets; either may be missing when it does not change."""

    root: dict[str, Any] | None = None
    targets: dict[str, Any] | None = None


class OnlineKeysBody(BaseModel):
    """The online roles that are to get a next key."""

    roles: list[Literal["snapshot", "timestamp", "assignment"]] = Field(min_length=1, max_length=3)


class PublishBody(BaseModel):
    """Signed channel metadata, and the exact text of each manifest and acceptance set that it adds."""

    metadata: dict[str, Any]
    manifests: list[str] = Field(default_factory=list, max_length=200)


@device.get(f"{METADATA}/<path:file>")
def get_metadata_file(file: str) -> Response:
    """A metadata file, as it lies on the disk."""
    response = send_from_directory(tuf_folder(context().settings.data_dir) / "metadata", file, mimetype="application/json")
    # timestamp.json is the one name whose content changes; a proxy that kept it would hide what is new. A numbered one may be
    # kept for an hour, not for ever: after a restore the same number can be signed anew.
    response.headers["Cache-Control"] = "public, max-age=3600" if file[:1].isdigit() else "no-cache"
    return response


@device.get(f"{BUNDLES}/<path:file>")
def get_bundle_file(file: str) -> Response:
    """A manifest or content file; Range is supported."""
    folder = tuf_folder(context().settings.data_dir) / "targets"
    response = send_from_directory(folder, file, mimetype="application/octet-stream", conditional=True)
    # The name holds the hash: whatever is behind it never changes, and what was fetched wrong is found out by whoever fetched it.
    response.headers["Cache-Control"] = IMMUTABLE
    return response


@operator.get("/trust")
@require("viewer", reach="filtered")
def get_trust() -> Response:
    """What is published, and the public halves of the online keys, which the offline root must name."""
    repository = context().repository
    status = repository.status()
    keys = {role: key_to_dict(key) for role, key in repository.online_keys().items()}
    following = {role: key_to_dict(key) for role, key in repository.next_online_keys().items()}
    # What devices have seen is counted over the whole fleet: not for whoever is limited to a part of it.
    standing, state = Standing(), "unknown"
    if reach_here() is None:
        with context().database.read() as session:
            standing = seen.standing(session, repository.versions())
        state = standing.state
    return reply({
        "initialised": status.initialised, "root_version": status.root_version, "versions": status.versions,
        "channels": status.channels, "expires_s": status.expires_s, "problems": status.problems,
        "online_keys": keys, "next_online_keys": following,
        "warnings": [one.text for one in expiry_warnings(status.expires_s, context().clock())],
        "reconcile": {"state": state, "texts": standing.texts, "behind": standing.behind},
    })  # fmt: skip


@operator.post("/trust/online-keys")
@require("admin")
def post_online_keys(body: OnlineKeysBody) -> Response:
    """Make the next online keys of these roles; they do nothing until the offline-signed root (or targets) names them."""
    here = context()
    before = {role: key_to_dict(key)["keyval"] for role, key in here.repository.next_online_keys().items()}
    keys = {role: key_to_dict(key) for role, key in here.repository.next_online_keys(body.roles).items()}
    with here.database.write() as session:
        audit.record(
            session, who=current_operator().name, what="trust.online-keys", target=",".join(sorted(set(body.roles))),
            before=before, after={role: key["keyval"] for role, key in keys.items()}, origin=origin(), now_s=here.clock(),
        )  # fmt: skip
    return reply({"next_online_keys": keys}, 201)


@operator.post("/trust/root")
@require("admin")
def post_root(body: RootBody) -> Response:
    """Take root and targets: the first time any root signed by its own threshold, later by the chain rules."""
    here = context()
    before = dict(here.repository.versions())
    outcome = here.repository.initialise(_text(body.root), _text(body.targets), None)
    if isinstance(outcome, Refusal):
        service.refuse(outcome)
    status = here.repository.status()
    with here.database.write() as session:
        audit.record(
            session, who=current_operator().name, what="trust.root", target=str(status.root_version), before=before,
            after=dict(status.versions), origin=origin(), now_s=here.clock(),
        )  # fmt: skip
    return reply({"root_version": status.root_version, "channels": status.channels, "initialised": status.initialised}, 201)


@operator.post("/content/missing")
@require("releaser")
def post_missing(body: ContentsBody) -> Response:
    """Which of these content files are not in the store (or damaged there): only those need be sent."""
    repository = context().repository
    asked = dict.fromkeys(body.sha256)  # each file is read once, however often it is asked for
    return reply({"missing": [sha256 for sha256 in asked if repository.content_problem(sha256) is not None]})


@operator.put("/content/<sha256>")
@require("releaser")
def put_content(path: ContentPath) -> Response:
    """One content file under its hash: 201, or 200 when it was there."""
    request.max_content_length = MAX_FILE_BYTES
    outcome = context().repository.put_content(path.sha256, request.stream)
    if isinstance(outcome, Refusal):
        service.refuse(outcome)
        raise InvalidError(str(outcome))
    # Bytes that were there already were not read: without reading them the connection would end under the client's hands.
    while request.stream.read(CHUNK_BYTES):
        pass
    if outcome.new:
        here = context()
        with here.database.write() as session:
            audit.record(
                session, who=current_operator().name, what="content.put", target=outcome.sha256,
                after={"length_bytes": outcome.length_bytes}, origin=origin(), now_s=here.clock(),
            )  # fmt: skip
    return reply({"sha256": outcome.sha256, "length_bytes": outcome.length_bytes}, 201 if outcome.new else 200)


@operator.get("/channels/<channel>/metadata")
@require("viewer", reach="nobody")
def get_channel(path: ChannelPath) -> Response:
    """The present signed metadata of a channel, for the offline signer."""
    found = context().repository.channel_metadata(path.channel)
    if found is None:
        raise NotFoundError(f"nothing was published on channel {path.channel} yet", "begin with version 1")
    return Response(found, mimetype="application/json")


@operator.post("/channels/<channel>/metadata")
@require("releaser")
def post_channel(path: ChannelPath) -> Response:
    """Publish signed channel metadata; sending again what is published changes nothing."""
    request.max_content_length = MAX_PUBLISH_BYTES
    body = PublishBody.model_validate(request.get_json())
    here, who = context(), current_operator()
    if "releaser" not in who.scopes:
        raise ForbiddenError("publishing needs the scope 'releaser'")
    present = here.repository.channel_metadata(path.channel)
    before = here.repository.versions().get(path.channel)
    if present is None or json.loads(present) != body.metadata:
        metadata = _text(body.metadata)
        with here.database.read() as session:
            newest = seen.believed_version(session, path.channel, here.repository.versions())
        try:
            manifests = [text.encode() for text in body.manifests]
        except UnicodeEncodeError:
            raise InvalidError("$.manifests: holds half of a character", "send the manifests as they were signed") from None
        outcome = here.repository.publish_channel(path.channel, metadata or b"", manifests, seen=newest)
        if isinstance(outcome, Refusal):
            service.refuse(outcome)
    listed = published_channels(here.repository, here.settings.data_dir)
    version = here.repository.versions()[path.channel]
    with here.database.write() as session:
        changed = service.take_over(session, listed, here.clock())
        if changed or version != before:
            service.note_published(
                session, path.channel, changed, (before, version), who=who.name, origin=origin(), now_s=here.clock()
            )
    return reply({"channel": path.channel, "version": version, "changed": changed}, 201)


@operator.get("/releases")
@require("viewer", reach="nobody")
def list_releases() -> Response:
    """All releases, newest first."""
    with context().database.read() as session:
        return reply_list(service.releases(session))


@operator.get("/releases/<release>")
@require("viewer", reach="nobody")
def get_release(path: ReleasePath) -> Response:
    """One release, with what is wrong with its files in the server's own store."""
    here = context()
    with here.database.read() as session:
        found = service.release(session, path.release)
        manifest = service.manifest_of(session, path.release)
    return reply(service.with_content_problems(found, manifest, here.repository))


@operator.post("/releases/<release>/yank")
@require("releaser")
def post_yank(path: ReleasePath, body: YankBody) -> Response:
    """Advisory yank: offer the release no longer. Only the channel signed anew without it makes boards refuse it."""
    return _advise(path.release, body.reason)


@operator.delete("/releases/<release>/yank")
@require("releaser")
def delete_yank(path: ReleasePath) -> Response:
    """Take an advisory yank back."""
    return _advise(path.release, "")


def _advise(release: str, reason: str) -> Response:
    here = context()
    with here.database.write() as session:
        who = current_operator().name
        return reply(service.advise(session, release, reason, who=who, now_s=here.clock(), origin=origin()))


def _text(metadata: dict[str, Any] | None) -> bytes | None:
    # Signatures cover TUF's canonical form of the content, so writing the JSON anew harms none of them.
    return None if metadata is None else json.dumps(metadata, separators=(",", ":")).encode()
