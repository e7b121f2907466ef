"""Signed requests (RFC 9421): what both sides agree on. For where TLS ends before the server: the same key, the same certificate.

A device signs method, path, query and the body's digest; ``keyid`` is its certificate's serial (hexadecimal, lower case).
"""

import hashlib
from base64 import b64encode

from ota.wire import topics

LABEL = "rookery"
"""Of the one signature; ``TAG`` says the same inside what is signed."""
TAG = "rookery-device-v1"
COMPONENTS = ("@method", "@path", "@query", "content-digest")
"""No more and no less: a proxy may rename the host, but what is asked for, and with which bytes, is the device's word."""
SKEW_S = 300.0
"""So far may ``created`` lie from the server's clock, in either direction; so long is a nonce remembered."""
MAX_HEADER_BYTES = 1024
"""Of Signature-Input and of Signature each; ours have 250 and 110."""
NONCE_BYTES = 16

UNSIGNED = frozenset({topics.ENROL, topics.TIME, topics.RENEW_EXPIRED})
"""Routes that no device has to be known for: their messages prove themselves, or need no proof."""


def content_digest(body: bytes) -> str:
    """The Content-Digest header (RFC 9530) of a body."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"
