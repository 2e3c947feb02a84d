"""Objects of S3 by signed URLs: the client that s3fs has made says where they lie and with which credentials.

Nothing of it is guessed: address, region, style and credentials are those of s3fs' own client, whatever they come from
(options, environment, profile, a role). What a signed URL cannot carry is left to s3fs itself (`Unfit`).
"""

from __future__ import annotations

import time
import weakref
from typing import Any
from urllib.parse import quote, urlsplit

from runner.data.files.changed import Version
from runner.data.files.engines import http
from runner.data.files.engines.base import Attempt, Data, Unfit
from runner.data.files.engines.web import check, refused, server

#: Seconds for which a signature holds, and after which another is made: temporary credentials end before it does.
_HOLDS_S, _AGAIN_S = 900, 240.0
_CONNECT_S = 60.0
#: Options of s3fs that say nothing of what a GET sends besides what the client itself knows.
_CARRIED = frozenset(
    (
        "anon", "key", "secret", "token", "username", "password", "endpoint_url", "client_kwargs", "config_kwargs",
        "session", "profile", "use_ssl", "default_block_size", "default_fill_cache", "default_cache_type",
        "max_concurrency", "fixed_upload_size", "use_listings_cache", "listings_expiry_time", "max_paths",
        "skip_instance_cache", "protocol", "requester_pays", "version_aware", "s3_additional_kwargs", "cache_regions",
    )
)  # fmt: skip
_NAME = "runner"


class Bucket:
    """Signed URLs of one bucket.

    Args:
        fs: s3fs' file system.

    Raises:
        Unfit: a signed URL says less than s3fs would.
    """

    def __init__(self, fs: Any, name: str) -> None:
        from fsspec.asyn import sync

        if fs.storage_args or not _CARRIED.issuperset(fs.storage_options):
            raise Unfit("options")
        if fs.requester_pays or fs.version_aware or fs.s3_additional_kwargs or fs.local_expiry_check:
            raise Unfit("options of requests")
        if name.startswith("arn:") or name.endswith("--x-s3"):
            raise Unfit("signatures of another kind")
        self._loop = fs.loop
        client = sync(self._loop, _client, fs, name, timeout=_CONNECT_S)
        config, self._signer = client.meta.config, client._request_signer
        if config.proxies or config.client_cert:
            raise Unfit("a proxy, or a certificate of the client")
        self._is_open = not isinstance(config.signature_version, str)
        if not self._is_open and config.signature_version not in ("s3v4", "v4"):
            raise Unfit("another signature")
        self._region = client.meta.region_name or "us-east-1"
        asked = {"Bucket": name, "Key": _NAME}
        url = str(sync(self._loop, client.generate_presigned_url, "get_object", asked, timeout=_CONNECT_S))
        self._base = url.partition("?")[0].removesuffix(_NAME)
        if not self._base.endswith("/"):
            raise Unfit("an address of another form")
        self._path = urlsplit(self._base).path
        self.server = server(url, _certificates(client) if url.startswith("https:") else None)

    def target(self, key: str) -> str:
        """Path and query of an object."""
        quoted = quote(key, safe="/-_.~")
        if self._is_open:
            return self._path + quoted
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from fsspec.asyn import sync

        credentials = sync(self._loop, _frozen, self._signer, timeout=_CONNECT_S)
        if credentials is None:
            raise Unfit("no credentials")
        request = AWSRequest("GET", self._base + quoted)
        S3SigV4QueryAuth(credentials, "s3", self._region, expires=_HOLDS_S).add_auth(request)
        signed = urlsplit(request.url)
        return f"{signed.path}?{signed.query}"


async def _client(fs: Any, bucket: str) -> Any:
    await fs.set_session()
    return await fs.get_s3(bucket)


async def _frozen(signer: Any) -> Any:
    """The credentials of this moment, renewed where they end."""
    credentials = signer._credentials
    return None if credentials is None else await credentials.get_frozen_credentials()


def _certificates(client: Any) -> str | None:
    """The file of the certificates that the client trusts."""
    told = getattr(client._endpoint.http_session, "_verify", None)
    if told is True:
        from botocore.httpsession import get_cert_path

        return str(get_cert_path(True))
    if isinstance(told, str):
        return told
    raise Unfit("certificates are not looked at")


_buckets: weakref.WeakKeyDictionary[Any, dict[str, Bucket]] = weakref.WeakKeyDictionary()


def _bucket(fs: Any, name: str) -> Bucket:
    known = _buckets.setdefault(fs, {})
    if name not in known:
        known[name] = Bucket(fs, name)
    return known[name]


class S3:
    """Reads one object.

    Args:
        fs: s3fs' file system.
        path: bucket and key.
        size: bytes that were listed.
    """

    def __init__(self, fs: Any, path: str, size: int, version: Version) -> None:
        name, self._key, version_id = fs.split_path(path)
        if version_id:
            raise Unfit("a version")
        self._bucket = _bucket(fs, name)
        self._size, self._version = size, version
        self._signed: tuple[float, str] | None = None

    def get(self, start: int, end: int, attempt: Attempt) -> Data:
        """The bytes, if the object still has its tag; what is refused is asked of s3fs, whose word counts."""
        headers = {"If-Match": f'"{self._version.wanted}"'} if self._version.wanted else {}
        answer = http.get(self._bucket.server, self._target(), headers, start, end, attempt)
        if answer.data is None:
            if answer.status in (401, 403):
                raise Unfit(f"{answer.status}")
            raise refused(answer)
        check(answer, self._size, start, end, self._version)
        return answer.data

    def _target(self) -> str:
        now = time.monotonic()
        if self._signed is None or now - self._signed[0] > _AGAIN_S:
            self._signed = now, self._bucket.target(self._key)
        return self._signed[1]
