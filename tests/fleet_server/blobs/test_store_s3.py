"""Presigned S3 URLs: what is in the signature cannot be changed by who holds the URL. Signing needs no server."""

from urllib.parse import parse_qs, urlsplit

import pytest

from fleet_server.blobs.store_s3 import S3BlobStore


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> S3BlobStore:
    """A store whose credentials come from the environment, as boto3 looks for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    return S3BlobStore("bucket", "fleet", endpoint_url="http://127.0.0.1:9", clock=lambda: 1000.0)


def test_type_length_hash_and_create_only_are_signed(store: S3BlobStore) -> None:
    """A device (or a thief of the URL) can put exactly the announced bytes, once."""
    made = store.presign_put("d-1/crop/e/" + "a" * 64, "image/jpeg", 5, "a" * 64, 900)
    parts = urlsplit(made.url)
    signed = parse_qs(parts.query)["X-Amz-SignedHeaders"][0].split(";")
    assert parts.path.endswith("/fleet/d-1/crop/e/" + "a" * 64)
    assert {"content-type", "content-length", "if-none-match", "x-amz-checksum-sha256"} <= set(signed)
    assert set(made.headers) == {"Content-Type", "Content-Length", "If-None-Match", "x-amz-checksum-sha256"}
    assert made.expires_s == 1900.0


def test_a_key_cannot_leave_the_prefix(store: S3BlobStore) -> None:
    """A key is data from outside."""
    with pytest.raises(ValueError, match="not a blob key"):
        store.presign_get("d-1/../../other", 60)
