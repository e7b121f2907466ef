"""The blob store in S3: presigned PUTs fix type, exact length, hash and create-only. boto3 is loaded when it is first needed."""

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet_server.blob_store import BlobStat, SignedUrl, check_key
from fleet_server.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class S3BlobStore:
    """Blobs in ``bucket`` under ``prefix``. Credentials come from boto3's usual places, never from our settings."""

    def __init__(self, bucket: str, prefix: str, *, endpoint_url: str | None, clock: Callable[[], float]) -> None:
        self._bucket, self._prefix, self._endpoint_url, self._clock = bucket, prefix, endpoint_url, clock
        self._client: S3Client | None = None

    def presign_put(self, key: str, content_type: str, length_bytes: int, sha256: str, ttl_s: float) -> SignedUrl:
        """A URL that takes exactly these bytes once."""
        checksum = base64.b64encode(binascii.unhexlify(sha256)).decode()
        url = self._s3().generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._bucket, "Key": self._full(key), "ContentType": content_type, "ContentLength": length_bytes,
                "ChecksumSHA256": checksum, "IfNoneMatch": "*",
            },
            ExpiresIn=int(ttl_s),
        )  # fmt: skip
        headers = {
            "Content-Type": content_type, "Content-Length": str(length_bytes),
            "x-amz-checksum-sha256": checksum, "If-None-Match": "*",
        }  # fmt: skip
        return SignedUrl(url, headers, self._clock() + ttl_s)

    def presign_get(self, key: str, ttl_s: float) -> SignedUrl:
        """A URL that gives the bytes."""
        parameters = {
            "Bucket": self._bucket, "Key": self._full(key),
            # Signed with the rest: whatever type a device gave its bytes, a browser gets a file and no page.
            "ResponseContentType": "application/octet-stream", "ResponseContentDisposition": "attachment",
        }  # fmt: skip
        url = self._s3().generate_presigned_url("get_object", Params=parameters, ExpiresIn=int(ttl_s))
        return SignedUrl(url, {}, self._clock() + ttl_s)

    def stat(self, key: str) -> BlobStat | None:
        """What is stored under the key, or None."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            head = self._s3().head_object(Bucket=self._bucket, Key=self._full(key), ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise _unavailable(error) from None
        except BotoCoreError as error:
            raise _unavailable(error) from None
        checksum = base64.b64decode(head.get("ChecksumSHA256", "")).hex()
        return BlobStat(key, head["ContentLength"], checksum, head["ContentType"], head["LastModified"].timestamp())

    def read(self, key: str, limit_bytes: int = 32 * 1024 * 1024) -> bytes:
        """The bytes; NotFoundError when there are none."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._s3().get_object(Bucket=self._bucket, Key=self._full(key))["Body"].read(limit_bytes)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                raise NotFoundError("no such blob") from None
            raise _unavailable(error) from None
        except BotoCoreError as error:
            raise _unavailable(error) from None

    def delete(self, key: str) -> bool:
        """Forget the key; True if it was there."""
        from botocore.exceptions import BotoCoreError, ClientError

        there = self.stat(key) is not None
        try:
            self._s3().delete_object(Bucket=self._bucket, Key=self._full(key))
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from None
        return there

    def list(self, prefix: str, after: str = "", limit: int = 1000) -> list[BlobStat]:
        """Blobs whose key begins with ``prefix`` in order of their keys, those behind ``after``; hashes are read by ``stat``."""
        from botocore.exceptions import BotoCoreError, ClientError

        start = self._full(after) if after else ""
        try:
            answer = self._s3().list_objects_v2(
                Bucket=self._bucket, Prefix=self._under(prefix), StartAfter=start, MaxKeys=min(limit, 1000)
            )
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from None
        cut = len(self._under(""))
        return [
            BlobStat(each["Key"][cut:], each["Size"], "", "", each["LastModified"].timestamp())
            for each in answer.get("Contents", [])
        ]  # fmt: skip

    def _full(self, key: str) -> str:
        return self._under(check_key(key))

    def _under(self, text: str) -> str:
        return f"{self._prefix}/{text}" if self._prefix else text

    def _s3(self) -> "S3Client":
        if self._client is None:
            import boto3
            from botocore.config import Config

            self._client = boto3.client("s3", endpoint_url=self._endpoint_url, config=Config(signature_version="s3v4"))
        return self._client


def _unavailable(error: Exception) -> UnavailableError:
    return UnavailableError(f"the object store does not answer: {type(error).__name__}")
