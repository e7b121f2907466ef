"""Where the command line remembers its servers: one TOML file, 0600, of named contexts. Flags win over environment over file."""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from fleet_server.cli.errors import AUTH, FAILURE, USAGE, CliError
from ota.plain_disk import read_plain


@dataclass(frozen=True, slots=True)
class Target:
    """A server, the token to talk to it with (empty when not logged in), and the authority that its certificate must come from.

    ``ca_file``: PEM, the server's own ``pki/ca.pem`` say; empty: whom this machine trusts.
    """

    server: str
    token: str
    ca_file: str = ""


def settings_file() -> Path:
    """``ROOKERY_CONFIG``, else below the user's configuration folder."""
    given = os.environ.get("ROOKERY_CONFIG")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(given) if given else Path(base) / "rookery" / "config.toml"


def read_contexts() -> tuple[str, dict[str, Target]]:
    """Name of the context in use and all contexts; nothing when there is no file yet."""
    path = settings_file()
    try:
        raw = tomllib.loads(read_plain(path).decode())
    except FileNotFoundError:
        return "default", {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(FAILURE, f"cannot read {path}: {error}", "mend or remove the file, then: rookery login") from None
    contexts = {
        name: Target(*(str(entry.get(key, "")) for key in ("server", "token", "ca_file")))
        for name, entry in raw.get("context", {}).items()
        if isinstance(entry, dict)
    }
    return str(raw.get("use", "default")), contexts


def save_context(name: str, target: Target) -> Path:
    """Remember a server and use it from now on; the file is replaced whole and readable by its owner alone."""
    _, contexts = read_contexts()
    contexts[name] = target
    lines = [f"use = {json.dumps(name)}"]
    for key, entry in sorted(contexts.items()):
        lines += [
            "",
            f"[context.{json.dumps(key)}]",
            f"server = {json.dumps(entry.server)}",
            f"token = {json.dumps(entry.token)}",
            *([f"ca_file = {json.dumps(entry.ca_file)}"] if entry.ca_file else []),
        ]
    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    return path


def choose_target(server: str | None, context: str | None) -> Target:
    """The server to talk to: ``--server``, then ROOKERY_SERVER (with ROOKERY_TOKEN), then the context in use."""
    used, contexts = read_contexts()
    name = context or os.environ.get("ROOKERY_CONTEXT") or used
    if context and context not in contexts:
        raise CliError(USAGE, f"there is no context {context!r}", f"known: {', '.join(sorted(contexts)) or 'none'}")
    saved = contexts.get(name, Target("", ""))
    chosen = server or os.environ.get("ROOKERY_SERVER") or saved.server
    if not chosen:
        raise CliError(AUTH, "no server is known yet", "run: rookery login --server URL")
    ours = chosen.rstrip("/") == saved.server.rstrip("/")
    token = os.environ.get("ROOKERY_TOKEN") or (saved.token if ours else "")
    ca_file = os.environ.get("ROOKERY_CA_FILE") or (saved.ca_file if ours else "")
    return Target(chosen.rstrip("/"), token, ca_file)
