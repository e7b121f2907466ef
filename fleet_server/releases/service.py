"""Releases as signed channel metadata lists them. The rows are a cache: ``take_over`` makes them anew from what is published."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.errors import ConflictError, InvalidError, NotFoundError, StoreFullError
from fleet_server.releases.published_disk import ListedChannel, ListedRelease
from fleet_server.releases.tables import ChannelRow, ReleaseRow
from ota.bundle.manifest import Manifest, parse_manifest, travelling
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository


@dataclass(frozen=True, slots=True)
class VariantEntry:
    """One variant and what a device fetches for it."""

    id: str
    accelerator: str
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Release:
    """One release as the API shows it. ``sha256`` and ``length_bytes`` are the manifest's; ``kind`` is model or agent.

    ``yanked``: no longer in the channel's signed metadata, which every board finds by itself. ``advisory``: why the server
    offers it no longer; the signature still stands, so that a board that was told before, or a USB stick, may install it.
    """

    release: str
    kind: str
    name: str
    version: str
    channel: str
    counter: int
    sha256: str
    path: str
    length_bytes: int
    created_s: float
    acceptance: str | None
    parity_only: bool
    variants: list[VariantEntry]
    yanked: bool
    problems: list[str]
    advisory: str = ""


def refuse(refusal: Refusal) -> None:
    """Raise what a refusal of the repository means for whoever asked."""
    kind = {"sequence": ConflictError, "mismatch": ConflictError, "disk": StoreFullError}.get(refusal.code, InvalidError)
    raise kind(str(refusal))


def take_over(session: Session, channels: Sequence[ListedChannel], now_s: float) -> list[str]:
    """Make the rows say what the published channels say; answers the releases that are new or yanked since. Idempotent."""
    changed: list[str] = []
    for channel in channels:
        if channel.releases is None:
            continue  # damaged on this disk: what was known of it stays until it can be read again
        rows = {row.path: row for row in session.scalars(select(ReleaseRow).where(ReleaseRow.channel == channel.channel))}
        for listed in channel.releases:
            row = rows.pop(listed.path, None)
            changed += _take_over_one(session, channel.channel, listed, row, now_s)
        for row in rows.values():
            if not row.yanked:
                row.yanked = True
                changed.append(row.release)
        known = session.get(ChannelRow, channel.channel)
        if known is None:
            session.add(ChannelRow(channel=channel.channel, version=channel.version, updated_s=now_s))
        elif known.version != channel.version:
            known.version, known.updated_s = channel.version, now_s
    if changed:
        note_change(session, "releases")
    return changed


def _take_over_one(session: Session, channel: str, listed: ListedRelease, row: ReleaseRow | None, now_s: float) -> list[str]:
    problems = [listed.problem] if listed.problem else []
    if row is not None:
        changed = row.yanked or row.problems != problems
        row.yanked, row.problems = False, problems
        return [row.release] if changed else []
    manifest = listed.manifest
    if manifest is None:
        return []  # nothing is known of it but its path; it appears when its manifest can be read
    other = session.get(ReleaseRow, manifest.release)
    if other is not None:
        other.problems = [f"{listed.path} bears the same name and version; a release belongs to one channel"]
        return [manifest.release]
    session.add(
        ReleaseRow(
            release=manifest.release, kind=manifest.kind, name=manifest.name, version=manifest.version, channel=channel,
            counter=manifest.counter, sha256=listed.sha256, path=listed.path, length_bytes=listed.length_bytes,
            created_s=float(manifest.created_s), published_s=now_s, yanked=False,
            acceptance=manifest.golden.acceptance.path if manifest.golden.acceptance else None,
            problems=problems, manifest=listed.text,
        )
    )  # fmt: skip
    return [manifest.release]


def note_published(
    session: Session, channel: str, releases: Sequence[str], versions: tuple[int | None, int], *, who: str, origin: str,
    now_s: float,
) -> None:  # fmt: skip
    """Write down who published what: the releases that are new or yanked, and the channel's version before and after."""
    audit.record(
        session, who=who, what="channel.publish", target=channel, before={"version": versions[0]},
        after={"version": versions[1], "releases": list(releases)}, origin=origin, now_s=now_s,
    )  # fmt: skip


def is_behind(session: Session, repository: Repository) -> bool:
    """Whether a channel is published in another version than the rows were made from (a crash between disk and database)."""
    known = {row.channel: row.version for row in session.scalars(select(ChannelRow))}
    return known != {**known, **repository.status().channels}


def releases(session: Session) -> list[Release]:
    """All releases, the newest first."""
    return [
        _release(row)
        for row in session.scalars(select(ReleaseRow).order_by(ReleaseRow.published_s.desc(), ReleaseRow.counter.desc()))
    ]


def release(session: Session, name: str) -> Release:
    """One release by ``name@version``; NotFoundError."""
    row = session.get(ReleaseRow, name)
    if row is None:
        raise NotFoundError(f"there is no release {name!r}", "`rookery bundle list` lists them; push a bundle to make one")
    return _release(row)


def find_release(session: Session, name: str) -> Release | None:
    """One release by ``name@version``, or None."""
    row = session.get(ReleaseRow, name)
    return _release(row) if row is not None else None


def release_of(session: Session, sha256: str) -> str | None:
    """The name of the release with this manifest, unless it was yanked; None where none is known."""
    query = select(ReleaseRow.release).where(ReleaseRow.sha256 == sha256, ReleaseRow.yanked.is_(False))
    return session.scalars(query.limit(1)).first()


def advise(session: Session, name: str, reason: str, *, who: str, now_s: float, origin: str = "") -> Release:
    """Offer the release no longer, and say why; an empty reason takes that back. The signed metadata stays as it is."""
    row = session.get(ReleaseRow, name)
    if row is None:
        raise NotFoundError(f"there is no release {name!r}", "`rookery bundle list` lists them")
    if row.advisory != reason:
        before, row.advisory = row.advisory, reason
        audit.record(
            session, who=who, what="release.yank" if reason else "release.unyank", target=name, before={"advisory": before},
            after={"advisory": reason}, origin=origin, now_s=now_s,
        )  # fmt: skip
        note_change(session, "releases")
    return _release(row)


def manifest_of(session: Session, name: str) -> Manifest | None:
    """The manifest of a release, or None."""
    row = session.get(ReleaseRow, name)
    return parse_manifest(row.manifest.encode()) if row is not None else None


def with_content_problems(found: Release, manifest: Manifest | None, repository: Repository) -> Release:
    """The release with what is wrong with its content files in the store. Reads them whole."""
    if manifest is None:
        return found
    problems = list(found.problems)
    for path, entry in sorted(manifest.files.items()):
        problem = repository.content_problem(*travelling(entry))
        if problem is not None:
            problems.append(f"{path} {problem}")
        for delta in entry.deltas:
            problem = repository.content_problem(delta.sha256, delta.length_bytes)
            if problem is not None:
                problems.append(f"the patch of {path} from {delta.base_sha256[:12]}… {problem}")
    return replace(found, problems=problems)


def _release(row: ReleaseRow) -> Release:
    manifest = parse_manifest(row.manifest.encode())
    variants = [
        VariantEntry(one.id, one.accelerator, sum(travelling(manifest.files[path])[1] for path in one.files))
        for one in manifest.variants
    ]
    return Release(
        row.release, row.kind, row.name, row.version, row.channel, row.counter, row.sha256, row.path, row.length_bytes,
        row.created_s, row.acceptance, row.acceptance is None, variants, row.yanked, [str(each) for each in row.problems],
        row.advisory,
    )  # fmt: skip
