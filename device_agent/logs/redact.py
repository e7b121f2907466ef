"""Secrets leave a log line before it is written anywhere. Pure."""

import re

_PATTERNS = (
    # A private key, whole or cut off.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "[private key]"),
    # Signed URLs: whoever has the query can write to the store.
    (re.compile(r"(?i)([?&](?:sig|signature|x-amz-[a-z-]+|token|expires)=)[^&\s'\"]+"), r"\1[redacted]"),
    # Of a camera's address only scheme, host and port are left: its path and what follows may hold a password, too.
    (re.compile(r"(?i)\b(rtsps?://)(?:[^\s'\"]{0,1000}@)?([^\s'\"/?#@]*)[/?#][^\s'\"]*"), r"\1\2/[redacted]"),
    # user:password in any URL; a password may hold slashes and question marks.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s'\"]{1,1000}@"), r"\1[redacted]@"),
    (re.compile(r"(?i)\b(authorization\s*[:=]\s*)[^,;]{4,}"), r"\1[redacted]"),
    (re.compile(r"(?i)(?<![a-z])(bearer|password|passwd|pwd)(\s*[:=]\s*|\s+)['\"]?[^\s'\",;]{6,}"), r"\1\2[redacted]"),
    (re.compile(r"(?i)\b(claim|secret|token|api[-_]?key)(\s*[:=]\s*)['\"]?[^\s'\",;]{6,}"), r"\1\2[redacted]"),
)  # fmt: skip


def redact(text: str) -> str:
    """The line without keys, claims, passwords and signatures of URLs."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
