"""What a request handler or the worker works with, made once per process and handed to every app."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flask import current_app

from fleet_server.blob_store import BlobStore
from fleet_server.database import Database
from fleet_server.settings import Settings
from ota.trust.key_types import Signer

if TYPE_CHECKING:
    from ota.trust.repository_disk import Repository


CertificateOf = Callable[[Mapping[str, Any]], bytes | None]
"""The DER bytes of the verified client certificate of a WSGI request, or None. Never taken from a header."""


@dataclass(frozen=True, slots=True)
class Context:
    """All that the use cases need from outside, so that a test can give its own."""

    settings: Settings
    database: Database
    blobs: BlobStore
    repository: "Repository"
    signer: Signer
    """The online assignment key; ``ota.trust.assignment.sign_payload(message, signer)`` gives the wire's ``Signed``."""
    clock: Callable[[], float]
    """Seconds since 1970."""
    certificate_of: CertificateOf
    web_secret: bytes
    """Signs the cookie that holds the CSRF token."""
    factor_key: bytes
    """Seals the secrets of second factors: a database without it yields none."""


def context() -> Context:
    """The context of the running request."""
    return cast(Context, current_app.extensions["rookery"])
