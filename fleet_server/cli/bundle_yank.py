"""``rookery bundle yank``: a release is taken back, really or by the server's word; and the word to who still carries it."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_server.cli.bundle_files import FILE, read_file
from fleet_server.cli.errors import CONFLICT, NOT_FOUND, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, trust_option, write_file
from fleet_server.cli.output import talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client

ASKING_S = 5.0
"""How long a stick's maker waits for a server that may not be there."""


def warn_of_yank(session: Session, release: str, channel: str, end_s: float) -> None:
    """Say so when the server, where one can be asked, has taken this release back; a stick's maker may well have no line."""
    from fleet_server.cli.client_http import Client
    from fleet_server.cli.settings_disk import choose_target

    try:
        found = Client(choose_target(session.server, session.context), ASKING_S).get(f"/releases/{segment(release)}")
        yanked, advisory = bool(found["yanked"]), str(found.get("advisory") or "")
    except (CliError, KeyError, TypeError, AttributeError):
        return  # no server, no login, or it knows nothing of this release
    if yanked:
        end = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end_s))
        talk(f"warning: {release} was yanked from {channel}; this file's older metadata still lists it: boards that have not")
        talk(f"seen newer install it until {end}. Newer: rookery channel fetch {channel} --out FILE, export --metadata FILE")
    if advisory:
        talk(f"warning: the server offers {release} no more: {advisory}")


@click.command()
@click.argument("release", metavar="NAME@VERSION")
@click.option("--reason", required=True, help="What people read who ask where it went.")
@click.option("--advisory", is_flag=True, help="Only the server's word: it is offered no more; boards and sticks still may.")
@click.option("--undo", is_flag=True, help="With --advisory: offer it again.")
@click.option("--key", metavar="KEY", help="A release key of the channel: FILE, pkcs11:…, awskms:….")
@click.option("--draft", type=FILE, help="Where the channel needs several keys: the file that goes from signer to signer.")
@trust_option
@passphrase_option
@pass_session
def yank(
    session: Session, release: str, reason: str, advisory: bool, undo: bool, key: str | None, draft: Path | None, trust: Path,
    passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Take a release back. Real: its channel is signed anew without it; boards refuse it once they have seen that.

    Sticks that were made before hold the old metadata: they install it until that expires, unless a later release raises the
    floor (min_counter). What runs already runs on: roll out another release.
    """
    client = session.client()
    if advisory:
        _advise(client, release, reason, undo)
        return
    if undo:
        raise CliError(CONFLICT, "a real yank is not undone", "publish the release again: rookery bundle sign, push")
    if key is None:
        raise CliError(CONFLICT, "a real yank is signed: give a release key with --key", "or --advisory: the server's word alone")
    found = client.get(f"/releases/{segment(release)}")
    signed, complete = _without(session, client, found["path"], found["channel"], key, draft, trust, passphrase_file)
    if not complete:
        talk(f"the next signer runs the same command with --draft {draft}; nothing is published yet")
        return
    client.publish(f"/channels/{segment(found['channel'])}/metadata", {"metadata": json.loads(signed), "manifests": []})
    talk(f"{release} is yanked from {found['channel']} (real): boards refuse it once they have seen the channel's new metadata")
    try:
        client.post(f"/releases/{segment(release)}/yank", {"reason": reason})
    except CliError as error:
        if error.code not in (NOT_FOUND, CONFLICT):
            raise


def _advise(client: "Client", release: str, reason: str, undo: bool) -> None:
    path = f"/releases/{segment(release)}/yank"
    if undo:
        client.delete(path)
        talk(f"{release} is offered again")
        return
    client.post(path, {"reason": reason})
    talk(f"{release} is yanked (advisory): this server offers it no more; boards and sticks that have it still may install it")


def _without(
    session: Session, client: "Client", path: str, channel: str, key: str, draft: Path | None, trust: Path,
    passphrase_file: Path | None,
) -> tuple[bytes, bool]:  # fmt: skip
    """(the channel's next version without this target, whether enough have signed it); a draft of the same is signed further."""
    from fleet_server.cli.channels import least_version, present_metadata, published, read_trust, sign_channel
    from ota.trust.errors import TrustError
    from ota.trust.roles import CHANNEL_LIFE_S, parse_metadata, remove_target, signature_status

    _, targets = read_trust(trust)
    present = present_metadata(published(client, channel), targets, channel, least_version(client, channel))
    try:
        following = remove_target(present, path, time.time() + CHANNEL_LIFE_S)
        if draft is not None and os.path.lexists(draft):
            begun = parse_metadata(read_file(draft), channel)
            if (begun.signed.version, begun.signed.targets) == (following.signed.version, following.signed.targets):
                following = begun
        signer = open_signer(session, key, passphrase_file)
        talk(f"{channel}, version {following.signed.version}: {sign_channel(following, targets, channel, signer, Path(key))}")
        complete = signature_status(following, targets, channel).complete
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None
    if not complete:
        if draft is None:
            raise CliError(CONFLICT, f"{channel} needs more signers", "give --draft FILE: it goes from signer to signer")
        write_file(draft, following.to_bytes())
    return following.to_bytes(), complete

