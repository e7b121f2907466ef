"""The factory slot: what the board runs before its first update, verified against the root that came with it."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.errors import BoardError, DiskFullError, OwnerError
from ota.bundle.errors import BundleError, Refusal
from ota.bundle.reader_disk import Bundle, open_bundle, verify_bundle
from ota.bundle.variants import files_for, resolve
from ota.slots.errors import SlotError
from ota.slots.slots_disk import Slots
from ota.wire.enrolment import BoardFacts

log = logging.getLogger(__name__)


class FactoryRefusedError(OwnerError):
    """The factory bundle is not what the board's root has signed, or no bundle at all."""


class NoVariantError(BoardError):
    """No variant of the factory release fits this board; the message says why for each."""


def install_factory(slots: Slots, bundle_file: Path, root_file: Path, facts: BoardFacts, scratch: Path) -> None:
    """Install the factory bundle where there is none yet. Raises FactoryRefusedError, NoVariantError or DiskFullError."""
    if slots.factory() is not None:
        return
    bundle = _verified(bundle_file, root_file)
    resolution = resolve(bundle.manifest, facts)
    if resolution.variant is None:
        raise NoVariantError(
            f"{bundle.manifest.release} cannot run on this board ({facts.board_model}): {resolution.reason}",
            "choose another factory bundle, or install what is missing",
        )
    try:
        with _unpacked(bundle, files_for(bundle.manifest, resolution.variant, facts), scratch) as files:
            slots.stage(bundle.manifest_bytes, files)
        slots.set_factory(bundle.manifest_sha256)
    except SlotError as error:
        raise BoardError(f"the factory release cannot be installed: {error}", "check the disk of this board") from None
    except OSError as error:
        raise DiskFullError(f"the factory release cannot be unpacked: {error.strerror}", "free some space on the board") from None
    log.info("factory release %s installed, variant %s: %s", bundle.manifest.release, resolution.variant.id, resolution.reason)


def _verified(bundle_file: Path, root_file: Path) -> Bundle:
    try:
        root = root_file.read_bytes()
        bundle = open_bundle(bundle_file)
    except OSError as error:
        raise FactoryRefusedError(f"{error.filename}: {error.strerror}", "check [factory] in agent.toml") from None
    except BundleError as error:
        raise FactoryRefusedError(f"{bundle_file} is not a bundle: {error}", "copy the file to the board again") from None
    # The bundle came with the board, as the root did: it may have lain in a drawer, so it is judged as of the day it was made.
    outcome = verify_bundle(bundle_file, root, bundle.manifest.created_s)
    if isinstance(outcome, Refusal):
        raise FactoryRefusedError(
            f"{bundle_file} is refused ({outcome.code}): {outcome.detail}", "use a bundle signed under the root of this fleet"
        )
    return bundle


@contextmanager
def _unpacked(bundle: Bundle, paths: list[str], scratch: Path) -> Iterator[dict[str, Path]]:
    """These files of the bundle in a folder of their own, gone afterwards."""
    folder = scratch / "factory"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        files: dict[str, Path] = {}
        for number, path in enumerate(paths):
            files[path] = folder / str(number)
            with files[path].open("wb") as target:
                for chunk in bundle.chunks(path):
                    target.write(chunk)
        yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)
