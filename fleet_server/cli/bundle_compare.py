"""``rookery bundle diff``: what a board gets that goes from one release to another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.bundle_files import FILE, open_file
from fleet_server.cli.output import print_items, size
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from ota.bundle.manifest import Manifest, Variant
    from ota.bundle.reader_disk import Bundle

Row = dict[str, Any]


@click.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@pass_session
def diff(session: Session, old: Path, new: Path) -> None:
    """Compare two bundles: files, sizes, thresholds and all else of the cards, labels, budget, and what a board must fetch."""
    before, after = open_file(old), open_file(new)
    rows = [*_manifest_rows(before.manifest, after.manifest), *_card_rows(before, after)]
    rows += [*_file_rows(before.manifest, after.manifest), *_fetch_rows(before.manifest, after.manifest)]
    columns = [("what", lambda row: row["what"]), ("old", lambda row: row["old"]), ("new", lambda row: row["new"])]
    print_items(rows, columns, session.output, "what")


def _row(what: str, old: Any, new: Any) -> Row:
    return {"what": what, "old": old, "new": new}


def _manifest_rows(old: "Manifest", new: "Manifest") -> list[Row]:
    def listed(one: "Manifest") -> Row:
        return {
            "release": one.release, "kind": one.kind, "channel": one.channel, "counter": one.counter, "floor": one.min_counter,
            "hardware": ", ".join(one.hardware), "labels": ", ".join(one.labels), "budget latency_ms": one.budget.latency_ms,
            "budget memory_bytes": one.budget.memory_bytes, "variants": ", ".join(each.id for each in one.variants),
            "acceptance": one.golden.acceptance.path if one.golden.acceptance else None,
            **{f"provenance {key}": value for key, value in one.provenance.items()},
        }  # fmt: skip

    before, after = listed(old), listed(new)
    names = dict.fromkeys([*before, *after])
    return [_row(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _card_rows(old: "Bundle", new: "Bundle") -> list[Row]:
    """Every field of the cards that differs: thresholds, input, output; variant by variant."""
    rows: list[Row] = []
    earlier = {one.id: one for one in old.manifest.variants}
    for variant in new.manifest.variants:
        if variant.id in earlier and variant.card:
            before, after = _card(old, earlier[variant.id]), _card(new, variant)
            names = sorted(set(before) | set(after))
            rows += [
                _row(f"{variant.id} {name}", before.get(name), after.get(name)) for name in names
                if before.get(name) != after.get(name)
            ]  # fmt: skip
    return rows


def _card(bundle: "Bundle", variant: "Variant") -> dict[str, str]:
    import tomllib

    from ota.bundle.errors import BundleError

    try:
        return _flat("", tomllib.loads(bundle.read(variant.card).decode()))
    except (BundleError, ValueError, RecursionError) as error:
        return {"card": f"cannot be read: {error}"}


def _flat(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {name: text for key, one in value.items() for name, text in _flat(f"{prefix}{key}.", one).items()}
    return {prefix.rstrip("."): str(value)}


def _file_rows(old: "Manifest", new: "Manifest") -> list[Row]:
    rows: list[Row] = []
    for path in sorted(set(old.files) | set(new.files)):
        before, after = old.files.get(path), new.files.get(path)
        if before is None or after is None or before.sha256 != after.sha256:
            sizes = [f"{size(one.length_bytes)} {one.sha256[:12]}" if one else None for one in (before, after)]
            rows.append(_row(f"file {path}", *sizes))
    return rows


def _fetch_rows(old: "Manifest", new: "Manifest") -> list[Row]:
    """Bytes that a board fetches for each variant: from nothing, and with the old release on it."""
    rows = []
    earlier = {one.id: one for one in old.variants}
    for variant in new.variants:
        held = {old.files[path].sha256 for path in earlier[variant.id].files} if variant.id in earlier else set()
        full_bytes, with_old_bytes = fetch_bytes(new, variant, set()), fetch_bytes(new, variant, held)
        rows.append(_row(f"fetch {variant.id}", f"{full_bytes} B from nothing", f"{with_old_bytes} B with the old one there"))
    return rows


def fetch_bytes(manifest: "Manifest", variant: "Variant", held: set[str]) -> int:
    """What a board fetches that holds files of these digests: each file it lacks, as a patch where one from those is listed."""
    from ota.bundle.manifest import DELTA_ZSTD, travelling

    wanted = {manifest.files[path].sha256: manifest.files[path] for path in variant.files}
    total_bytes = 0
    for sha256, entry in wanted.items():
        if sha256 not in held:
            deltas = [one.length_bytes for one in entry.deltas if one.base_sha256 in held and one.encoding == DELTA_ZSTD]
            total_bytes += min([travelling(entry)[1], *deltas])
    return total_bytes
