"""Checking an audit: the rows' chain, the server's signature over its end, and what this machine saw before."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fleet_server.audit.chain import VERSION, AuditHead, Check, Finding
from fleet_server.cli.audit_heads_disk import SeenHead
from fleet_server.cli.output import clock
from ota.trust.assignment import verify_payload
from ota.trust.errors import TrustError
from ota.trust.keys import key_from_dict, key_id
from ota.wire import codec
from ota.wire.assignments import Signed

MAX_LINE_BYTES = 16 * 1024 * 1024


class Judge:
    """Takes rows and the end, as a server or a file tells them; ``findings`` says what is wrong with them."""

    def __init__(self, seen: Mapping[str, SeenHead]) -> None:
        self.check = Check()
        self.keyid = ""
        self.head: SeenHead | None = None
        self._seen = dict(seen)
        self._hashes: dict[int, str] = {}
        self._looked_for = {one.id for one in seen.values()}

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, at most 100 of it."""
        return self.check.findings

    def entry(self, item: Mapping[str, Any]) -> None:
        """A row as the API lists it: what it follows is the row before."""
        row = {key: item.get(key) for key in ("id", "at_s", "who", "what", "target", "before", "after", "origin")}
        self.row(row | {"v": VERSION, "previous": self.check.last_hash}, str(item.get("hash", "")))

    def row(self, row: Mapping[str, Any], said: str) -> None:
        """A row as it was hashed."""
        self.check.take(row, said)
        if self.check.last_id in self._looked_for:
            self._hashes[self.check.last_id] = self.check.last_hash

    def end(self, head: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """The end by the server's own word: {id, hash}, and ``body`` with its signature and the key to it."""
        number, said = head.get("id"), head.get("hash")
        if not isinstance(number, int) or not isinstance(said, str):
            self.check.fault(0, "the end of it cannot be read")
            return
        self.check.end(number, said)
        problem, signed = self._signature(number, said, body)
        if problem:
            self.check.fault(number, problem)
            return
        assert signed is not None
        proof = {"signed": body["signed"], "key": body["key"]}
        self.head = SeenHead(number, said, signed.at_s, self.keyid, proof)

    def _signature(self, number: int, said: str, body: Mapping[str, Any]) -> tuple[str, AuditHead | None]:
        try:
            signed = codec.decode(Signed, json.dumps(body["signed"]).encode())
            keyid = key_id(body["key"])
            key = key_from_dict(body["key"], keyid)
            if signed.keyid != keyid:
                return f"its signature names key {signed.keyid[:12]}, and the key beside it is {keyid[:12]}", None
            head = codec.decode(AuditHead, verify_payload(signed, {keyid: key}).encode())
        except (TrustError, codec.MessageError, KeyError, TypeError, AttributeError, ValueError) as error:
            return f"its signature does not hold: {error}", None
        if (head.kind, head.id, head.hash) != ("audit-head", number, said):
            return "its signature is over another row", None
        self.keyid = keyid
        return "", head

    def compare(self, server: str | None) -> list[Finding]:
        """What does not fit with what this machine saw of this server (None: of whatever server signs with the same key)."""
        found = []
        for name, one in self._seen.items():
            if name != server and (server is not None or not self.keyid or one.keyid != self.keyid):
                continue
            when = f"when this machine looked, {clock(one.at_s)}"
            if one.id > self.check.last_id and server is not None:
                ends = f"was there {when}, and rows end at {self.check.last_id}"
                found.append(Finding(one.id, f"{ends}: the end was cut off, or the server was put back from an older backup"))
            elif one.id in self._hashes and self._hashes[one.id] != one.hash:
                found.append(Finding(one.id, f"had another hash {when}: what was done up to then was rewritten and chained anew"))
        return found


def read_lines(lines: Iterable[bytes], judge: Judge) -> int:
    """An export into a judge, line by line; answers how many bytes of it are whole lines of rows. The end ends it."""
    whole_bytes, ended = 0, False
    for number, line in enumerate(lines, 1):
        if ended:
            judge.check.fault(judge.check.last_id, "is followed by lines behind the signed end")
            break
        try:
            one = json.loads(line)
            if "end" in one:
                judge.end(one["end"], one)
                ended = True
            elif not line.endswith(b"\n"):
                raise ValueError("cut in the middle, or longer than any row")
            else:
                judge.row(one["row"], str(one["hash"]))
                whole_bytes += len(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            judge.check.fault(judge.check.last_id + 1, f"line {number} is no line of an audit export")
            break
    if not ended and not judge.findings:
        judge.check.fault(judge.check.last_id, "is the last in it, and no signed end follows: the export broke off or was cut")
    return whole_bytes


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes in any pieces as lines with their ends; what is longer than any row can be comes as one broken line."""
    rest = b""
    for piece in pieces:
        rest += piece
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > MAX_LINE_BYTES:
            break
    if rest:
        yield rest
