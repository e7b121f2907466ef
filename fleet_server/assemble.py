"""The only file that chooses concrete classes for a server process."""

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

from fleet_server.blob_store import BlobStore
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.blobs.store_s3 import S3BlobStore
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment.identity import peer_certificate
from fleet_server.errors import SettingsError
from fleet_server.outgoing_http import OutgoingRule, url_problem
from fleet_server.settings import Settings
from ota.durable_disk import make_folder, write_whole
from ota.trust.repository_disk import Repository


def make_context(settings: Settings) -> Context:
    """The context of one process over the data folder."""
    keys = settings.data_dir / "keys"
    repository = Repository(settings.data_dir / "tuf", keys, time.time)
    return Context(
        settings=settings,
        database=Database(settings.database),
        blobs=_blob_store(settings, keys),
        repository=repository,
        signer=repository.assignment_signer(),
        clock=time.time,
        certificate_of=peer_certificate,
        web_secret=_secret(keys / "web-secret"),
        factor_key=_secret(keys / "factor-key"),
    )


def make_secrets(settings: Settings) -> None:
    """Make what is missing of the server's own keys, before several processes would do so at once."""
    keys = settings.data_dir / "keys"
    make_folder(keys, 0o700)
    _secret(keys / "web-secret")
    _secret(keys / "blob-secret")
    _secret(keys / "factor-key")
    Repository(settings.data_dir / "tuf", keys, time.time).online_keys()


def _blob_store(settings: Settings, keys: Path) -> BlobStore:
    return bucket(settings) or DiskBlobStore(
        settings.data_dir / "blobs", secret=_secret(keys / "blob-secret"), base_url="", clock=time.time
    )


def bucket(settings: Settings) -> BlobStore | None:
    """The bucket that pictures lie in, not asked yet; None where they lie on this disk. SettingsError for what is neither."""
    if settings.blob_store == "disk":
        return None
    place = urlsplit(settings.blob_store)
    if place.scheme != "s3" or not place.netloc:
        raise SettingsError(f"blob_store {settings.blob_store!r} is neither 'disk' nor s3://bucket/prefix")
    if settings.s3_endpoint_url:
        problem = url_problem(settings.s3_endpoint_url, OutgoingRule(private=True))  # a store of one's own lies at home
        if problem is not None:
            raise SettingsError(f"s3_endpoint_url: {problem}", "such as https://store.example.org:9000")
    return S3BlobStore(place.netloc, place.path.strip("/"), endpoint_url=settings.s3_endpoint_url or None, clock=time.time)


def _secret(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        make_folder(path.parent, 0o700)
        write_whole(path, os.urandom(32), 0o600)
        return path.read_bytes()
