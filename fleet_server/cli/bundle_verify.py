"""``rookery bundle verify`` and ``info``: is this bundle what was signed, and what is in it for which board."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.bundle_files import FILE, check_model_signature, instant, open_file, read_file, release_keys, trusted_root
from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.key_status import talk_of_ends
from fleet_server.cli.output import clock, print_one, size
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from ota.bundle.manifest import Manifest
    from ota.bundle.reader_disk import Bundle, Verified
    from ota.wire.enrolment import BoardFacts


@click.command()
@click.argument("file", type=FILE)
@click.option("--root", "root_file", type=FILE, help="The root to judge by (else the pinned one, else root.json beside FILE).")
@click.option("--at", metavar="TIME", help="Judge expiry as of then: ISO 8601 (UTC), or seconds since 1970.")
@pass_session
def verify(session: Session, file: Path, root_file: Path | None, at: str | None) -> None:
    """Check form, signatures, expiry and every byte of content; exit code 5 and the reason for anything wrong.

    A root inside of a bundle is never trusted: compare the fingerprint that is printed with the signers of your root.
    """
    from ota.bundle.offline import ChainError
    from ota.bundle.offline_chain import root_fingerprint

    root, where = trusted_root(root_file, file)
    try:
        fingerprint = root_fingerprint(root)
    except ChainError as error:
        raise CliError(CONFLICT, f"the trusted root ({where}) is none: {error.refusal.detail}") from None
    outcome = verified(file, root, instant(at))
    bundle = open_file(file)
    signed_model = check_model_signature(bundle, release_keys(bundle))
    ends_s = expiries(bundle)
    body = {
        "release": outcome.manifest.release, "target": outcome.path, "sha256": outcome.manifest_sha256,
        "root_fingerprint": fingerprint, "root_from": where, "versions": outcome.versions, "expires_s": ends_s,
        "model_signature": signed_model,
    }  # fmt: skip
    first = min(ends_s, key=lambda role: ends_s[role])
    lines = [
        ("release", body["release"]), ("target", body["target"]), ("sha256", body["sha256"]),
        ("root", f"{fingerprint} ({where})"),
        ("versions", ", ".join(f"{role} {version}" for role, version in outcome.versions.items())),
        ("expires", f"{first}: {clock(ends_s[first])}"),
        ("model.sig", "holds, by a key of the channel" if signed_model else "none"),
        ("verdict", "signatures, expiry and all content are right"),
    ]  # fmt: skip
    print_one(body, lines, session.output, "release")
    if at is None:
        talk_of_ends(ends_s)


def verified(file: Path, root: bytes, now_s: float, name: str = "") -> "Verified":
    """The bundle's verdict; CliError (exit 5) with the reason code for anything wrong, and words of its own for expiry."""
    from ota.bundle.errors import Refusal
    from ota.bundle.reader_disk import verify_bundle

    outcome = verify_bundle(file, root, now_s)
    if not isinstance(outcome, Refusal):
        return outcome
    if outcome.code == "disk":
        raise CliError(FAILURE, outcome.detail)
    if outcome.code == "expired":
        raise CliError(
            CONFLICT, f"{name or file.name} has expired (expired): {outcome.detail}; signatures and content are right",
            "have the role signed again, or see what was right then with --at TIME",
        )  # fmt: skip
    raise CliError(CONFLICT, f"{name or file.name} is refused ({outcome.code}): {outcome.detail}")


def expiries(bundle: "Bundle") -> dict[str, float]:
    """Role -> end, seconds since 1970, of the metadata in a bundle that is verified."""
    from ota.bundle.tuf_types import Metadata

    metadata = bundle.metadata()
    roots = [name for name in metadata if name.endswith(".root.json")]
    names = {"targets": "targets.json", bundle.manifest.channel: f"{bundle.manifest.channel}.json"}
    if roots:
        names["root"] = max(roots, key=lambda name: int(name.partition(".")[0]))
    return {role: Metadata.from_bytes(metadata[name]).signed.expires.timestamp() for role, name in names.items()}


@click.command()
@click.argument("file", type=FILE)
@click.option("--for", "board", metavar="DEVICE|FACTS.json|PROFILE", help="Which variant this board would get, and why.")
@pass_session
def info(session: Session, file: Path, board: str | None) -> None:
    """Show what a bundle holds; nothing is verified.

    --for takes a device (asked of the server), a file of facts as the board tells them, or the id of a board profile.
    """
    import msgspec

    opened = open_file(file)
    manifest = opened.manifest
    lines = [*_about(opened), *_contents(manifest)]
    body: dict[str, Any] = {**msgspec.to_builtins(manifest), "signed": sorted(opened.metadata())}
    if board:
        choice = choose(manifest, _facts(session, board))
        lines.append((f"for {board}", choice["verdict"]))
        lines += [(f"  {one['variant']}", one["words"]) for one in choice["variants"]]
        body["for"] = {"board": board, **choice}
    print_one(body, lines, session.output, "name")


def _about(opened: "Bundle") -> list[tuple[str, Any]]:
    manifest = opened.manifest
    budget = manifest.budget
    limits = [f"{budget.latency_ms:g} ms"] if budget.latency_ms is not None else []
    limits += [size(budget.memory_bytes)] if budget.memory_bytes is not None else []
    return [
        ("release", manifest.release), ("kind", manifest.kind), ("sha256", opened.manifest_sha256),
        ("channel", manifest.channel), ("counter", f"{manifest.counter}, floor {manifest.min_counter}"),
        ("hardware", ", ".join(manifest.hardware)), ("labels", ", ".join(manifest.labels)),
        ("budget", ", ".join(limits) or "none"), ("parity", manifest.golden.parity or "none"),
        ("acceptance", manifest.golden.acceptance.path if manifest.golden.acceptance else "none: parity only"),
        ("model.sig", manifest.model_signature or "none"),
        *[(f"from {key}", value) for key, value in sorted(manifest.provenance.items())],
        *_statement(opened),
        ("signed", ", ".join(sorted(opened.metadata())) or "no"),
    ]  # fmt: skip


def _contents(manifest: "Manifest") -> list[tuple[str, Any]]:
    from ota.bundle.manifest import travelling

    lines: list[tuple[str, Any]] = []
    for one in manifest.variants:
        travel_bytes = sum(travelling(manifest.files[path])[1] for path in one.files)
        built = one.accelerator or f"{one.abi}, {', '.join(one.machines)}"
        what = f"{one.model}, card {one.card}" if one.model else f"{len(one.files)} wheels"
        bits = f", {one.word_bits}-bit" if one.word_bits else ""
        used_bytes = sum(manifest.files[path].length_bytes for path in one.files)
        lines.append((f"variant {one.id}", f"{built}{bits}, {what}, {size(used_bytes)}, {size(travel_bytes)} to fetch"))
    deltas = [(path, delta) for path, entry in manifest.files.items() for delta in entry.deltas]
    lines += [(f"delta {path}", f"{size(delta.length_bytes)} from {delta.base_sha256[:12]}…") for path, delta in deltas]
    return lines


def _statement(opened: "Bundle") -> list[tuple[str, Any]]:
    """An in-toto statement in words: who built what of which sources. Shown, not judged."""
    from ota.bundle.errors import BundleError

    path = opened.manifest.provenance_statement
    if path is None:
        return []
    try:
        said = json.loads(opened.read(path))
        predicate = said.get("predicate", {})
        build = predicate.get("buildDefinition", {})
        builder = predicate.get("runDetails", {}).get("builder", {}).get("id", "-")
        sources = build.get("resolvedDependencies", [])
        words = [f"{said.get('predicateType', 'no predicate type')}, built by {builder}"]
        words += [str(one.get("uri", one.get("name", "-"))) for one in sources[:5]]
    except (BundleError, ValueError, AttributeError, TypeError, RecursionError):
        return [("provenance", f"{path} cannot be read as an in-toto statement")]
    return [("provenance", f"{path}: " + "; of ".join(words))]


def choose(manifest: "Manifest", facts: "BoardFacts") -> dict[str, Any]:
    """Which variant a board gets, in words, and what is to be said of each."""
    from ota.bundle.variants import explain, hardware_problem, resolve

    found = resolve(manifest, facts)
    problem = hardware_problem(manifest, facts)
    verdict = f"{found.variant.id}: {found.reason}" if found.variant and not problem else f"none: {problem or found.reason}"
    variants = [{"variant": one.variant.id, "fits": one.fits, "chosen": one.chosen, "words": one.words}
                for one in explain(manifest, facts)]  # fmt: skip
    return {"variant": found.variant.id if found.variant and not problem else None, "verdict": verdict, "variants": variants}


def _facts(session: Session, board: str) -> "BoardFacts":
    import msgspec

    from ota.wire.enrolment import BoardFacts

    profiles = _profile_facts(board)
    if profiles is not None:
        return profiles
    if board.endswith(".json") or os.path.isfile(board):  # noqa: PTH113  # a path that may not be looked at is none
        try:
            raw = json.loads(read_file(Path(board)))
            return msgspec.convert(raw.get("facts", raw) if isinstance(raw, dict) else raw, BoardFacts)
        except (ValueError, RecursionError) as error:
            raise CliError(CONFLICT, f"{board} holds no facts of a board: {error}") from None
    return msgspec.convert(session.client().get(f"/devices/{segment(board)}")["facts"], BoardFacts)


def _profile_facts(board: str) -> "BoardFacts | None":
    """What a board of this profile is when all that belongs to it works; None where it is no profile."""
    from hardware.profile import all_profiles
    from ota.wire.enrolment import Accelerator, BoardFacts

    profile = all_profiles().get(board)
    if profile is None:
        return None
    edge = [Accelerator(kind=profile.accelerator, present=True, usable=True)] if profile.accelerator != "none" else []
    bits = 64 if "64" in profile.machine else 32
    return BoardFacts(
        profile=board, board_model=profile.name, machine=profile.machine, word_bits=bits, memory_bytes=min(profile.memory_bytes),
        accelerators=edge, runtimes={"litert": "any"} if bits == 64 else {"tflite-runtime": "any"}, python="3.11",
        agent_version="any",
    )  # fmt: skip
