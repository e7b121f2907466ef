"""Secrets leave a line before it is written anywhere: in the logs of the boards, of the server, and of what crashes. Pure."""

import logging
import re
import sys
import threading
from types import TracebackType

_WORD = r"['\"]?(\s*[:=]\s*|\s+)['\"]?"
_PATTERNS = (
    # A private key, whole or cut off.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "[private key]"),
    # Our own claims and tokens carry a sign by which they are found wherever they stand.
    (re.compile(r"\brk[a-z]_[A-Za-z0-9_-]{12,}"), "[redacted]"),
    # The secret of a second factor, as an authenticator is shown it.
    (re.compile(r"(?i)\botpauth://[^\s'\"]+"), "otpauth://[redacted]"),
    # Signed URLs: whoever has the query can write to the store.
    (re.compile(r"(?i)([?&](?:sig|signature|x-amz-[a-z-]+|token|expires|code|state|key|secret)=)[^&\s'\"]+"), r"\1[redacted]"),
    # Of a camera's address only scheme, host and port are left: its path and what follows may hold a password, too.
    (re.compile(r"(?i)\b(rtsps?://)(?:[^\s'\"]{0,1000}@)?([^\s'\"/?#@]*)[/?#][^\s'\"]*"), r"\1\2/[redacted]"),
    # user:password in any URL; a password may hold slashes and question marks.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s'\"]{1,1000}@"), r"\1[redacted]@"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization['\"]?\s*[:=,]\s*)['\"]?[^,;'\"]{4,}"), r"\1[redacted]"),
    (re.compile(r"(?i)\b((?:set-)?cookie['\"]?\s*[:=,]\s*)['\"]?[^'\"\n]{4,}"), r"\1[redacted]"),
    (re.compile(r"(?i)\b((?:__host-)?rookery_(?:session|csrf)=)[^\s;,'\"]+"), r"\1[redacted]"),
    (re.compile(r"(?i)\b(x-rookery-proxy['\"]?\s*[:=,]\s*)['\"]?[^\s,;'\"]{4,}"), r"\1[redacted]"),
    (re.compile(rf"(?i)(?<![a-z])(bearer|password|passwd|pwd|passphrase){_WORD}[^\s'\",;]{{6,}}"), r"\1\2[redacted]"),
    (re.compile(r"(?i)\b(claim|secret|token|api[-_]?key)['\"]?(\s*[:=]\s*)['\"]?[^\s'\",;]{6,}"), r"\1\2[redacted]"),
)  # fmt: skip


def redact(text: str) -> str:
    """The line without keys, claims, tokens, cookies, passwords and signatures of URLs."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


class RedactingFormatter(logging.Formatter):
    """Redacts the finished line: its arguments and the words of an exception are in it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return redact(super().format(record))


def log_redacted(line: str, level: int) -> None:
    """Log to standard error through a redacting formatter, what would end a program or a thread with a stack trace too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(line))
    logging.basicConfig(level=level, handlers=[handler])

    def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        logging.getLogger("rookery").critical("ended by an error that nobody foresaw", exc_info=(kind, error, trace))

    def thread_crashed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            crashed(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = crashed
    threading.excepthook = thread_crashed
