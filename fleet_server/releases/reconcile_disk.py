"""Brings a restored server above what its devices have seen; remembers when it did so on one device's word alone."""

import json
import logging
from pathlib import Path

from fleet_server.releases.reconciling import ALONE_EVERY_S, Standing
from ota.durable_disk import write_whole
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository

log = logging.getLogger(__name__)


def sign_above(repository: Repository, folder: Path, standing: Standing, now_s: float) -> str:
    """Sign above what ``standing`` says, if anything; answers what is left to be told (empty: nothing).

    On the word of one device it moves once a day: what it may push the server by stays bounded, however often it speaks.
    """
    if not standing.lift:
        return ""
    last_s = _last_alone_s(folder)
    if standing.alone and 0 <= now_s - last_s < ALONE_EVERY_S:
        return "one device alone says for the second time in a day that it has seen more than this server signed: not believed"
    before = repository.versions()
    refused = repository.sign_above(standing.lift)
    if isinstance(refused, Refusal):
        return f"the server cannot sign above what devices have seen: {refused.detail}"
    after = {role: version for role, version in repository.versions().items() if role in standing.lift}
    log.warning("reconcile: devices had seen %s, this server had signed %s: signed %s", standing.lift, before, after)
    if standing.alone:
        write_whole(folder / "reconcile.json", json.dumps({"v": 1, "alone_s": now_s, "versions": after}).encode())
    return ""


def _last_alone_s(folder: Path) -> float:
    try:
        return float(json.loads((folder / "reconcile.json").read_bytes())["alone_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return -ALONE_EVERY_S
