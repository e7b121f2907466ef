"""Key references: one word on the command line for a key wherever it lives. Pure; ``signers_disk`` opens them.

``FILE`` is a key file; ``pkcs11:…`` (RFC 7512) and ``hsm:…`` (securesystemslib) name a key on a token; ``awskms:…`` one of KMS.
Secrets have no place in a reference: they would stand in the list of processes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from ota.trust.errors import KeyFileError

AskSecret = Callable[[str], bytes]
"""Asks for the secret of what is named (``passphrase of …``, ``PIN of …``); called only where one is needed."""
PIV_SIGNATURE_KEY = 2
"""The key of a YubiKey's slot 9c, securesystemslib's default."""
_KNOWN = ("token", "object", "id", "type", "manufacturer", "model", "serial", "slot-id", "library-description",
          "library-manufacturer", "library-version", "slot-description", "slot-manufacturer")  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyReference:
    """Where a key lives. Fields that the kind does not use are empty."""

    text: str
    kind: Literal["file", "token", "kms"]
    path: str = ""
    """file: the file. kms: key id, ARN or alias."""
    token: str = ""
    """token: its label; empty means the only one."""
    keyid: int | None = None
    """token: CKA_ID of the key as a number."""
    label: str = ""
    """token: CKA_LABEL, where no id was given."""
    module: str = ""
    """token: the PKCS#11 library; empty means PYKCS11LIB."""
    pin_file: str = ""
    """token: file whose first line is the PIN."""


def parse_reference(text: str) -> KeyReference:
    """A reference in its parts; raises KeyFileError that says what is wrong with it."""
    scheme, colon, rest = text.partition(":")
    if re.search(r"pin(-?value)?=", unquote(text).casefold().replace(" ", "")):
        # Said without the reference: what stands in it must not stand in a log, too.
        raise KeyFileError("a PIN in the reference stands in the list of processes: use pin-source=FILE or --passphrase-file")
    if colon and scheme == "awskms":
        if not rest:
            raise KeyFileError(f"{scheme}: no key is named; give awskms:KEY-ID, awskms:alias/NAME or awskms:ARN")
        return KeyReference(text, "kms", path=rest)
    if colon and scheme == "hsm":
        return _hsm(text, rest)
    if colon and scheme == "pkcs11":
        return _pkcs11(text, rest)
    if colon and scheme in ("gcpkms", "azurekms", "hv", "gnupg", "tkey", "sigstore", "file2"):
        raise KeyFileError(f"{scheme}: keys of {scheme} are not used here; a key file, pkcs11:… or awskms:… is")
    if not text:
        raise KeyFileError("no key is named")
    return KeyReference(text, "file", path=text)


def _hsm(text: str, rest: str) -> KeyReference:
    number, _, query = rest.partition("?")
    wanted = dict(parse_qsl(query, keep_blank_values=True))
    if set(wanted) - {"label"} or not (number == "" or number.isdecimal()):
        raise KeyFileError("hsm: give hsm:KEYID?label=TOKEN (see securesystemslib)")
    return KeyReference(text, "token", token=wanted.get("label", ""), keyid=int(number or PIV_SIGNATURE_KEY))


def _pkcs11(text: str, rest: str) -> KeyReference:
    path, _, query = rest.partition("?")
    parts: dict[str, str] = {}
    for piece in filter(None, path.split(";")):
        name, equals, value = piece.partition("=")
        if not equals or name in parts or name not in _KNOWN:
            raise KeyFileError("pkcs11: a part of this is no part of a pkcs11 URI; give pkcs11:token=NAME;object=NAME or ;id=%01")
        parts[name] = value
    asked: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, _, value = piece.partition("=")
        if name not in ("module-path", "pin-source"):
            raise KeyFileError("pkcs11: after the question mark module-path and pin-source are used here, nothing else")
        asked[name] = unquote(value)
    keyid = unquote_to_bytes(parts.get("id", ""))
    if not keyid and not parts.get("object"):
        raise KeyFileError("pkcs11: which key? add ;object=NAME or ;id=%01")
    if keyid[:1] == b"\0" and len(keyid) > 1:
        raise KeyFileError("pkcs11: ids that begin with a zero byte cannot be asked for; use ;object=NAME")
    return KeyReference(
        text, "token", token=unquote(parts.get("token", "")), keyid=int.from_bytes(keyid, "big") if keyid else None,
        label=unquote(parts.get("object", "")), module=asked.get("module-path", ""),
        pin_file=asked.get("pin-source", "").removeprefix("file://").removeprefix("file:"),
    )  # fmt: skip
