"""The engine that always works: fsspec's own read of a range."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from runner.data.files.changed import FileChanged, Version
from runner.data.files.engines import wholes
from runner.data.files.engines.base import Attempt, Data, Passing, check_range, of_status
from runner.data.files.hub import is_hub

#: What no other try mends.
_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC)
#: How errors of file systems call the status of an answer.
_STATUS = ("status", "status_code", "code")
#: Seconds that a call of an asynchronous file system may take: what it tries again itself included.
LONGEST_CALL_S = 60.0


class Generic:
    """Reads by `cat_file`; on S3 with the condition that the object still has its tag, which web servers are asked for.

    Args:
        fs: the fsspec file system.
        path: in it.
        size: bytes that were listed.
    """

    def __init__(self, fs: Any, path: str, size: int, version: Version) -> None:
        self._fs, self._path, self._size, self._version = fs, path, size, version
        self._is_s3 = type(fs).__module__ == "s3fs.core"
        self._is_web = type(fs).__module__ == "fsspec.implementations.http"
        self._knows_ranges, self._first = not self._is_web, threading.Lock()

    def get(self, start: int, end: int, attempt: Attempt) -> Data:
        """The bytes; the whole file is kept from a server that knows no ranges."""
        if self._knows_ranges:
            return self._get(start, end)
        with self._first:  # such a server would send all of it for each range
            return wholes.kept(self._path, self._size, self._version.etag, start, end) or self._get(start, end)

    def _get(self, start: int, end: int) -> Data:
        try:
            if self._is_s3 or self._is_web:
                data = self._called(self._object if self._is_s3 else self._page, start, end)
            else:
                data = self._plain(start, end)
        except Exception as error:  # each file system has its own kinds
            raise _told(error) from error
        if len(data) == end - start:
            self._knows_ranges = end - start < self._size or self._knows_ranges
            return data
        if len(data) == self._size:
            wholes.keep(self._path, self._version.etag, data)
            return data[start:end]
        raise self._short(start, end, len(data))

    def _plain(self, start: int, end: int) -> bytes:
        fs = self._fs
        if getattr(fs, "async_impl", False) and not getattr(fs, "asynchronous", False):
            from fsspec.asyn import sync

            call = fs._cat_file
            return bytes(sync(fs.loop, call, self._path, start=start, end=end, timeout=LONGEST_CALL_S))
        # the hub's opens the file for each range, and would read blocks of 5 MiB ahead
        alone = {"cache_type": "none"} if is_hub(fs) else {}
        return bytes(fs.cat_file(self._path, start=start, end=end, **alone))

    def _called(self, call: Callable[[int, int], Awaitable[bytes]], start: int, end: int) -> bytes:
        from fsspec.asyn import sync

        return bytes(sync(self._fs.loop, call, start, end, timeout=LONGEST_CALL_S))

    async def _page(self, start: int, end: int) -> bytes:
        """As fsspec asks a web server, wherever that sends it; the tag is looked at, and which bytes came."""
        options = {**self._fs.kwargs}
        headers = {"Accept-Encoding": "identity", **(options.pop("headers", None) or {})}
        headers["Range"] = f"bytes={start}-{end - 1}"
        session = await self._fs.set_session()
        async with session.get(self._fs.encode_url(self._path), **options, headers=headers) as answer:
            if answer.status == 404:
                raise FileNotFoundError(self._path)
            answer.raise_for_status()
            if answer.status == 206:
                check_range(answer.headers.get("Content-Range", ""), self._size, start, end)
            self._version.check(answer.headers.get("ETag", ""))
            data = bytes(await answer.read())
            if answer.status == 200 and "ETag" not in answer.headers and len(data) == self._size:
                self._version.check_whole(data)
            return data

    async def _object(self, start: int, end: int) -> bytes:
        """s3fs makes the request, with all of its options; only the condition is added."""
        bucket, key, version_id = self._fs.split_path(self._path)
        asked = {"VersionId": version_id} if version_id else {}
        if self._version.wanted:
            asked["IfMatch"] = f'"{self._version.wanted}"'
        answer = await self._fs._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **asked
        )
        try:
            encrypted = "SSECustomerAlgorithm" in answer or "kms" in answer.get("ServerSideEncryption", "")
            self._version.check(answer.get("ETag", ""), of_content=not encrypted)
            return bytes(await answer["Body"].read())
        finally:
            answer["Body"].close()

    def _short(self, start: int, end: int, count: int) -> OSError:
        """The error for another number of bytes than was asked for."""
        self._fs.invalidate_cache()
        size = self._fs.info(self._path).get("size")
        if size is not None and int(size) != self._size:
            return FileChanged(f"the file has {size} bytes, {self._size} were listed")
        return Passing(f"asked for bytes {start} to {end}, got {count} of {end - start}")


def _told(error: Exception) -> Exception:
    """What a file system says, as what it means here; what is of no known kind as it is."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, FileChanged | Passing):
        return error
    code = _code(error)
    if code in ("PreconditionFailed", "InvalidRange", "412", "416"):
        return FileChanged("it is not the one that was listed")
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return error
    status = _status(error)
    if status is not None:
        return of_status(status, f"the server answers {status}") or error
    if type(error).__module__.partition(".")[0] in ("aiohttp", "urllib3", "requests"):
        return Passing(type(error).__name__)  # their words may hold the query of a URL
    if isinstance(error, TimeoutError | asyncio.TimeoutError | ConnectionError):
        return Passing(words)
    if type(error).__module__ == "botocore.exceptions" and type(error).__name__ not in _OF_SETTINGS:
        return Passing(words)
    if isinstance(error, OSError) and error.errno not in _FINAL:
        return Passing(words)
    return error


#: What botocore says of how it is used, rather than of the way to the server.
_OF_SETTINGS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError")


def _status(error: Exception) -> int | None:
    """The status of HTTP that an error carries, in whichever of the forms that libraries give it."""
    for holder in (error, getattr(error, "response", None)):
        for name in _STATUS:
            status = getattr(holder, name, None)
            if isinstance(status, str) and status.isdecimal():
                status = int(status)
            if isinstance(status, int) and 400 <= status < 600:
                return status
    return None


def _code(error: BaseException) -> str:
    """The word by which S3 refused a request; s3fs keeps the answer as the cause of its own error."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
