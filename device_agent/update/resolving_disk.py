"""The first action: what was assigned against signed metadata, the device rule, this board's conditions and its room."""

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from device_agent.update.assignment_rule import judge_manifest, judge_target
from device_agent.update.conditions_disk import Conditions
from device_agent.update.deployment import LOCAL, Deployment, Event
from device_agent.update.downloads_disk import Downloads
from device_agent.update.policy import Policy
from device_agent.update.ports import Trust
from models.golden import GoldenError, parse_acceptance
from ota.bundle.errors import BundleError
from ota.bundle.manifest import MODEL, Manifest, Variant, parse_manifest
from ota.bundle.variants import resolve
from ota.slots.errors import SlotError
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle
from ota.wire.enrolment import BoardFacts


class Source(Protocol):
    """Where the signed manifest of a deployment comes from: metadata from the server, or a bundle that lies on the board."""

    def manifest(self, bundle: AssignedBundle) -> bytes | Refusal:
        """Its bytes, verified up to the trusted root, in a channel that the policy allows."""
        ...

    def document(self, path: str, sha256: str) -> bytes | Refusal | None:
        """Another signed target by path and digest: the channel's acceptance set; None where it is not at hand at all."""
        ...


class TrustSource:
    """The server's metadata, fetched anew and verified; ``policy`` says which channels may be installed."""

    def __init__(self, trust: Trust, policy: Policy) -> None:
        self._trust, self._policy = trust, policy

    def manifest(self, bundle: AssignedBundle) -> bytes | Refusal:
        """Its bytes, where assignment and metadata agree about it."""
        refused = self._trust.refresh()
        refused = refused or judge_target(bundle, self._trust.find(bundle.path), self._policy)
        return refused or self._trust.manifest(bundle.path, bundle.sha256, bundle.length_bytes)

    def document(self, path: str, sha256: str) -> bytes | Refusal:
        """Another target."""
        return self._trust.manifest(path, sha256)


class Places(Protocol):
    """Install places whose old ones can go; ``ota.slots.slots_disk.Slots`` fits. Both raise SlotError."""

    def collect_garbage(self, keep: Collection[str]) -> list[str]:
        """Remove what nothing points to and ``keep`` does not name."""
        ...

    def give_up_previous(self) -> bool:
        """Let what ran before go, too; False when there was nothing."""
        ...


class Resolving:
    """Performs ``resolve``. Nothing is fetched but signed documents, and nothing is kept before everything has passed.

    ``kind`` is that of the releases that belong here: a model's is never taken for an agent's.
    """

    def __init__(
        self,
        conditions: Conditions,
        downloads: Downloads,
        slots: Places,
        policy: Policy,
        facts: Callable[[], BoardFacts],
        kind: str = MODEL,
    ) -> None:
        self._kind = kind
        self._conditions, self._downloads, self._slots = conditions, downloads, slots
        self._policy, self._facts = policy, facts

    def resolve(self, deployment: Deployment, floor: int, source: Source) -> Event:
        """``resolved``, ``blocked`` by this board, or ``failed`` with the wire's reason code. Raises OSError."""
        carried = deployment.origin == LOCAL
        obstacle = self._conditions.obstacle()
        if obstacle is not None and not (carried and obstacle.reason == "metered"):
            return obstacle
        bundle = deployment.bundle
        data = source.manifest(bundle)
        if isinstance(data, Refusal):
            return failed(data)
        try:
            manifest = parse_manifest(data)
        except BundleError as error:
            return failed(Refusal("format", f"manifest: {error}"))
        facts = self._facts()
        refused = judge_manifest(bundle, manifest, facts, floor, self._kind)
        if refused is not None:
            return failed(refused)
        resolution = resolve(manifest, facts)
        learned = {"counter": manifest.counter, "min_counter": manifest.min_counter, "variant_reason": resolution.reason}
        if resolution.variant is None:
            return Event(kind="failed", reason="variant", detail=resolution.reason, learned=learned)
        learned["variant"] = resolution.variant.id
        acceptance = _acceptance(manifest, source)
        if isinstance(acceptance, Refusal):
            return Event(kind="failed", reason=acceptance.code, detail=acceptance.detail, learned=learned)
        obstacle = self._make_room(bundle, manifest, resolution.variant, carried=carried)
        if obstacle is not None:
            return msgspec.structs.replace(obstacle, learned={**learned, **obstacle.learned})
        self._downloads.keep(bundle.sha256, data)
        if manifest.golden.acceptance is not None:
            self._downloads.keep_or_miss(manifest.golden.acceptance.sha256, acceptance)
        return Event(kind="resolved", learned=learned)

    def _make_room(self, bundle: AssignedBundle, manifest: Manifest, variant: Variant, *, carried: bool) -> Event | None:
        """Old things go before new ones come; then disk, memory and the line's budget must hold what is coming."""
        acceptance = manifest.golden.acceptance
        keep = {bundle.sha256} | ({acceptance.sha256} if acceptance is not None else set())
        self._downloads.clear_others(manifest, variant, frozenset(keep))
        try:
            self._slots.collect_garbage({bundle.sha256})
            short = self._downloads.room(manifest, variant)
            if short is not None and self._slots.give_up_previous():
                # What ran before goes anyway once this one runs: where the card is full, it goes earlier.
                self._slots.collect_garbage({bundle.sha256})
                short = self._downloads.room(manifest, variant)
        except SlotError as error:
            return failed(Refusal(error.code, error.detail))
        if short is not None:
            return failed(short)
        few = self._conditions.too_little_memory(manifest.budget.memory_bytes)
        return few or (None if carried else self._conditions.too_much(self._downloads.missing_bytes(manifest, variant)))


def failed(refusal: Refusal) -> Event:
    """A refusal as the event that the machine judges."""
    return Event(kind="failed", reason=refusal.code, detail=refusal.detail)


def _acceptance(manifest: Manifest, source: Source) -> bytes | Refusal | None:
    named = manifest.golden.acceptance
    if named is None:
        return None
    if not named.path.startswith(f"{manifest.channel}/acceptance/"):
        return Refusal("channel", f"the acceptance set {named.path} is not of the channel {manifest.channel}")
    data = source.document(named.path, named.sha256)
    if data is None or isinstance(data, Refusal):
        return data
    try:
        parse_acceptance(data)
    except GoldenError as error:
        return Refusal("format", str(error))
    return data
