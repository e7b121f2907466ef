"""The interface of the blob store, under the name of its folder; it stands in ``fleet_server.blob_store``, below all floors."""

from fleet_server.blob_store import BlobStat, BlobStore, SignedUrl, check_key, sha256_of, upload_key

__all__ = ["BlobStat", "BlobStore", "SignedUrl", "check_key", "sha256_of", "upload_key"]
