"""A store in a bucket of Google Cloud Storage, by its JSON API.

gcsfs brings the connection and the credentials, the same as for data; requests are our own, because its own are sent
again for a minute before anybody hears of it, and read an object before they know how large it is.

https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from runner.store import bucket
from runner.store.bucket import Objects
from runner.store.place import Found, Unanswered, Unwanted

#: What a listing is to tell, which is a fifth of what it tells otherwise.
_TOLD = "nextPageToken,prefixes,items(name,size,updated,md5Hash)"
#: Seconds for a connection, and between two pieces of an answer.
_CONNECT_S, _READ_S = 20.0, 60.0
#: A request that comes too late, or too often; it may be right in a moment.
_LATER = (408, 429)


def connect(options: Mapping[str, Any]) -> Any:
    """The fsspec file system of GCS.

    Args:
        options: of its storage, without names of variables.

    Raises:
        Unwanted: the credentials are none.
    """
    from gcsfs.core import GCSFileSystem
    from google.auth.exceptions import GoogleAuthError

    with _translated("the credentials"):
        try:
            return GCSFileSystem(**{"use_listings_cache": False, **options})
        except (GoogleAuthError, ValueError, KeyError) as error:
            words = f"no credentials for Google ({type(error).__name__}: {error})"
            raise Unwanted(errno.EACCES, words) from error


class GcsBucket(Objects):
    """Objects of GCS."""

    async def _create(self, name: str, data: bytes) -> bool:
        """An upload of which the server is told that the object has no generation yet; otherwise it answers 412.

        https://cloud.google.com/storage/docs/request-preconditions
        """
        try:
            await self._put(name, data, ifGenerationMatch="0")
        except FileExistsError:
            return False
        return True

    async def _put(self, name: str, data: bytes, **condition: str) -> None:
        told = {"uploadType": "media", "name": name, **condition}
        headers = {"Content-Type": "application/octet-stream"}
        async with self._request("POST", f"{self._uploads}/o", told, headers, data) as answer:
            await answer.read()

    async def _upload(self, name: str, path: str) -> None:
        """A session to which parts are sent, by gcsfs."""
        with _translated(name):
            await self.fs._put_file(path, f"{self.bucket}/{name}", content_type="application/octet-stream")

    async def _copy(self, source: str, name: str) -> None:
        to = f"{self._object(source)}/rewriteTo/b/{quote(self.bucket, safe='')}/o/{quote(name, safe='')}"
        told: dict[str, str] = {}
        while True:  # a large one takes several requests
            async with self._request("POST", to, told) as answer:
                progress = json.loads(await answer.read())
            if progress.get("done", True):
                return
            told = {"rewriteToken": progress["rewriteToken"]}

    async def _delete(self, name: str) -> None:
        async with self._request("DELETE", self._object(name)) as answer:
            await answer.read()

    async def _read(self, name: str, most: int | None) -> bytes | int:
        async with self._request("GET", self._object(name), {"alt": "media"}, _PLAIN) as answer:
            size = int(answer.headers.get("Content-Length", -1))
            if most is not None and size > most:
                return size
            data = bytes(await answer.read())
            return data if most is None or len(data) <= most else len(data)

    async def _stat(self, name: str) -> tuple[int, str]:
        async with self._request("GET", self._object(name), {"fields": "size,generation"}) as answer:
            told = json.loads(await answer.read())
        return int(told["size"]), str(told["generation"])

    async def _part(self, name: str, version: str, start: int, size: int) -> bytes:
        headers = {"Range": f"bytes={start}-{start + size - 1}", **_PLAIN}
        told = {"alt": "media", "generation": version}
        async with self._request("GET", self._object(name), told, headers) as answer:
            data = bytes(await answer.read())
        if len(data) != size:
            raise Unanswered(errno.EIO, f"{len(data):,} bytes came of {size:,}", name)
        return data

    async def _list(self, prefix: str, deep: bool, most: int | None = None) -> tuple[list[Found], list[str]]:
        told = {"prefix": prefix, "fields": _TOLD, "maxResults": str(most or bucket.PAGE)}
        if not deep:
            told["delimiter"] = "/"
        files: list[Found] = []
        folders: list[str] = []
        while True:
            async with self._request("GET", f"{self._url}/o", told) as answer:
                page = json.loads(await answer.read())
            files += map(_found, page.get("items", ()))
            folders += page.get("prefixes", ())
            if "nextPageToken" not in page or (most is not None and len(files) + len(folders) >= most):
                return files, folders
            told["pageToken"] = page["nextPageToken"]

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _url(self) -> str:
        return f"{self.fs.base}b/{quote(self.bucket, safe='')}"

    @property
    def _uploads(self) -> str:
        return self._url.replace("/storage/v1/", "/upload/storage/v1/", 1)

    def _object(self, name: str) -> str:
        return f"{self._url}/o/{quote(name, safe='')}"

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        told: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> AsyncIterator[Any]:
        """The answer to a request, if it is one of success."""
        import aiohttp
        from yarl import URL

        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
        with _translated(url):
            session = await self.fs._set_session()
            signed = self.fs._get_headers(headers)  # may fetch a new token first
            at = URL(url, encoded=True).update_query(self.fs._get_params(dict(told or {})))
            async with session.request(method, at, headers=signed, data=data, timeout=limit) as answer:
                if answer.status >= 400:
                    raise _refusal(answer.status, await answer.read(), url)
                yield answer


#: Of an answer that is as many bytes as the object has.
_PLAIN = {"Accept-Encoding": "identity"}


def _found(told: Mapping[str, Any]) -> Found:
    """An object, as a listing tells of it; one that was made of parts has no MD5."""
    tag = base64.b64decode(told.get("md5Hash", "")).hex()
    at = datetime.datetime.fromisoformat(told["updated"]).timestamp()
    return Found(str(told["name"]), int(told.get("size", 0)), at, tag, is_folder=str(told["name"]).endswith("/"))


def _refusal(status: int, body: bytes, where: str) -> OSError:
    """What a status of HTTP means."""
    if status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)
    if status == 412:
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
    if status in (401, 403):
        return PermissionError(errno.EACCES, _words(body), where)
    kind = Unanswered if status in _LATER or status >= 500 else Unwanted
    return kind(errno.EIO, f"HTTP status {status}: {_words(body)}", where)


def _words(body: bytes) -> str:
    """What a server says of an error."""
    text = body[:2000].decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(body)["error"]["message"])
    return text


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """What gcsfs, aiohttp and google-auth raise, as an OSError that says whether it may be right in a moment."""
    import aiohttp
    import requests
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except HttpError as error:
        code = int(error.code or 0)
        raise _refusal(code, str(error.message).encode(), where) from error
    except (TimeoutError, aiohttp.ClientError, requests.RequestException, TransportError) as error:
        raise Unanswered(errno.EIO, f"{type(error).__name__}: {error}", where) from error
    except (GoogleAuthError, NonRetryableError) as error:
        raise Unwanted(errno.EACCES, f"{type(error).__name__}: {error}", where) from error
