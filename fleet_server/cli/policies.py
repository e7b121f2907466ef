"""``rookery policy``: boards' policies that travel, signed offline by the policy role: a server carries them, and makes none."""

import json
import time
import tomllib
from pathlib import Path

import click

from fleet_server.cli.bundle_files import read_file
from fleet_server.cli.errors import CONFLICT, NOT_FOUND, CliError
from fleet_server.cli.key_ceremony import read, save, tell_waiting, trust_errors
from fleet_server.cli.key_files import open_signer, passphrase_option, trust_option, write_file
from fleet_server.cli.key_push import publish_delegated
from fleet_server.cli.output import talk
from fleet_server.cli.session import Session, pass_session

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def policy() -> None:
    """Policies for boards that follow one (follow = "policy/NAME.toml" in their own policy.toml): sign, push."""


@policy.command()
@click.argument("file", type=FILE)
@click.option("--key", "reference", required=True, metavar="REFERENCE", help="A key of the policy role.")
@click.option("--counter", type=click.IntRange(1), help="Boards take a policy whose counter is above theirs (else the next).")
@click.option("--metadata", type=FILE, help="What is published now (else asked of the server).")
@trust_option
@passphrase_option
@pass_session
def sign(session: Session, file: Path, reference: str, counter: int | None, metadata: Path | None, trust: Path,
         passphrase_file: Path | None) -> None:  # fmt: skip
    """Put FILE (NAME.toml) into the policy role's next version and sign it; further signers: rookery key sign."""
    from ota.trust.ceremony import role_keys
    from ota.trust.roles import CHANNEL_LIFE_S, POLICY, add_policy, policy_counter, present_channel
    from ota.trust.roles import sign as sign_metadata

    data = _read(file)
    made = read(trust)
    named = role_keys(made.root.signed, made.targets.signed, POLICY)
    if named is None:
        raise CliError(CONFLICT, "the targets delegate no role policy", f"rookery key rotate policy {trust} --new --add PUB")
    signer = open_signer(session, reference, passphrase_file)
    if signer.public_key.keyid not in named.keys:
        raise CliError(CONFLICT, f"{reference} is not a key of the policy role")
    path, life_s = f"{POLICY}/{file.name}", time.time() + CHANNEL_LIFE_S
    with trust_errors():
        present = made.delegated.get(POLICY) or present_channel(_published(session, metadata), made.targets, POLICY, life_s)
        before = present.signed.targets.get(path)
        following = add_policy(present, path, data, counter or (policy_counter(before) + 1 if before else 1), life_s)
        if POLICY in made.delegated:
            following.signed.version = present.signed.version  # several policies go into one draft
        sign_metadata(following, signer)
    made.delegated[POLICY] = following
    write_file(trust / POLICY / file.name, data)
    save(trust, made)
    talk(f"{path} with counter {policy_counter(following.signed.targets[path])}")
    tell_waiting(trust, made)


@policy.command()
@trust_option
@pass_session
def push(session: Session, trust: Path) -> None:
    """Publish the signed policies; the server takes only what enough of the policy role's keys signed."""
    from ota.trust.ceremony import delegated_signing
    from ota.trust.roles import POLICY

    made = read(trust)
    draft = made.delegated.get(POLICY)
    if draft is None:
        raise CliError(NOT_FOUND, f"no policy waits in {trust}", "rookery policy sign FILE --key REFERENCE")
    signing = delegated_signing(POLICY, draft, made.targets)
    if not signing.complete:
        raise CliError(CONFLICT, signing.tell(made.people), f"more must sign: rookery key sign {trust} --key REFERENCE")
    publish_delegated(session.client(), trust, made, POLICY)


def _read(file: Path) -> bytes:
    data = read_file(file)
    try:
        tomllib.loads(data.decode())
    except ValueError as error:
        raise CliError(CONFLICT, f"{file} is not TOML: {error}") from None
    return data


def _published(session: Session, file: Path | None) -> bytes | None:
    if file is not None:
        return read_file(file)
    try:
        return json.dumps(session.client().get("/channels/policy/metadata")).encode()
    except CliError as error:
        if error.code != NOT_FOUND:
            raise
        return None
