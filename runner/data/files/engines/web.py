"""Plain web servers, asked directly where fsspec would send nothing but the URL."""

from __future__ import annotations

import ssl
import threading
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from runner.data.files.changed import FileChanged, Version
from runner.data.files.engines import http, wholes
from runner.data.files.engines.base import Attempt, Data, Unfit, check_range, of_status


class Web:
    """Reads one URL.

    Args:
        fs: the fsspec file system of HTTP.
        url: of the file, as that has it.
        size: bytes that were listed.

    Raises:
        Unfit: fsspec was given options, or a proxy stands between.
    """

    def __init__(self, fs: Any, url: str, size: int, version: Version) -> None:
        if fs.storage_args or {name for name in fs.storage_options if name not in _HARMLESS}:
            raise Unfit("storage options")
        quoted = str(fs.encode_url(url))
        where = urlsplit(quoted)
        if where.username is not None or not where.hostname:
            raise Unfit("a user in the URL")
        self._server = server(quoted, None)
        self._target = (where.path or "/") + (f"?{where.query}" if where.query else "")
        self._size, self._version, self._url = size, version, url
        self._knows_ranges, self._first = False, threading.Lock()

    def get(self, start: int, end: int, attempt: Attempt) -> Data:
        """The bytes; the tag that comes with them must be that of the listing."""
        if self._knows_ranges:
            return self._get(start, end, attempt)
        with self._first:  # a server without ranges would send all of it for each
            return wholes.kept(self._url, self._size, self._version.etag, start, end) or self._get(start, end, attempt)

    def _get(self, start: int, end: int, attempt: Attempt) -> Data:
        answer = http.get(self._server, self._target, {}, start, end, attempt, self._size)
        if answer.data is None:
            raise refused(answer)
        check(answer, self._size, start, end, self._version)
        if answer.status == 200:
            if "ETag" not in answer.headers:
                self._version.check_whole(answer.data)
            wholes.keep(self._url, self._version.etag, bytes(answer.data))
            return answer.data[start:end]
        self._knows_ranges = True
        return answer.data


#: Options of the file system that concern listings alone.
_HARMLESS = ("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache", "protocol", "host")


def server(url: str, certificates: str | None) -> http.Server:
    """The server of a URL.

    Args:
        certificates: a file of those that are trusted; None: the system's.

    Raises:
        Unfit: it is to be asked through a proxy, or is none of HTTP.
    """
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise Unfit("another scheme")
    if where.scheme in getproxies() and not proxy_bypass(where.hostname):
        raise Unfit("a proxy")
    if where.scheme == "http":
        return http.Server(where.hostname, where.port or 80)
    return http.Server(where.hostname, where.port or 443, _trusting(certificates))


@cache
def _trusting(certificates: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates)


def refused(answer: http.Answer) -> Exception:
    """The error for an answer that is no data."""
    if answer.status in (412, 416):
        return FileChanged("it is not the one that was listed")
    words = f"the server answers {answer.status} {http_words(answer.status)}".rstrip()
    return of_status(answer.status, words) or Unfit(words)


def check(answer: http.Answer, size: int, start: int, end: int, version: Version) -> None:
    """Look whether an answer is what was asked for, the bytes [start, end) of the file that was listed.

    Raises:
        FileChanged: they are of another file.
        Passing: they are others of it.
    """
    if answer.status == 206:
        check_range(answer.headers.get("Content-Range", ""), size, start, end)
    of_content = "kms" not in answer.headers.get("x-amz-server-side-encryption", "")
    version.check(answer.headers.get("ETag", ""), of_content=of_content)


def http_words(status: int) -> str:
    """What a status is called; '' of one that has no name."""
    from http import HTTPStatus

    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
